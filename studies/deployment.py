"""How much faster than the papers' code can the same function run: forms, runtimes and precisions, interleaved.

The starting point is LALE-S1 as the papers' code runs it: RMSNorm and StarReLU written out, the trained form, eager,
contiguous. Beside it the quickest CNN of the papers, Linknet, in its own runtimes. A lower precision stands apart, as
long as its accuracy is not shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

import archs
from bench.records import Record
from bench.report.columns import COLUMNS, Column, Format, measured
from bench.report.tables import write_tables
from bench.speed.comparison import Way, quickest, race_cell, recorded_ratio
from bench.speed.cpu_load import TOLERABLE
from bench.speed.protocol import SpeedProtocol
from bench.stats.medians import Median
from bench.study import Layout, Report, Results, Setting

LITERAL = "lale-s1, as published"
BASELINE = "smp/linknet-efficientnet_b0"
SIZE = (256, 256)
NUM_CLASSES = 7
TORCH = ("eager", "compile", "autotune")
TARGETS = {"best": 5.0, "baseline": 2.5, "torch": 3.0}

# network, form, runtime, precision, memory format
WAYS: dict[str, tuple[str, str, str, str, str]] = {
    LITERAL: ("lale-s1", "trained", "eager", "fp32", "contiguous"),
    "lale-s1, compiled": ("lale-s1", "trained", "compile", "fp32", "channels_last"),
    "lale-s1, OpenVINO": ("lale-s1", "trained", "openvino", "fp32", "contiguous"),
    "lale-s1 deployed": ("lale-s1", "deployed", "eager", "fp32", "channels_last"),
    "lale-s1 deployed, compiled": ("lale-s1", "deployed", "compile", "fp32", "channels_last"),
    "lale-s1 deployed, autotuned": ("lale-s1", "deployed", "autotune", "fp32", "channels_last"),
    "lale-s1 deployed, ONNX Runtime": ("lale-s1", "deployed", "onnxruntime", "fp32", "contiguous"),
    "lale-s1 deployed, OpenVINO": ("lale-s1", "deployed", "openvino", "fp32", "contiguous"),
    "lale-s1 deployed, OpenVINO bf16": ("lale-s1", "deployed", "openvino", "bf16", "contiguous"),
    "linknet": (BASELINE, "trained", "eager", "fp32", "contiguous"),
    "linknet deployed, compiled": (BASELINE, "deployed", "compile", "fp32", "channels_last"),
    "linknet deployed, autotuned": (BASELINE, "deployed", "autotune", "fp32", "channels_last"),
    "linknet deployed, ONNX Runtime": (BASELINE, "deployed", "onnxruntime", "fp32", "contiguous"),
    "linknet deployed, OpenVINO": (BASELINE, "deployed", "openvino", "fp32", "contiguous"),
    "linknet deployed, OpenVINO bf16": (BASELINE, "deployed", "openvino", "bf16", "contiguous"),
}

KEYS = ("batch", "variant", "form", "runtime", "precision", "latency_ms", "throughput", "speedup", "ceiling_share",
        "output_difference", "joules_per_image")  # fmt: skip
TIMES = Format("z.2f", 1.0, "×", interval="[]")
OWN_COLUMNS = {
    column.key: column
    for column in (
        Column("batch", "Batch", "count"),
        Column("form", "Form"),
        Column("runtime", "Runtime"),
        Column("precision", "Precision"),
        Column("speedup", "Throughput against LALE-S1 as published", TIMES, "high", "speedup_low", "speedup_high"),
        Column("output_difference", "Output differs by", Format(".1e")),
    )
}


@dataclass(frozen=True)
class Deployment:
    """The study: one race a batch size.

    Attributes:
        batches: of images a call, one race each.
        size: height and width of the images.
        threads: of the CPU.
        rounds: at least so many.
        seconds: of timed calls in a race at most, once there are enough rounds.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    name: str = "deployment"
    question: str = "How much faster than the papers' code can the same function run?"
    batches: tuple[int, ...] = (1, 8)
    size: tuple[int, int] = SIZE
    threads: int = 2
    rounds: int = 8
    seconds: float = 40.0

    def layout(self, setting: Setting) -> Layout:
        """One cell a batch: all ways in the same rounds."""
        return Layout(
            {
                f"batch {batch}": race_cell(
                    self._ways(batch), f"race at batch {batch}", self.size, NUM_CLASSES, setting.device
                )
                for batch in self.batches
            }
        )

    def report(self, results: Results) -> Report:
        """Tables of all ways, and a sentence for each ratio that the study is about."""
        records, folder = results.records, results.folder
        races = {label: record for label, record in records.items() if record.status == "ok"}
        frame = pd.DataFrame([row for record in races.values() for row in _rows(record.result)])
        columns = measured(frame, [key for key in KEYS if key in COLUMNS]) if len(frame) else []
        known = {column.key: column for column in columns} | OWN_COLUMNS
        columns = [known[key] for key in KEYS if key in known and len(frame)]
        caption = self._caption(records)
        files = write_tables(frame, columns, folder / "table", caption) if len(frame) else []
        findings = [sentence for label, record in races.items() for sentence in _findings(label, record)]
        findings += [f"{label} failed: {r.reason}" for label, r in records.items() if r.status != "ok"]
        return Report(folder, frame, columns, caption, files, findings)

    def _ways(self, batch: int) -> dict[str, Way]:
        return {label: Way(archs.config(way[0]), self._protocol(batch, *way[1:])) for label, way in WAYS.items()}

    def _protocol(self, batch: int, form: str, runtime: str, precision: str, memory_format: str) -> SpeedProtocol:
        return SpeedProtocol(
            batch=batch, form=form, runtime=runtime, precision=precision, memory_format=memory_format,
            threads=self.threads, calls=3, rounds=self.rounds, max_seconds=self.seconds, warmup_seconds=2.0,
        )  # fmt: skip

    def _caption(self, records: Mapping[str, Record]) -> str:
        kinds = sorted({record.environment.get("device_kind", "") for record in records.values()} - {""})
        where = f" on {' and '.join(kinds)}" if kinds else ""
        speeds = [speed for r in records.values() if r.status == "ok" for speed in r.result["speeds"].values()]
        threads = " or ".join(sorted({str(speed["threads"]) for speed in speeds}))
        return (
            f"{self.size[0]}x{self.size[1]}, {NUM_CLASSES} classes, CPU threads: {threads}{where}; all ways of a batch "
            "in the same rounds. Medians with 95 % intervals; the share is of the device's own best rates there."
        )


def _rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_row(label, way, result) for label, way in WAYS.items()]


def _row(label: str, way: tuple[str, str, str, str, str], result: Mapping[str, Any]) -> dict[str, Any]:
    speeds = result["speeds"]
    plain = {"variant": label, "form": way[1], "runtime": way[2], "precision": way[3]}
    batch = next(iter(speeds.values()))["protocol"]["batch"]
    if label not in speeds:
        return {**plain, "batch": batch, "status": "skipped", "reason": result["missing"].get(label, "")}
    keys = ("latency_ms", "latency_low", "latency_high", "throughput", "throughput_low", "throughput_high",
            "ceiling_share", "ceiling_share_low", "ceiling_share_high", "output_difference", "compile_seconds",
            "joules_per_image")  # fmt: skip
    ratio = recorded_ratio(speeds, label, LITERAL)
    found = {"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high}
    return {**plain, "batch": batch, **{key: speeds[label].get(key) for key in keys}, **found}


def _findings(label: str, record: Record) -> list[str]:
    """The three ratios that were aimed at, reached or not; then what bf16 does, apart."""
    speeds = record.result["speeds"]
    full = [name for name, way in WAYS.items() if way[3] == "fp32"]
    ours = quickest(speeds, [name for name in full if WAYS[name][0] != BASELINE])
    theirs = quickest(speeds, [name for name in WAYS if WAYS[name][0] == BASELINE and name in full])
    torch_only = quickest(speeds, [name for name in full if WAYS[name][0] != BASELINE and WAYS[name][2] in TORCH])
    disturbance = _disturbance(record)
    found = [f"{label}: {disturbance}"] if disturbance else []
    for target, fast, slow in (("best", ours, LITERAL), ("baseline", ours, theirs), ("torch", torch_only, LITERAL)):
        if fast and slow and fast != slow:
            found.append(
                _sentence(label, recorded_ratio(speeds, fast, slow), fast, slow, TARGETS[target], bool(disturbance))
            )
    for name in (name for name in WAYS if WAYS[name][3] == "bf16" and name in speeds):
        twin = name.removesuffix(" bf16")
        times = recorded_ratio(speeds, name, twin)
        found.append(f"{label}: {name} runs {_times(times)} the throughput of fp32 there; its F1 is not shown here.")
    return found


def _disturbance(record: Record) -> str:
    """A sentence if others took cores that the networks' threads needed; empty if there were enough for all."""
    speeds = record.result["speeds"].values()
    others = max((speed.get("other_cores") or 0.0 for speed in speeds), default=0.0)
    threads, cores = max(speed["threads"] for speed in speeds), record.environment["usable_cores"]
    if others + threads <= cores + TOLERABLE:
        return ""
    return (
        f"other processes had {others:.1f} of {cores} cores beside {threads} threads, which no interleaving makes up "
        "for, since runtimes suffer from it differently: these ratios settle nothing; run the study again on an idle "
        "machine."
    )


def _sentence(label: str, times: Median, fast: str, slow: str, target: float, disturbed: bool) -> str:
    if disturbed:
        return f"{label}: {fast} had {_times(times)} the throughput of {slow} ({target:g}× was aimed at)."
    verdict = "reached" if times.low >= target else "not settled" if times.high >= target else "not reached"
    return f"{label}: {fast} has {_times(times)} the throughput of {slow}; {target:g}× was aimed at: {verdict}."


def _times(times: Median) -> str:
    return f"{times.value:.2f} [{times.low:.2f}, {times.high:.2f}] times"


STUDY = Deployment()
