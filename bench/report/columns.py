"""The quantities of a results frame: what each is called, its unit, how it is printed, which way is better.

Tables and figures both read this, so that a quantity has one name and one unit everywhere.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.report.markup import one_line


@dataclass(frozen=True)
class Format:
    """How a raw value is printed: `spec` applied to value times `scale`, in `unit`.

    Attributes:
        spec: Python format specification; "" is text.
        scale: from the raw unit (1, bytes, fraction) to the printed one.
        unit: what stands in the header.
        interval: "±" prints half the interval's width, "[]" prints both of its bounds.
        bounds: what these are.
        least: smaller values are printed as "< least" (in printed units).
    """

    spec: str = ""
    scale: float = 1.0
    unit: str = ""
    interval: Literal["±", "[]"] = "±"
    bounds: str = "95 % interval"
    least: float | None = None

    def text(self, value: Any) -> str:
        """One value; "–" where there is none."""
        if is_missing(value):
            return "–"
        return str(value) if not self.spec else self._number(float(value) * self.scale)

    def with_interval(self, value: Any, low: Any, high: Any) -> str:
        """A value and its interval; the value alone where the interval is unknown."""
        if is_missing(value) or is_missing(low) or is_missing(high):
            return self.text(value)
        if self.interval == "[]":
            return f"{self.text(value)} [{self.text(low)}, {self.text(high)}]"
        half = (float(high) - float(low)) / 2 * self.scale
        return f"{self.text(value)} ± {format(half, self.spec.lstrip('+'))}"

    def _number(self, value: float) -> str:
        if self.least is not None and value < self.least:
            return f"< {self.least:g}"
        return format(value, self.spec).replace("-", "−")


FORMATS = {
    "text": Format(),
    "count": Format(",.0f"),
    "millions": Format("z.2f", 1e-6, "M"),
    "giga": Format("z.2f", 1e-9, "G"),
    "bytes as MiB": Format("z.2f", 2.0**-20, "MiB"),
    "MiB": Format("z.2f", 1.0, "MiB"),
    "ms": Format("z.2f", 1.0, "ms"),
    "images/s": Format(",.0f", 1.0, "images/s"),
    "percent": Format("z.1f", 100.0, "%"),
    "points": Format("+z.1f", 100.0, "points", interval="[]"),
    "change in M": Format("+z.2f", 1e-6, "M", interval="[]"),
    "change in G": Format("+z.2f", 1e-9, "G", interval="[]"),
    "hours": Format("z.2f", 1 / 3600, "h"),
}


@dataclass(frozen=True)
class Column:
    """One column of a table, or one axis of a figure.

    Attributes:
        key: the frame's column, raw values (counts, bytes, fractions, milliseconds).
        header: its name, without the unit.
        format: a `Format`, or the name of one in `FORMATS`.
        better: which end is wanted ("high", "low"), None where neither is.
        low, high: the frame's columns of the 95 % interval, if it has one.
    """

    key: str
    header: str
    format: Format | str = "text"
    better: Literal["high", "low"] | None = None
    low: str | None = None
    high: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.format, str) and self.format not in FORMATS:
            known = ", ".join(FORMATS)
            raise BenchError(f"Column {self.key!r} has the unknown format {self.format!r}; there are: {known}.")

    @property
    def style(self) -> Format:
        """The format itself, by name or as given."""
        return FORMATS[self.format] if isinstance(self.format, str) else self.format

    @property
    def title(self) -> str:
        """Header and unit: "Parameters (M)"."""
        return f"{self.header} ({self.style.unit})" if self.style.unit else self.header


COLUMNS = {
    column.key: column
    for column in (
        Column("variant", "Variant"),
        Column("family", "Family"),
        Column("factor", "Factor"),
        Column("params", "Parameters", "millions", "low"),
        Column("macs", "MACs", "giga", "low"),
        Column("fvcore_macs", "MACs by fvcore", "giga", "low"),
        Column("thop_macs", "MACs by thop", "giga", "low"),
        Column("storage_bytes", "Storage", "bytes as MiB", "low"),
        Column("mib", "Storage", "MiB", "low"),
        Column("paper_mib", "Storage by the papers' rule", "MiB", "low"),
        Column("activations", "Activations written", "millions", "low"),
        Column("latency_ms", "Latency", "ms", "low", "latency_low", "latency_high"),
        Column("throughput", "Throughput", "images/s", "high", "throughput_low", "throughput_high"),
        Column("ceiling_share", "Roofline share", "percent", "high", "ceiling_share_low", "ceiling_share_high"),
        Column("joules_per_image", "Energy", Format(".3f", 1.0, "J/image"), "low"),
        Column("best_throughput", "Throughput at the best batch", "images/s", "high"),
        Column("best_batch", "Best batch", "count"),
        Column("f1", "Macro F1", "percent", "high", "f1_low", "f1_high"),
        Column("iou", "Macro IoU", "percent", "high", "iou_low", "iou_high"),
        Column("boundary_f1", "Boundary F1", "percent", "high"),
        Column("launches", "Kernel launches", "count", "low"),
        Column("deployed_params", "Parameters, deployed", "millions", "low"),
        Column("deployed_macs", "MACs, deployed", "giga", "low"),
        Column("deployed_launches", "Launches, deployed", "count", "low"),
        Column("deployed_file_bytes", "Storage, deployed", "bytes as MiB", "low"),
        Column("peak_inference_bytes", "Peak memory", "bytes as MiB", "low"),
        Column("peak_training_bytes", "Peak memory in training", "bytes as MiB", "low"),
        Column("effect", "Effect on macro F1", "points", None, "effect_low", "effect_high"),
        Column("verdict", "Verdict, these test images"),
        Column("scenes_effect", "Effect for other scenes", "points", None, "scenes_low", "scenes_high"),
        Column("scenes_verdict", "Verdict, other scenes"),
        Column("delta_params", "Δ parameters", "change in M"),
        Column("delta_macs", "Δ MACs", "change in G"),
        Column("seeds", "Seeds", "count"),
        Column("seeds_needed", "Seeds to settle it", "count"),
    )
}


def column(key: str) -> Column:
    """The known column of that key. Raises BenchError with the known keys for any other."""
    if key not in COLUMNS:
        raise BenchError(f"There is no column {key!r}; known are: {', '.join(COLUMNS)}.")
    return COLUMNS[key]


def measured(frame: pd.DataFrame, keys: Iterable[str]) -> list[Column]:
    """The known columns of these keys of which the frame has at least one value."""
    known = [column(key) for key in keys]
    return [c for c in known if c.key in frame.columns and not frame[c.key].map(is_missing).all()]


def is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA, an infinite number, or an empty text: nothing was measured."""
    if value is None or value is pd.NA or value == "":
        return True
    return isinstance(value, float | np.floating) and not math.isfinite(value)


@dataclass(frozen=True)
class Trouble:
    """A variant without its full result, and why."""

    variant: str
    status: str
    reason: str

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


def troubles(frame: pd.DataFrame) -> dict[int, Trouble]:
    """Rows whose status says that something is missing ("failed", "skipped"), by their position."""
    found = {}
    for position, row in enumerate(frame.to_dict("records")):
        status, reason = row.get("status"), row.get("reason")
        if not is_missing(status) and status != "ok":
            text = "" if is_missing(reason) else one_line(str(reason)).rstrip(".")
            found[position] = Trouble(str(row.get("variant", position)), str(status), text)
    return found
