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
        interval: "±" prints half the interval's width, "[]" prints both of its bounds, as "±" does where the value
            lies well off the middle.
        bounds: what these are.
        raw: the unit of the frame and of the CSV file; empty: a plain number.
        least: smaller values are printed as "< least" (in printed units).
    """

    spec: str = ""
    scale: float = 1.0
    unit: str = ""
    interval: Literal["±", "[]"] = "±"
    bounds: str = "95 % interval"
    raw: str = ""
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
        below, above = (abs(float(end) - float(value)) * self.scale for end in (low, high))
        half = (below + above) / 2
        if self.interval == "[]" or abs(above - half) > LOPSIDED * half:
            return f"{self.text(value)} [{self.text(low)}, {self.text(high)}]"
        return f"{self.text(value)} ± {format(half, self.spec.lstrip('+'))}"

    def _number(self, value: float) -> str:
        if self.least is not None and value < self.least:
            return f"< {self.least:g}"
        return format(value, self.spec).replace("-", "−")


LOPSIDED = 0.25
"""Share of its half width by which an interval's middle may lie off the value that is printed with ±."""
INCOMPLETE = "incomplete"
"""Status of a row of which trainings are still to come."""
SCORES = frozenset({"f1", "iou", "boundary_f1", "int8_f1", "rising"})
"""Columns of what trainings bring."""
FORMATS = {
    "text": Format(),
    "count": Format(",.0f"),
    "millions": Format("z.2f", 1e-6, "M"),
    "giga": Format("z.2f", 1e-9, "G"),
    "bytes as MiB": Format("z.2f", 2.0**-20, "MiB", raw="bytes"),
    "MiB": Format("z.2f", 1.0, "MiB", raw="MiB"),
    "ms": Format("z.2f", 1.0, "ms", raw="ms"),
    "images/s": Format(",.0f", 1.0, "images/s", raw="images/s"),
    "percent": Format("z.1f", 100.0, "%", raw="fraction"),
    "whole percent": Format("z.0f", 100.0, "%", raw="fraction"),
    "points": Format("+z.1f", 100.0, "points", interval="[]", raw="fraction"),
    "change in M": Format("+z.2f", 1e-6, "M", interval="[]"),
    "change in G": Format("+z.2f", 1e-9, "G", interval="[]"),
    "times": Format("z.2f", 1.0, "×", interval="[]"),
    "hours": Format("z.2f", 1 / 3600, "h", raw="s"),
}


@dataclass(frozen=True)
class Column:
    """One column of a table, or one axis of a figure.

    Attributes:
        key: the frame's column, and the CSV file's: raw values (counts, bytes, fractions, milliseconds).
        header: its name, without the unit.
        format: a `Format`, or the name of one in `FORMATS`.
        better: which end is wanted ("high", "low"), None where neither is.
        low, high: the frame's columns of the 95 % interval, if it has one.
        how: what it is and how it is measured, one sentence; `docs/columns.md` is made of these.
        detail: the frame's column of what else is known of it, in the CSV file alone.
        remarks: stand below every table that shows the column, one a line.
    """

    key: str
    header: str
    format: Format | str = "text"
    better: Literal["high", "low"] | None = None
    low: str | None = None
    high: str | None = None
    how: str = ""
    detail: str | None = None
    remarks: tuple[str, ...] = ()

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
        Column("variant", "Variant", how="The name of the network in this study."),
        Column("family", "Family", how="The architecture of which it is a variant."),
        Column("factor", "Factor", how="In an ablation, what was changed against the base."),
        Column("params", "Parameters", "millions", "low", how="All parameters, tied ones once."),
        Column(
            "macs",
            "MACs",
            "giga",
            "low",
            how="Multiply-accumulates of one image, counted exactly, operator by operator.",
        ),
        Column(
            "fvcore_macs",
            "MACs by fvcore",
            "giga",
            "low",
            how="What fvcore counts for the same network, as it is commonly run.",
        ),
        Column(
            "thop_macs",
            "MACs by thop",
            "giga",
            "low",
            how="What thop counts for the same network, as it is commonly run.",
        ),
        Column("storage_bytes", "Storage", "bytes as MiB", "low", how="Size of the saved float32 safetensors file."),
        Column("mib", "Storage", "MiB", "low", how="Size of the saved float32 safetensors file."),
        Column(
            "paper_mib",
            "Storage by the papers' rule",
            "MiB",
            "low",
            how="Float32 bytes of the parameters and bytes of the buffers, without a file.",
        ),
        Column(
            "activations",
            "Activations written",
            "millions",
            "low",
            how="Elements that all operators but views write for one image.",
        ),
        Column(
            "latency_ms",
            "Latency",
            "ms",
            "low",
            "latency_low",
            "latency_high",
            how="Median time of one image at batch 1, synchronised, over interleaved rounds.",
        ),
        Column(
            "throughput",
            "Throughput",
            "images/s",
            "high",
            "throughput_low",
            "throughput_high",
            how="Images a second at the stated batch, from the median over interleaved rounds.",
        ),
        Column(
            "ceiling_share",
            "Roofline share",
            "percent",
            "high",
            "ceiling_share_low",
            "ceiling_share_high",
            how="Least time of the compulsory work at the rates the device reached, over the measured time.",
        ),
        Column(
            "joules_per_image",
            "Energy",
            Format(".3f", 1.0, "J/image", raw="J/image"),
            "low",
            how="Read from the device's energy counter; absent where there is none.",
        ),
        Column(
            "best_throughput",
            "Throughput at the best batch",
            "images/s",
            "high",
            how="Highest throughput of the batch sizes that were tried.",
        ),
        Column("best_batch", "Best batch", "count", how="The batch size of that throughput."),
        Column(
            "f1",
            "Macro F1",
            "percent",
            "high",
            "f1_low",
            "f1_high",
            how="Mean over classes of F1, from one confusion matrix of all test pixels; mean over seeds, "
            "adjusted where networks have unequal seeds.",
        ),
        Column(
            "iou", "Macro IoU", "percent", "high", "iou_low", "iou_high", how="The same for intersection over union."
        ),
        Column(
            "boundary_f1",
            "Boundary F1",
            "percent",
            "high",
            how="Macro F1 of the pixels within 2 % of the image diagonal from a boundary of the truth.",
        ),
        Column(
            "fp32_f1",
            "Macro F1, fp32",
            "percent",
            how="Macro F1 of the trained network on the test tiles, in fp32.",
        ),
        Column(
            "precision_f1",
            "Macro F1, this precision",
            "percent",
            how="The same network on the same tiles, in the form, runtime and precision of the row.",
        ),
        Column(
            "precision_verdict",
            "Accuracy against fp32",
            how="Equivalent within delta, worse or better, on these tiles; or why it was not scored.",
        ),
        Column(
            "launches",
            "Kernel launches",
            "count",
            "low",
            how="Operators of one forward pass that are not views: kernels that a GPU launches.",
        ),
        Column(
            "deployed_params",
            "Parameters, deployed",
            "millions",
            "low",
            how="Parameters of `archs.deploy(network)`, the same function with everything folded.",
        ),
        Column("deployed_macs", "MACs, deployed", "giga", "low", how="MACs of the deployed form."),
        Column("deployed_launches", "Launches, deployed", "count", "low", how="Kernel launches of the deployed form."),
        Column(
            "deployed_file_bytes",
            "Storage, deployed",
            "bytes as MiB",
            "low",
            how="Size of the saved float32 file of the deployed form.",
        ),
        Column(
            "peak_inference_bytes",
            "Peak memory",
            "bytes as MiB",
            "low",
            how="Most bytes alive during a forward pass, weights and input included.",
        ),
        Column(
            "peak_training_bytes",
            "Peak memory in training",
            "bytes as MiB",
            "low",
            how="Most bytes alive during two training steps with AdamW, weights and input included.",
        ),
        Column(
            "deployed_fp32_ms",
            "Latency, deployed fp32",
            "ms",
            "low",
            "deployed_fp32_low",
            "deployed_fp32_high",
            how="Median time of one image at batch 1 of the deployed form, in its quickest runtime.",
            detail="deployed_fp32_runtime",
        ),
        Column("deployed_fp32_runtime", "Runtime, fp32", how="The runtime of that latency."),
        Column(
            "deployed_int8_ms",
            "Latency, deployed int8",
            "ms",
            "low",
            "deployed_int8_low",
            "deployed_int8_high",
            how="The same in int8, calibrated on training tiles; of the same run.",
            detail="deployed_int8_runtime",
        ),
        Column("deployed_int8_runtime", "Runtime, int8", how="The runtime of that latency."),
        Column(
            "int8_speedup",
            "int8 speed-up",
            "times",
            "high",
            "int8_speedup_low",
            "int8_speedup_high",
            how="The fp32 latency over the int8 latency: the median over rounds of the ratio.",
        ),
        Column(
            "int8_f1",
            "Macro F1, int8",
            "percent",
            "high",
            how="Macro F1 of the first training on its test tiles, quantised to int8 in the runtime of that latency.",
            detail="int8_effect",
        ),
        Column(
            "int8_effect",
            "Effect of int8",
            "points",
            how="That macro F1 less the one in fp32 of the same weights on the same tiles.",
        ),
        Column(
            "int8_verdict",
            "int8 against fp32",
            how="Equivalent within delta, worse or better, on these tiles; or why it was not scored.",
        ),
        Column(
            "effect",
            "Effect on macro F1",
            "points",
            None,
            "effect_low",
            "effect_high",
            how="Macro F1 less that of the base, paired by seed, on these test images.",
        ),
        Column(
            "verdict",
            "Verdict, these test images",
            how="What the interval of the effect says: better, worse, equivalent (within delta) or undecided.",
        ),
        Column(
            "scenes_effect",
            "Effect for other scenes",
            "points",
            None,
            "scenes_low",
            "scenes_high",
            how="Macro F1 less that of the base, with the chance of which scenes were tested.",
        ),
        Column("scenes_verdict", "Verdict, other scenes", how="What the interval for other scenes says."),
        Column("delta_params", "Δ parameters", "change in M", how="Parameters less those of the base."),
        Column("delta_macs", "Δ MACs", "change in G", how="MACs less those of the base."),
        Column("seeds", "Seeds", "count", how="Trainings that the score is the mean of."),
        Column(
            "rising",
            "Still rising",
            "whole percent",
            "low",
            how="Trainings whose last fifth of steps brought 0.3 points of validation F1 or more: they were too short.",
        ),
        Column(
            "seeds_needed",
            "Seeds to settle it",
            "count",
            how="Seeds that would settle an undecided comparison, if the effect is as seen.",
        ),
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
