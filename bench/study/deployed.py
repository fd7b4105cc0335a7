"""Latency of a study's variants as they would be deployed: the folded form at batch 1, in fp32 and int8.

Every variant, runtime and precision is timed in the same rounds, so that any two of the times can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd
import torch

from bench.engine import Cell
from bench.records import Record
from bench.report.columns import is_missing
from bench.speed.comparison import RunConfig, background_load, comparison_cell, latency_ratio
from bench.speed.protocol import SpeedProtocol
from bench.stats import DELTA
from bench.stats.medians import Median
from bench.stats.verdicts import Verdict, known_verdict

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.study.declare import Variant
    from bench.study.protocol import Setting

DEPLOYED, INT8 = "deployed latency", "int8 accuracy: "
RUNTIMES = {"fp32": ("eager", "onnxruntime", "openvino"), "int8": ("onnxruntime", "openvino")}
"""By precision. Compiled PyTorch is left out: it takes a minute a network, and these two are quicker on a CPU."""
PROTOCOL = SpeedProtocol(form="deployed", calls=3, rounds=8, max_seconds=60, warmup_seconds=1)
NAMED = 4  # runs without a time that a sentence names; beyond, the reason speaks of many
KEYS = ("deployed_fp32_ms", "deployed_int8_ms", "int8_speedup", "int8_f1", "int8_verdict")
LATENCIES = tuple(f"deployed_{precision}_ms" for precision in RUNTIMES)
KEPT = ("equivalent", "better", "better, within delta", "worse, within delta")
GROUPS = ("equivalent, better or within delta", "undecided", "worse", "not judged")


def deployed_cell(variants: Sequence[Variant], setting: Setting, data: DataSet) -> Cell:
    """One interleaved run of all variants; int8 is calibrated on the training tiles of `data`."""
    runs = {
        run_label(variant.label, runtime, precision): RunConfig(variant.config, deployed_protocol(runtime, precision))
        for variant in variants
        for precision, runtimes in RUNTIMES.items()
        for runtime in runtimes
    }
    classes, bands = data.classes.num_classes, data.in_channels
    return comparison_cell(runs, DEPLOYED, setting.size, classes, setting.device, bands, tiles=data)


def run_label(variant: str, runtime: str, precision: str) -> str:
    """What a variant in a runtime and precision is called in the record."""
    return f"{variant}, {runtime} {precision}"


def int8_label(variant: str, runtime: str) -> str:
    """Label of the cell in which a variant's kept weights are scored in int8."""
    return f"{INT8}{variant}, {runtime}"


def deployed_protocol(runtime: str, precision: str) -> SpeedProtocol:
    """How a variant is timed in a runtime and precision, on the threads of this process."""
    layout = "channels_last" if runtime == "eager" else "contiguous"
    threads = torch.get_num_threads()
    return replace(PROTOCOL, runtime=runtime, precision=precision, memory_format=layout, threads=threads)


@dataclass(frozen=True)
class DeployedRun:
    """What was timed, and what was scored in int8.

    Attributes:
        record: of the times; None before they are measured.
        scored: by `int8_label`, what scores kept weights; None before that. Empty: no weights were kept.
        delta: difference of macro F1 up to which int8 and fp32 count as equivalent.
    """

    record: Record | None
    scored: Mapping[str, Record | None] = field(default_factory=dict)
    delta: float = DELTA

    @property
    def speeds(self) -> Mapping[str, Mapping[str, Any]]:
        """By `run_label`; empty where the whole run is missing."""
        return self.record.result["speeds"] if self.record is not None and self.record.status == "ok" else {}

    def quickest(self, variant: str, precision: str) -> tuple[str, str] | None:
        """Runtime and `run_label` of the lowest latency; None if none ran."""
        labels = [(runtime, run_label(variant, runtime, precision)) for runtime in RUNTIMES[precision]]
        ran = [one for one in labels if one[1] in self.speeds]
        return min(ran, key=lambda one: self.speeds[one[1]]["latency_ms"], default=None)

    def speedup(self, variant: str, precision: str, base: str, base_precision: str) -> Median | None:
        """The base's latency over the variant's, each in its quickest runtime; None where one did not run."""
        fast, slow = self.quickest(variant, precision), self.quickest(base, base_precision)
        return latency_ratio(self.speeds, fast[1], slow[1]) if fast and slow else None

    def columns(self, variant: str) -> dict[str, Any]:
        """The variant's part of a table."""
        found: dict[str, Any] = {}
        for precision in RUNTIMES:
            best = self.quickest(variant, precision)
            speed = self.speeds[best[1]] if best else {}
            found |= {f"deployed_{precision}_{end}": speed.get(f"latency_{end}") for end in ("ms", "low", "high")}
            found[f"deployed_{precision}_runtime"] = best[0] if best else None
        ratio = self.speedup(variant, "int8", variant, "fp32")
        bounds = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
        found |= dict(zip(("int8_speedup", "int8_speedup_low", "int8_speedup_high"), bounds, strict=True))
        return found | self._accuracy(variant, found["deployed_int8_runtime"])

    def _accuracy(self, variant: str, runtime: str | None) -> dict[str, Any]:
        """Macro F1 in int8 in the runtime whose latency is shown, or why there is none."""
        label = int8_label(variant, runtime or "")
        record = self.scored.get(label)
        if record is None or record.status != "ok":
            waits = "not scored yet" if label in self.scored else None
            return {"int8_f1": None, "int8_verdict": f"not scored: {record.reason}" if record else waits}
        f1, effect = record.result["f1"], record.result["f1"] - record.result["fp32_f1"]
        return {"int8_f1": f1, "int8_effect": effect, "int8_verdict": known_verdict(effect, self.delta)}

    def remarks(self, variants: Sequence[str]) -> tuple[str, ...]:
        """Under what conditions the times hold, which runtimes they are of, and why some are missing."""
        if self.record is None:
            return ("Deployed latency: not measured yet.",)
        if self.record.status != "ok":
            return (f"Deployed latency: failed: {self.record.reason}",)
        return (*self._conditions(), *self._runtimes(variants), *self._missing())

    def _conditions(self) -> Iterator[str]:
        speed, where = next(iter(self.speeds.values()), None), self.record and self.record.environment
        if speed and where:
            height, width = speed["size"]
            yield (
                f"Deployed latency: folded form, {height}x{width}, batch 1, CPU threads: {speed['threads']}, "
                f"{where.get('device_kind', '')}; all variants, runtimes and precisions in the same rounds."
            )

    def _runtimes(self, variants: Sequence[str]) -> Iterator[str]:
        """One sentence a precision: the runtime that was quickest for most, then the others with their variants."""
        for precision in RUNTIMES:
            found: dict[str, list[str]] = {}
            for variant in variants:
                if best := self.quickest(variant, precision):
                    found.setdefault(best[0], []).append(variant)
            first, *others = sorted(found, key=lambda runtime: -len(found[runtime])) or [""]
            told = [first, *(f"{runtime} for {', '.join(found[runtime])}" for runtime in others)]
            if first:
                yield f"Quickest runtime in {precision}: {'; '.join(told)}."

    def _missing(self) -> Iterator[str]:
        """One sentence a reason, with the runs that it holds for where these are few and it does not name them."""
        reasons: dict[str, list[str]] = {}
        for label, reason in (self.record.result["missing"] if self.record else {}).items():
            reasons.setdefault(reason, []).append(label)
        for reason, labels in reasons.items():
            unnamed = [label for label in labels if label not in reason]
            named = f" ({'; '.join(unnamed)})" if 0 < len(unnamed) <= NAMED else ""
            yield f"Not timed{named}: {reason}."


def deployed_findings(run: DeployedRun, frame: pd.DataFrame) -> list[str]:
    """What int8 brings each variant, and which variants are quicker than their base at what cost in F1.

    Args:
        frame: rows of the study, with `variant`, `base` and `verdict`.
    """
    if not run.speeds:
        return []
    assert run.record is not None, "there are speeds"
    load = background_load(run.record)
    accuracy = _int8_accuracy_sentence(run, frame)
    if load:
        return [f"Deployed latency, {load}", *accuracy]
    return [*_int8_sentence(run, frame["variant"]), *accuracy, *_quicker_sentences(run, frame)]


def _int8_sentence(run: DeployedRun, variants: Sequence[str]) -> list[str]:
    gains = {variant: run.speedup(variant, "int8", variant, "fp32") for variant in variants}
    ordered = sorted(((gain, variant) for variant, gain in gains.items() if gain), key=lambda one: -one[0].value)
    named = "; ".join(_times(variant, gain) for gain, variant in ordered)
    return [f"Latency in fp32 over that in int8, each in its quickest runtime: {named}."] if named else []


def _int8_accuracy_sentence(run: DeployedRun, frame: pd.DataFrame) -> list[str]:
    scored = frame[frame["int8_f1"].notna()] if run.scored else frame[:0]
    if scored.empty:
        return []
    counts = scored["int8_verdict"].value_counts().to_dict()
    told = ", ".join(f"{word} for {count}" for word, count in counts.items())
    worst = scored.loc[scored["int8_effect"].idxmin()]
    return [
        f"Macro F1 in int8 against fp32, of the same weights on the same tiles: {told} of {len(scored)} variants "
        f"(delta {100 * run.delta:g} points); lowest effect {100 * worst['int8_effect']:+.1f}, of {worst['variant']}."
    ]


def _quicker_sentences(run: DeployedRun, frame: pd.DataFrame) -> Iterator[str]:
    for base, rows in frame[frame["base"] != ""].groupby("base", sort=False):
        for precision in RUNTIMES:
            if run.quickest(str(base), precision):
                own = " (F1 judged in fp32)" if precision == "int8" and not run.scored else ""
                yield f"Deployed in {precision}{own}, quicker than {base}: {_quicker(run, rows, str(base), precision)}."


def _quicker(run: DeployedRun, rows: pd.DataFrame, base: str, precision: str) -> str:
    """Those whose whole interval is above 1, by what their macro F1 does."""
    groups: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        gain = run.speedup(row["variant"], precision, base, precision)
        if gain and gain.low > 1:
            groups.setdefault(_group(row, precision, run), []).append(_times(row["variant"], gain))
    told = [f"macro F1 {group}: {', '.join(groups[group])}" for group in GROUPS if group in groups]
    return "; ".join(told if GROUPS[0] in groups else [f"none with macro F1 {GROUPS[0]}", *told])


def _group(row: Mapping[str, Any], precision: str, run: DeployedRun) -> str:
    """By the verdict on the variant, and in int8, where any was scored in it, by the one on its int8 as well."""
    own = row.get("int8_verdict") if precision == "int8" and run.scored else "equivalent"
    if own == "worse":
        return "worse"
    if own not in get_args(Verdict):
        return "not judged"
    if is_missing(row.get("verdict")):
        return "not judged"
    return GROUPS[0] if row["verdict"] in KEPT else row["verdict"]


def _times(variant: str, gain: Median) -> str:
    return f"{variant} {gain.value:.2f} [{gain.low:.2f}, {gain.high:.2f}] times"
