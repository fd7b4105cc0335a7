"""How much faster than the papers' code can the same function run: forms, runtimes and precisions, interleaved.

The reference is LALE-S1 as the papers' code runs it: RMSNorm and StarReLU written out, the trained form, eager,
contiguous, with the weights trained on `world` that come with the suite. Beside it stand the searched networks, whose
F1 the study `winners` compares with LALE-S1's, and the fastest CNN of the papers, Linknet, in its own runtimes.
Each run of ours in a lower precision is scored on the test tiles beside fp32, and counts towards the targets only where
it is equivalent. Linknet has no trained weights here: it may use any precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pandas as pd

import archs
from bench.data import DataSet, open_data
from bench.engine import Cell
from bench.records import Record
from bench.report.columns import Column, Format, column
from bench.report.tables import write_tables
from bench.scenes.accuracy import NO_WEIGHTS, PrecisionScore, accuracy_cell, unscored
from bench.speed.comparison import RunConfig, background_load, comparison_cell, quickest, recorded_ratio
from bench.speed.protocol import SpeedProtocol
from bench.stats import DELTA
from bench.study import Layout, Report, Results, Setting
from bench.training.trained import find_trained

REFERENCE = "lale-s1, as published"
NETWORK = "lale-s1@world"
SEARCHED = ("lale-nano", "lale-fast")
BASELINE = "smp/linknet-efficientnet_b0"
SIZE = (256, 256)
DATA = "world"
TORCH = ("eager", "compile", "autotune")
TARGETS = {"best": 5.0, "baseline": 2.5, "torch": 3.0}


class Run(NamedTuple):
    """A network, and how it is run."""

    network: str
    form: str
    runtime: str
    precision: str = "fp32"
    memory_format: str = "contiguous"


def _deployed(network: str) -> dict[str, Run]:
    """The runs of a searched network: its deployed form, in the runtimes that are quickest for LALE-S1."""
    return {
        "autotuned": Run(network, "deployed", "autotune", "fp32", "channels_last"),
        "ONNX Runtime": Run(network, "deployed", "onnxruntime"),
        "OpenVINO": Run(network, "deployed", "openvino"),
        "OpenVINO bf16": Run(network, "deployed", "openvino", "bf16"),
        "OpenVINO int8": Run(network, "deployed", "openvino", "int8"),
    }


RUNS = {
    REFERENCE: Run(NETWORK, "trained", "eager"),
    "lale-s1, compiled": Run(NETWORK, "trained", "compile", "fp32", "channels_last"),
    "lale-s1, OpenVINO": Run(NETWORK, "trained", "openvino"),
    "lale-s1 deployed": Run(NETWORK, "deployed", "eager", "fp32", "channels_last"),
    "lale-s1 deployed, compiled": Run(NETWORK, "deployed", "compile", "fp32", "channels_last"),
    "lale-s1 deployed, autotuned": Run(NETWORK, "deployed", "autotune", "fp32", "channels_last"),
    "lale-s1 deployed, ONNX Runtime": Run(NETWORK, "deployed", "onnxruntime"),
    "lale-s1 deployed, OpenVINO": Run(NETWORK, "deployed", "openvino"),
    "lale-s1 deployed, OpenVINO bf16": Run(NETWORK, "deployed", "openvino", "bf16"),
    "lale-s1 deployed, ONNX Runtime int8": Run(NETWORK, "deployed", "onnxruntime", "int8"),
    "lale-s1 deployed, OpenVINO int8": Run(NETWORK, "deployed", "openvino", "int8"),
    **{f"{name} deployed, {how}": run for name in SEARCHED for how, run in _deployed(f"{name}@{DATA}").items()},
    "linknet": Run(BASELINE, "trained", "eager"),
    "linknet deployed, compiled": Run(BASELINE, "deployed", "compile", "fp32", "channels_last"),
    "linknet deployed, autotuned": Run(BASELINE, "deployed", "autotune", "fp32", "channels_last"),
    "linknet deployed, ONNX Runtime": Run(BASELINE, "deployed", "onnxruntime"),
    "linknet deployed, OpenVINO": Run(BASELINE, "deployed", "openvino"),
    "linknet deployed, OpenVINO bf16": Run(BASELINE, "deployed", "openvino", "bf16"),
    "linknet deployed, ONNX Runtime int8": Run(BASELINE, "deployed", "onnxruntime", "int8"),
    "linknet deployed, OpenVINO int8": Run(BASELINE, "deployed", "openvino", "int8"),
}

COLUMNS = [
    Column("batch", "Batch", "count"),
    column("variant"),
    Column("form", "Form"),
    Column("runtime", "Runtime"),
    Column("precision", "Precision"),
    column("latency_ms"),
    column("throughput"),
    Column("speedup", "Throughput relative to LALE-S1 as published", "times", "high", "speedup_low", "speedup_high"),
    *(column(key) for key in ("fp32_f1", "precision_f1", "precision_verdict")),
    column("ceiling_share"),
    Column("output_difference", "Output difference", Format(".1e")),
    column("joules_per_image"),
]
KEYS = tuple(key for one in COLUMNS for key in (one.key, one.low, one.high) if key)


@dataclass(frozen=True)
class Deployment:
    """The study: one comparison a batch size, all runs in the same rounds; then the accuracy of each lower precision.

    Attributes:
        batches: of images a call.
        size: height and width of the images.
        threads: of the CPU.
        rounds: at least so many.
        seconds: of timed calls in a comparison at most, once there are enough rounds.
    """

    uses: ClassVar[tuple[str, ...]] = ("delta",)

    name: str = "deployment"
    question: str = "How much faster than the papers' code can the same function run?"
    batches: tuple[int, ...] = (1, 8)
    size: tuple[int, int] = SIZE
    threads: int = 2
    rounds: int = 8
    seconds: float = 40.0

    def layout(self, setting: Setting) -> Layout:
        """A cell of speed for each batch, and one of accuracy for each trained run that is not in fp32."""
        tiles = open_data(DATA)
        speeds = {f"batch {batch}": self._cell(batch, tiles, setting.device) for batch in self.batches}
        trained = {network: find_trained(network) for network in dict.fromkeys(run.network for run in RUNS.values())}
        scored = {
            accuracy_label(name): accuracy_cell(
                weights, tiles, self._protocol(1, run), accuracy_label(name), setting.device
            )
            for name, run in RUNS.items()
            if run.precision != "fp32" and (weights := trained[run.network]) is not None
        }
        details = {"classes": tiles.classes.num_classes, "data": tiles.name, "test_tiles": len(tiles["test"])}
        return Layout({**speeds, **scored}, details=details)

    def report(self, results: Results) -> Report:
        """A table of all runs, and a sentence for each ratio that the study is about."""
        records = results.records
        labels = [label for label in results.manifest.cells if label.startswith("batch ")]
        accuracy = _accuracy(results)
        frame = pd.DataFrame([row for label in labels for row in _rows(label, records.get(label), accuracy)])
        kept = [one for one in COLUMNS if one.key != "joules_per_image" or frame[one.key].notna().any()]
        caption = self._caption(results)
        files = write_tables(frame, kept, results.folder / "table", caption)
        done = {label: records[label] for label in labels if label in records and records[label].status == "ok"}
        findings = [sentence for label, record in done.items() for sentence in _findings(label, record, accuracy)]
        return Report(results.folder, frame, kept, caption, files, findings)

    def _cell(self, batch: int, tiles: DataSet, device: str) -> Cell:
        runs = {label: _run_config(run, self._protocol(batch, run)) for label, run in RUNS.items()}
        classes = tiles.classes.num_classes
        return comparison_cell(runs, f"race at batch {batch}", self.size, classes, device, tiles=tiles)

    def _protocol(self, batch: int, run: Run) -> SpeedProtocol:
        return SpeedProtocol(
            batch=batch, form=run.form, runtime=run.runtime, precision=run.precision, memory_format=run.memory_format,
            threads=self.threads, calls=3, rounds=self.rounds, max_seconds=self.seconds, warmup_seconds=2.0,
        )  # fmt: skip

    def _caption(self, results: Results) -> str:
        details, setting = results.manifest.details, results.manifest.setting
        kinds = sorted({record.environment.get("device_kind", "") for record in results.records.values()} - {""})
        where = f" on {' and '.join(kinds)}" if kinds else ""
        scored = (
            f" Macro F1 on the {details['test_tiles']} test tiles of {details['data']}, whose training tiles int8 is "
            f"calibrated on; equivalent: within {100 * setting.get('delta', DELTA):g} points."
            if "test_tiles" in details
            else ""
        )
        return (
            f"{self.size[0]}x{self.size[1]}, {details.get('classes', 7)} classes, CPU threads: {self.threads}{where}. "
            "All runs of a batch size are timed in the same rounds. Medians with 95 % intervals; the roofline share is "
            f"of the rates that the device reached in those rounds.{scored}"
        )


def accuracy_label(name: str) -> str:
    """Label of the cell in which a run is scored."""
    return f"accuracy: {name}"


def _run_config(run: Run, protocol: SpeedProtocol) -> RunConfig:
    trained = find_trained(run.network)
    return RunConfig(trained.config if trained else archs.config(run.network), protocol, trained)


def _accuracy(results: Results) -> dict[str, dict[str, Any]]:
    """Of each run that is not in fp32: macro F1, that of fp32 and the verdict, or why there is none."""
    delta = results.manifest.setting.get("delta", DELTA)
    found = {}
    for name in (name for name, run in RUNS.items() if run.precision != "fp32"):
        record = results.records.get(accuracy_label(name))
        if accuracy_label(name) not in results.manifest.cells:
            found[name] = unscored(NO_WEIGHTS)
        elif record is None or record.status != "ok":
            found[name] = unscored("not scored yet" if record is None else f"not scored: {record.reason}")
        else:
            found[name] = PrecisionScore(record.result["fp32_f1"], record.result["f1"], delta).columns()
    return found


def _rows(label: str, record: Record | None, accuracy: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a run; runs that were not timed keep the reason."""
    result = record.result if record is not None and record.status == "ok" else {}
    status = ("missing", "not measured yet") if record is None else (record.status, record.reason)
    speeds, rows = result.get("speeds", {}), []
    entered = RUNS if record is None else record.determinants["entries"]
    for name, run in ((name, run) for name, run in RUNS.items() if name in entered):
        row = {**dict.fromkeys(KEYS), "batch": int(label.split()[-1]), "variant": name, **run._asdict()}
        row |= accuracy.get(name, {})
        if name in speeds:
            ratio = recorded_ratio(speeds, name, REFERENCE)
            row |= {key: speeds[name][key] for key in KEYS if key in speeds[name]}
            row |= {"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high}
        else:
            why = ("skipped", result["missing"].get(name, "")) if result else status
            row |= {"status": why[0], "reason": why[1]}
        rows.append(row)
    return rows


def _findings(label: str, record: Record, accuracy: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The ratios that have a target, then what lower precisions do."""
    speeds = record.result["speeds"]
    networks = [f"{name}@{DATA}" for name in SEARCHED]
    counting = {name: run.network for name, run in RUNS.items() if run.network != BASELINE and _counts(name, accuracy)}
    own = [name for name, network in counting.items() if network not in networks]
    best, torch_only = quickest(speeds, own), quickest(speeds, [name for name in own if RUNS[name].runtime in TORCH])
    searched = [quickest(speeds, [name for name in counting if counting[name] == network]) for network in networks]
    theirs = quickest(speeds, [name for name, run in RUNS.items() if run.network == BASELINE])
    load = background_load(record)
    found = [f"{label}: {load}"] if load else []
    for target, fast, slow in (
        ("best", best, REFERENCE),
        ("torch", torch_only, REFERENCE),
        *(("best", one, REFERENCE) for one in searched),
        *(("baseline", one, theirs) for one in (best, *searched)),
    ):
        if fast and slow and fast != slow:
            found.append(f"{label}: {fast} has {_against_target(speeds, fast, slow, TARGETS[target], bool(load))}.")
    for name in (name for name in speeds if name in accuracy):
        exact = name.removesuffix(f" {RUNS[name].precision}")
        if exact in speeds:
            found.append(f"{label}: {name} has {_times(speeds, name, exact)} of fp32; {_scored(accuracy[name])}.")
    return found


def _counts(name: str, accuracy: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a run of ours counts towards a target: in fp32, or where it is as accurate."""
    return name not in accuracy or accuracy[name]["precision_verdict"] in ("equivalent", "better")


def _scored(row: Mapping[str, Any]) -> str:
    if row["fp32_f1"] is None:
        return f"accuracy: {row['precision_verdict']}"
    return (
        f"macro F1 {100 * row['precision_f1']:.1f} % against {100 * row['fp32_f1']:.1f} %: {row['precision_verdict']}"
    )


def _against_target(speeds: Mapping[str, Any], fast: str, slow: str, target: float, disturbed: bool) -> str:
    ratio = recorded_ratio(speeds, fast, slow)
    verdict = "met" if ratio.low >= target else "undecided" if ratio.high >= target else "missed"
    return f"{_times(speeds, fast, slow)} of {slow}; target {target:g}×: {'no verdict' if disturbed else verdict}"


def _times(speeds: Mapping[str, Any], fast: str, slow: str) -> str:
    ratio = recorded_ratio(speeds, fast, slow)
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times the throughput"


STUDY = Deployment()
