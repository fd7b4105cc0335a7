"""Are records and the tables made of them to be believed? What a machine can find out, one sentence a problem.

Nothing is measured again but counts of registered networks, which are exact and quick. A record that passes may still
be wrong; one that does not pass is.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import archs
from archs.meta import build_on_meta
from bench.counting.macs import count_macs, count_params
from bench.errors import BenchError
from bench.records import Record, RecordStore, private_parts, unpack_array
from bench.report.columns import is_missing
from bench.speed.roofline import MARGIN
from bench.study.protocol import FILE, RECORDS
from bench.study.result import result_of
from bench.study.run import load_results
from bench.training.metrics import scores

ENVIRONMENT = (
    "device", "device_kind", "system", "machine", "processor", "cores", "usable_cores", "memory_gib", "threads",
    "cpu_capability", "python", "packages",
)  # fmt: skip
SHARES = ("macro_f1", "macro_iou", "accuracy")
SCORED = {
    "val_confusion": "val_scores",
    "test_confusions": "test_scores",
    "test_boundary_confusions": "test_boundary_scores",
}
SHOWN = (
    "f1",
    "f1_low",
    "f1_high",
    "effect",
    "effect_low",
    "effect_high",
    "verdict",
    "scenes_verdict",
    "params",
    "macs",
)
"""Columns of a table that are held against the records."""
Progress = Callable[[int, int], None]


def check_folder(folder: Path, counts: bool = True, progress: Progress = lambda done, total: None) -> list[str]:
    """The problems of all records and study tables under a folder.

    Args:
        folder: a folder of results, or one that holds such folders.
        counts: whether registered networks are counted again.
        progress: called with the number of records that are checked, and of all.

    Raises:
        BenchError: there are no records.
    """
    stores = [RecordStore(path) for path in sorted(folder.glob(f"**/{RECORDS}"))] or [RecordStore(folder)]
    found = [(store, record) for store in stores for record in store.all()]
    problems = [sentence for store in stores for sentence in store.warnings()]
    if not found and not problems:
        raise BenchError(f"{folder} holds no records; give a folder of results, as runs, or one of several such")
    for done, (store, record) in enumerate(found, 1):
        where = (store.folder / record.kind / f"{record.key}.json").relative_to(folder)
        problems += [f"{where}: {problem}" for problem in record_problems(record, counts)]
        progress(done, len(found))
    tables = sorted(path.parent for path in folder.glob(f"**/{FILE}"))
    return problems + [f"{path.relative_to(folder)}/table.csv: {p}" for path in tables for p in table_problems(path)]


def record_problems(record: Record, counts: bool = True) -> list[str]:
    """What cannot be true of one record; its key was held against its determinants when it was read."""
    checks = [_environment, _private, _shares, _sums, _about]
    checks += {"train": [_scores], "speed": [_speeds], "race": [_speeds], "latency": [_speeds]}.get(record.kind, [])
    checks += [_counts] if counts and record.kind in ("static", "cost") else []
    return [problem for check in checks for problem in check(record)]


def _environment(record: Record) -> Iterator[str]:
    lacking = [name for name in ENVIRONMENT if is_missing(record.environment.get(name))]
    if lacking:
        yield f"its environment lacks {', '.join(lacking)}"
    if "torch" not in (record.environment.get("packages") or {}):
        yield "its environment does not name the version of torch"
    if not record.seconds > 0:
        yield f"it took {record.seconds} seconds"


def _private(record: Record) -> Iterator[str]:
    parts = {name: getattr(record, name) for name in ("determinants", "about", "result", "environment", "reason")}
    for found in private_parts(parts, "it"):
        yield f"{found}; records name no host, user or path"


def _shares(record: Record) -> Iterator[str]:
    for where, value in _figures(record.result, "result"):
        if where.rpartition(".")[2] in SHARES and not 0 <= value <= 1:
            yield f"{where} is {value}; it is a share between 0 and 1"


def _figures(value: Any, where: str) -> Iterator[tuple[str, float]]:
    """Every number of a result with its dotted name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _figures(item, f"{where}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _figures(item, f"{where}[{i}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield where, value


def _sums(record: Record) -> Iterator[str]:
    """Totals are those of their parts."""
    for total, parts in (("params", "params_by_part"), ("macs", "macs_by_operator"), ("macs", "macs_by_part")):
        whole, split = record.result.get(total), record.result.get(parts)
        if split and whole != sum(split.values()):
            yield f"{total} is {whole}, but {parts} adds up to {sum(split.values())}"


def _about(record: Record) -> Iterator[str]:
    """What it says about the network in full is what its key was made of."""
    told, keyed = record.about.get("config"), record.determinants.get("config")
    if not told or not keyed:
        return
    try:
        same = archs.from_dict(told) == archs.from_dict(keyed)
    except archs.ArchError:  # of a family that is not known here
        return
    if not same:
        yield "the config that it tells about is not the one of its key"


def _scores(record: Record) -> Iterator[str]:
    """Scores are those of the confusion matrices, and the history ends where the training did."""
    result = record.result
    for matrices, told in SCORED.items():
        if matrices not in result or told not in result:
            continue
        matrix = unpack_array(result[matrices])
        found = scores(matrix if matrix.ndim == 2 else matrix.sum(axis=0))
        for name in SHARES:
            if not math.isclose(getattr(found, name), result[told][name], abs_tol=1e-9):
                yield f"{told}.{name} is {result[told][name]}, but its matrices give {getattr(found, name):.6f}"
    steps, most = result.get("steps", 0), record.about.get("recipe", {}).get("steps", math.inf)
    if steps > most:
        yield f"it took {steps} steps, and its recipe has {most}"


def _speeds(record: Record) -> Iterator[str]:
    """A rate over the roofline is a measuring error; an interval holds its median."""
    for label, speed in record.result.get("speeds", {}).items():
        for key, name in (("latency_ms", "latency"), ("throughput", "throughput"), ("ceiling_share", "ceiling_share")):
            value, low, high = (speed.get(one) for one in (key, f"{name}_low", f"{name}_high"))
            if value is not None and low is not None and not 0 < low <= value <= high:
                yield f"{label}: {key} {value:g} does not lie in its interval [{low:g}, {high:g}]"
        yield from _roofline(label, speed)


def _roofline(label: str, speed: Mapping[str, Any]) -> Iterator[str]:
    share, least, rate = (speed.get(key) for key in ("ceiling_share", "least_ms", "throughput"))
    if share is None or least is None or not rate:
        return
    if speed["ceiling_share_low"] > MARGIN:
        yield f"{label}: {share:.0%} of the roofline; the clock did not wait for the device"
    reached = least * rate / (1000 * speed["protocol"]["batch"])
    if not math.isclose(share, reached, rel_tol=0.02):  # a median of rates is not quite the rate of the median
        yield f"{label}: ceiling_share is {share:.3f}, but its throughput makes it {reached:.3f}"


def _counts(record: Record) -> Iterator[str]:
    """Parameters and MACs of a registered network are those that the counter gives."""
    keyed = record.determinants
    try:
        config = archs.from_dict(keyed["config"])
    except archs.ArchError:
        return
    if config not in [archs.config(name) for name in archs.names()]:
        return
    model = build_on_meta(config, keyed["num_classes"], keyed["in_channels"])
    found = {
        "params": count_params(model).total,
        "macs": count_macs(model, tuple(keyed["size"]), keyed["in_channels"]).total,
    }
    for name, value in found.items():
        if record.result.get(name) not in (None, value):
            yield f"{name} is {record.result[name]:,}, but the counter gives {value:,}"


def table_problems(folder: Path) -> list[str]:
    """Where the table of a study of variants shows other scores, effects or verdicts than its records give."""
    path = folder / "table.csv"
    results = load_results(folder)
    if not results.manifest.declared or not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        shown = {row["variant"]: row for row in csv.DictReader(file)}
    rows = {row["variant"]: row for row in result_of(results).frame.to_dict("records")}
    if list(shown) != list(rows):
        return [f"its variants are not those of the study; lale-bench plot {folder.name} makes it again"]
    return [
        f"{label}: {key} is {told[key] or 'empty'}, but the records give {_text(rows[label][key])}"
        for label, told in shown.items()
        for key in SHOWN
        if key in told and not _agree(told[key], rows[label][key])
    ]


def _agree(told: str, found: Any) -> bool:
    if is_missing(found) or told == "":
        return is_missing(found) and told == ""
    if isinstance(found, str):
        return told == found
    try:
        return bool(np.isclose(float(told), float(found), rtol=1e-6, atol=1e-6))
    except ValueError:  # a text where a number should be
        return False


def _text(value: Any) -> str:
    return "nothing" if is_missing(value) else str(value)
