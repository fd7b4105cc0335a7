"""One HTML file of any number of studies and searches: charts, tables, predictions, without a network or a server.

It takes plain data; `lale-bench report` gathers them from the folders of studies and searches.
"""

import base64
import html
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records.atomic import write_atomically
from bench.report.columns import COLUMNS, Column, is_missing

FIRST = ("variant", "f1", "verdict", "iou", "boundary_f1", "params", "macs", "latency_ms", "throughput", "family")
EFFECT_KEYS = (
    "variant", "factor", "base", "effect", "verdict", "scenes_verdict", "seeds", "seeds_needed", "delta_params",
    "delta_macs",
)  # fmt: skip
VERDICT_KEYS = ("base", "effect", "effect_low", "effect_high", "verdict", "scenes_verdict")
TEXTS = ("status", "reason")
SPEEDS = ("latency_ms", "throughput")
NOT_IN_TABLE = ("effect", "seeds_needed", "delta_params", "delta_macs")
NOT_ON_AXES = ("effect", "int8_effect", "seeds", "seeds_needed", "best_batch", "delta_params", "delta_macs")


@dataclass(frozen=True)
class Network:
    """What a page shows of one variant besides its figures.

    Attributes:
        keys: of the records that its figures come from; rows that share one are the same measurement.
        config: plain JSON.
        command: that measures it again.
    """

    keys: tuple[str, ...]
    config: Mapping[str, Any] | None = None
    command: str = ""


@dataclass(frozen=True)
class StudySection:
    """A study of variants.

    Attributes:
        name, question, caption, findings: as in its tables.
        condition: what makes scores comparable (data, training, seeds, size), in words.
        frame: one row a variant, see `bench.report.columns`.
        networks: by variant.
        speed: protocol and machine of the speeds, in a sentence.
        class_names, class_colours: of the data, colours as `#rrggbb`.
        per_class: variant -> F1 of each class (a fraction).
        curves: variant -> a run a seed -> (step, validation F1, loss or None).
        tiles: names of the test tiles that are shown.
        pictures: "Image", "Truth" and variants -> (tiles, H, W, 3) uint8.
    """

    name: str
    question: str
    caption: str
    findings: Sequence[str]
    condition: str
    frame: pd.DataFrame
    networks: Mapping[str, Network]
    speed: str = ""
    class_names: Sequence[str] = ()
    class_colours: Sequence[str] = ()
    per_class: Mapping[str, Sequence[float]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Sequence[tuple[int, float, float | None]]]] = field(default_factory=dict)
    tiles: Sequence[str] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchSection:
    """A search: its trials in order, each a row with the cost, `f1` on validation tiles, `status`, `reason`, `config`.

    `cost` is a key of `bench.report.columns`, `limit` the budget of it in raw units.
    """

    name: str
    caption: str
    findings: Sequence[str]
    trials: Sequence[Mapping[str, Any]]
    cost: str
    limit: float | None = None


@dataclass(frozen=True)
class TableSection:
    """A study of another kind: its main table, its findings, its figures as PNG."""

    name: str
    question: str
    caption: str
    findings: Sequence[str]
    frame: pd.DataFrame
    columns: Sequence[Column]
    figures: Sequence[bytes] = ()


def write_page(
    path: Path,
    title: str,
    studies: Sequence[StudySection] = (),
    searches: Sequence[SearchSection] = (),
    tables: Sequence[TableSection] = (),
    made: str = "",
) -> Path:
    """Write the page, whole.

    Args:
        path: an `.html` file; its folder is made.
        title: above the page.
        studies, searches, tables: what it shows, in this order.
        made: the last line, as by what command it was made.
    """
    document = {
        "columns": [_column(c) for c in _columns(studies)],
        "conditions": _conditions(studies),
        "rows": merged(studies),
        "studies": [_study(section) for section in studies],
        "searches": [_search(section) for section in searches],
        "tables": [_table(section) for section in tables],
        "effect_columns": [_column(_known(key)) for key in EFFECT_KEYS],
        "reason_columns": [_column(_known(key)) for key in TEXTS],
        "made": made,
    }
    # A name may hold "</script>": no "<" of the data reaches the parser of HTML.
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("report.css"),
        "SCRIPT": _asset("charts.js") + _asset("report.js"),
        "DATA": data,
    }
    page = re.sub(r"__(TITLE|STYLE|SCRIPT|DATA)__", lambda found: parts[found[1]], _asset("template.html"))
    return write_atomically(path, page.encode())


def merged(studies: Iterable[StudySection]) -> list[dict[str, Any]]:
    """One row a network: rows of studies under the same condition that share a record are one.

    Each keeps the verdicts of all its studies, since these depend on the base and on how many were compared.
    """
    rows: list[dict[str, Any]] = []
    known: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for study in studies:
        own: list[dict[str, Any]] = []  # labels of one study are not one network, though their configs may be equal
        for found in _plain(study.frame):
            network = study.networks.get(found["variant"], Network(()))
            places = [(study.condition, key) for key in network.keys]
            same = [row for place in places for row in known.get(place, ()) if not any(row is one for one in own)]
            row = next((row for row in same if row["variant"] == found["variant"]), same[0] if same else None)
            if row is None:
                row = {**found, "speed": "", "studies": [], "verdicts": [], "keys": [], "condition": study.condition}
                row |= {"config": network.config, "command": network.command, "is_base": False}
                rows.append(row)
            for place in places:
                known.setdefault(place, []).append(row)
            own.append(row)
            _add(row, found, network, study)
    return rows


def _add(row: dict[str, Any], found: dict[str, Any], network: Network, study: StudySection) -> None:
    """What one study knows of a network that another may know too: what either measured, counts."""
    if is_missing(row.get("f1")) and not is_missing(found.get("f1")):
        row["command"] = network.command
        row |= {key: found.get(key) for key in TEXTS}
    if not row["speed"] and any(not is_missing(found.get(key)) for key in SPEEDS):
        row["speed"] = study.speed
    row |= {key: value for key, value in found.items() if is_missing(row.get(key)) and key not in TEXTS}
    row["studies"].append(study.name)
    row["keys"] += [key for key in network.keys if key not in row["keys"]]
    row["is_base"] |= found["variant"] in set(study.frame.get("base", ()))
    if not is_missing(found.get("verdict")):
        row["verdicts"].append({"study": study.name, **{key: found.get(key) for key in VERDICT_KEYS}})


def _conditions(studies: Sequence[StudySection]) -> list[dict[str, str]]:
    """The one with most scores first."""
    scores = {study.condition: 0 for study in studies}
    for study in studies:
        scores[study.condition] += int(study.frame["f1"].notna().sum()) if "f1" in study.frame else 0
    return [{"id": name, "text": name} for name in sorted(scores, key=lambda name: -scores[name])]


def _study(section: StudySection) -> dict[str, Any]:
    rows = _plain(section.frame)
    plain = {key: getattr(section, key) for key in ("name", "question", "caption", "findings", "speed")}
    return {
        **plain,
        "effects": [row for row in rows if not is_missing(row.get("base")) and _compared(row)],
        "class_names": list(section.class_names),
        "class_colours": list(section.class_colours),
        "per_class": {name: _finite(values) for name, values in section.per_class.items()},
        "macros": {row["variant"]: row.get("f1") for row in rows},
        "curves": {name: [_finite(run) for run in runs] for name, runs in section.curves.items() if any(runs)},
        "tiles": list(section.tiles),
        "pictures": [
            {"name": name, "tiles": [_png(tile) for tile in tiles]} for name, tiles in section.pictures.items()
        ],
    }


def _compared(row: Mapping[str, Any]) -> bool:
    """Whether a row was to be compared: it has an effect, or a reason for having none."""
    return not is_missing(row.get("effect")) or not is_missing(row.get("reason"))


def _search(section: SearchSection) -> dict[str, Any]:
    keep = {key: value for key, value in asdict(section).items() if key != "trials"}
    return {**keep, "trials": [_finite(dict(trial)) for trial in section.trials]}


def _table(section: TableSection) -> dict[str, Any]:
    return {
        **{key: getattr(section, key) for key in ("name", "question", "caption", "findings")},
        "rows": _plain(section.frame),
        "columns": [_column(c) for c in section.columns],
        "pictures": [_uri(content) for content in section.figures],
    }


def _column(c: Column) -> dict[str, Any]:
    style = c.style
    digits = re.search(r"\.(\d+)f$", style.spec)
    return {
        "key": c.key,
        "header": c.header,
        "unit": style.unit,
        "scale": style.scale,
        "digits": int(digits[1]) if digits else None,
        "signed": "+" in style.spec,
        "least": style.least,
        "better": c.better,
        "low": c.low,
        "high": c.high,
        "axis": bool(digits) and c.key not in NOT_ON_AXES,
        "table": c.key not in NOT_IN_TABLE,
    }


def _known(key: str) -> Column:
    return COLUMNS.get(key, Column(key, key.capitalize()))


def _columns(studies: Sequence[StudySection]) -> list[Column]:
    """All known quantities, scores and main costs first; status and reason where a study has them."""
    ordered = [COLUMNS[key] for key in (*FIRST, *(key for key in COLUMNS if key not in FIRST))]
    return ordered + [_known(key) for key in TEXTS if any(key in study.frame for study in studies)]


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [_finite(row) for row in frame.to_dict("records")]


def _finite(value: Any) -> Any:
    """Plain JSON: what was not measured is null, whatever pandas or NumPy call it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value is pd.NA or value is pd.NaT else value if isinstance(value, str | int | None) else str(value)


def _png(tile: np.ndarray) -> str:
    """A picture as a data URI; one of few colours with a palette, which takes a fifth of the bytes."""
    from PIL import Image

    image, content = Image.fromarray(tile), io.BytesIO()
    few = image.getcolors(64)
    if few:
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(few))
        image.save(content, "PNG", optimize=True)
        return _uri(content.getvalue())
    image.save(content, "JPEG", quality=88)
    return _uri(content.getvalue(), "jpeg")


def _uri(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _asset(name: str) -> str:
    return resources.files("bench.report").joinpath("html", name).read_text(encoding="utf-8")
