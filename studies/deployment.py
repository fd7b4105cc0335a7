"""How much faster than the papers' code can the same function run: forms, runtimes and precisions, interleaved.

The reference is LALE-S1 as the papers' code runs it: RMSNorm and StarReLU written out, the trained form, eager,
contiguous. Beside it stands the fastest CNN of the papers, Linknet, in its own runtimes. A lower precision is reported
apart, as long as its accuracy is not shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pandas as pd

import archs
from bench.engine import Cell
from bench.records import Record
from bench.report.columns import Column, Format, column
from bench.report.tables import write_tables
from bench.speed.comparison import RunConfig, comparison_cell, quickest, recorded_ratio
from bench.speed.cpu_load import TOLERABLE
from bench.speed.protocol import SpeedProtocol
from bench.study import Layout, Report, Results, Setting

REFERENCE = "lale-s1, as published"
BASELINE = "smp/linknet-efficientnet_b0"
SIZE = (256, 256)
NUM_CLASSES = 7
TORCH = ("eager", "compile", "autotune")
TARGETS = {"best": 5.0, "baseline": 2.5, "torch": 3.0}


class Run(NamedTuple):
    """A network, and how it is run."""

    network: str
    form: str
    runtime: str
    precision: str = "fp32"
    memory_format: str = "contiguous"


RUNS = {
    REFERENCE: Run("lale-s1", "trained", "eager"),
    "lale-s1, compiled": Run("lale-s1", "trained", "compile", "fp32", "channels_last"),
    "lale-s1, OpenVINO": Run("lale-s1", "trained", "openvino"),
    "lale-s1 deployed": Run("lale-s1", "deployed", "eager", "fp32", "channels_last"),
    "lale-s1 deployed, compiled": Run("lale-s1", "deployed", "compile", "fp32", "channels_last"),
    "lale-s1 deployed, autotuned": Run("lale-s1", "deployed", "autotune", "fp32", "channels_last"),
    "lale-s1 deployed, ONNX Runtime": Run("lale-s1", "deployed", "onnxruntime"),
    "lale-s1 deployed, OpenVINO": Run("lale-s1", "deployed", "openvino"),
    "lale-s1 deployed, OpenVINO bf16": Run("lale-s1", "deployed", "openvino", "bf16"),
    "linknet": Run(BASELINE, "trained", "eager"),
    "linknet deployed, compiled": Run(BASELINE, "deployed", "compile", "fp32", "channels_last"),
    "linknet deployed, autotuned": Run(BASELINE, "deployed", "autotune", "fp32", "channels_last"),
    "linknet deployed, ONNX Runtime": Run(BASELINE, "deployed", "onnxruntime"),
    "linknet deployed, OpenVINO": Run(BASELINE, "deployed", "openvino"),
    "linknet deployed, OpenVINO bf16": Run(BASELINE, "deployed", "openvino", "bf16"),
}

TIMES = Format("z.2f", 1.0, "×", interval="[]")
COLUMNS = [
    Column("batch", "Batch", "count"),
    column("variant"),
    Column("form", "Form"),
    Column("runtime", "Runtime"),
    Column("precision", "Precision"),
    column("latency_ms"),
    column("throughput"),
    Column("speedup", "Throughput relative to LALE-S1 as published", TIMES, "high", "speedup_low", "speedup_high"),
    column("ceiling_share"),
    Column("output_difference", "Output difference", Format(".1e")),
    column("joules_per_image"),
]
KEYS = tuple(key for one in COLUMNS for key in (one.key, one.low, one.high) if key)


@dataclass(frozen=True)
class Deployment:
    """The study: one comparison a batch size, all runs in the same rounds.

    Attributes:
        batches: of images a call.
        size: height and width of the images.
        threads: of the CPU.
        rounds: at least so many.
        seconds: of timed calls in a comparison at most, once there are enough rounds.
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
        """One cell a batch."""
        return Layout({f"batch {batch}": self._cell(batch, setting.device) for batch in self.batches})

    def report(self, results: Results) -> Report:
        """A table of all runs, and a sentence for each ratio that the study is about."""
        labels, records = results.manifest.cells, results.records
        frame = pd.DataFrame([row for label in labels for row in _rows(label, records.get(label))])
        kept = [one for one in COLUMNS if one.key != "joules_per_image" or frame[one.key].notna().any()]
        caption = self._caption(records)
        files = write_tables(frame, kept, results.folder / "table", caption)
        done = {label: record for label, record in records.items() if record.status == "ok"}
        findings = [sentence for label, record in done.items() for sentence in _findings(label, record)]
        return Report(results.folder, frame, kept, caption, files, findings)

    def _cell(self, batch: int, device: str) -> Cell:
        runs = {label: RunConfig(archs.config(run.network), self._protocol(batch, run)) for label, run in RUNS.items()}
        return comparison_cell(runs, f"race at batch {batch}", self.size, NUM_CLASSES, device)

    def _protocol(self, batch: int, run: Run) -> SpeedProtocol:
        return SpeedProtocol(
            batch=batch, form=run.form, runtime=run.runtime, precision=run.precision, memory_format=run.memory_format,
            threads=self.threads, calls=3, rounds=self.rounds, max_seconds=self.seconds, warmup_seconds=2.0,
        )  # fmt: skip

    def _caption(self, records: Mapping[str, Record]) -> str:
        kinds = sorted({record.environment.get("device_kind", "") for record in records.values()} - {""})
        where = f" on {' and '.join(kinds)}" if kinds else ""
        return (
            f"{self.size[0]}x{self.size[1]}, {NUM_CLASSES} classes, CPU threads: {self.threads}{where}. All runs of a "
            "batch size are timed in the same rounds. Medians with 95 % intervals; the roofline share is of the rates "
            "that the device reached in those rounds."
        )


def _rows(label: str, record: Record | None) -> list[dict[str, Any]]:
    """One row a run; runs that were not timed keep the reason."""
    result = record.result if record is not None and record.status == "ok" else {}
    status = ("missing", "not measured yet") if record is None else (record.status, record.reason)
    speeds, rows = result.get("speeds", {}), []
    for name, run in RUNS.items():
        row = {**dict.fromkeys(KEYS), "batch": int(label.split()[-1]), "variant": name, **run._asdict()}
        if name in speeds:
            ratio = recorded_ratio(speeds, name, REFERENCE)
            row |= {key: speeds[name][key] for key in KEYS if key in speeds[name]}
            row |= {"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high}
        else:
            why = ("skipped", result["missing"].get(name, "")) if result else status
            row |= {"status": why[0], "reason": why[1]}
        rows.append(row)
    return rows


def _findings(label: str, record: Record) -> list[str]:
    """The three ratios that have a target, then what bf16 does."""
    speeds = record.result["speeds"]
    full = [name for name, run in RUNS.items() if run.precision == "fp32"]
    own = [name for name in full if RUNS[name].network != BASELINE]
    best, theirs = quickest(speeds, own), quickest(speeds, [name for name in full if name not in own])
    torch_only = quickest(speeds, [name for name in own if RUNS[name].runtime in TORCH])
    load = _foreign_load(record)
    found = [f"{label}: {load}"] if load else []
    for target, fast, slow in (("best", best, REFERENCE), ("baseline", best, theirs), ("torch", torch_only, REFERENCE)):
        if fast and slow and fast != slow:
            found.append(f"{label}: {fast} has {_against_target(speeds, fast, slow, TARGETS[target], bool(load))}.")
    low = [name for name in speeds if RUNS[name].precision == "bf16"]
    ratios = {name: _times(speeds, name, name.removesuffix(" bf16")) for name in low}
    return found + [f"{label}: {name} has {ratio} of fp32; F1 not measured." for name, ratio in ratios.items()]


def _foreign_load(record: Record) -> str:
    """A sentence if other processes took cores that the networks' threads needed; empty if there were enough."""
    speeds = record.result["speeds"].values()
    others = max((speed.get("other_cores") or 0.0 for speed in speeds), default=0.0)
    threads, cores = max(speed["threads"] for speed in speeds), record.environment["usable_cores"]
    if others + threads <= cores + TOLERABLE:
        return ""
    return (
        f"background CPU load: other processes used {others:.1f} of {cores} cores beside {threads} threads. Runtimes "
        "suffer from it differently, so these ratios have no verdict; run the study again on an idle machine."
    )


def _against_target(speeds: Mapping[str, Any], fast: str, slow: str, target: float, disturbed: bool) -> str:
    ratio = recorded_ratio(speeds, fast, slow)
    verdict = "met" if ratio.low >= target else "undecided" if ratio.high >= target else "missed"
    return f"{_times(speeds, fast, slow)} of {slow}; target {target:g}×: {'no verdict' if disturbed else verdict}"


def _times(speeds: Mapping[str, Any], fast: str, slow: str) -> str:
    ratio = recorded_ratio(speeds, fast, slow)
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times the throughput"


STUDY = Deployment()
