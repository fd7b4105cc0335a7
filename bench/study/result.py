"""What a study found, read from its manifest and its records: one row a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Record, RecordStore, unpack_array
from bench.stats import Comparison, compare, f1_interval, holm, macro_iou, verdict
from bench.study.manifest import Manifest, Row, load_manifest
from bench.training.metrics import scores

STATIC = (
    "params", "macs", "fvcore_macs", "thop_macs", "storage_bytes", "paper_mib", "activations", "launches",
    "deployed_params", "deployed_macs", "deployed_launches", "deployed_file_bytes",
)  # fmt: skip
LATENCY = ("latency_ms", "latency_low", "latency_high")
THROUGHPUT = (
    "throughput", "throughput_low", "throughput_high", "ceiling_share", "ceiling_share_low", "ceiling_share_high",
)  # fmt: skip
ACCURACY = ("f1", "f1_low", "f1_high", "iou", "iou_low", "iou_high", "boundary_f1")
MISSING = "not measured yet"


@dataclass(frozen=True)
class StudyResult:
    """A study's figures.

    Attributes:
        manifest: what was run.
        frame: one row a variant, in the study's order; see `bench.report.columns` for the columns and units.
        runs: variant -> the training records of its seeds that are there, by seed.
    """

    manifest: Manifest
    frame: pd.DataFrame
    runs: Mapping[str, Mapping[int, Record]]

    def confusions(self, label: str) -> dict[int, np.ndarray]:
        """By seed, one confusion matrix a test tile (tiles, C, C), of the trainings that succeeded."""
        return {
            seed: unpack_array(record.result["test_confusions"])
            for seed, record in self.runs[label].items()
            if record.status == "ok"
        }

    def pooled(self, label: str) -> np.ndarray | None:
        """One matrix over all test tiles and seeds; None without a training."""
        found = list(self.confusions(label).values())
        return np.sum([matrices.sum(axis=0) for matrices in found], axis=0) if found else None

    def class_f1(self, label: str) -> list[float] | None:
        """F1 of each class, the mean over seeds; None without a training."""
        found = [scores(matrices.sum(axis=0)).f1 for matrices in self.confusions(label).values()]
        return np.mean(found, axis=0).tolist() if found else None


def load_result(folder: Path) -> StudyResult:
    """Read a study's folder; records lie in the `records` folder beside it.

    Raises:
        BenchError: the folder holds no study.
    """
    manifest = load_manifest(folder)
    store = RecordStore(folder.parent / "records")
    runs = {row.label: _runs(row, manifest.seeds, store) for row in manifest.rows}
    speeds = [store.get(key) for _, key in sorted(manifest.speeds.items(), key=lambda item: int(item[0]))]
    rows = [_figures(row, manifest, store, speeds, runs[row.label]) for row in manifest.rows]
    result = StudyResult(manifest, pd.DataFrame(rows), runs)
    return StudyResult(manifest, _with_accuracy(result), runs)


def _runs(row: Row, seeds: Sequence[int], store: RecordStore) -> dict[int, Record]:
    found = {seed: store.get(key) for seed, key in zip(seeds, row.trains, strict=False)}
    return {seed: record for seed, record in found.items() if record is not None}


def _figures(
    row: Row, manifest: Manifest, store: RecordStore, speeds: Sequence[Record | None], runs: Mapping[int, Record]
) -> dict[str, Any]:
    """The counts and speeds of one row, and why any of it is missing."""
    static = store.get(row.static) if row.static else None
    counts = static.result if static and static.result else {}
    status, reason = _status(row, manifest, static, runs)
    return {
        "variant": row.label,
        "family": row.family,
        "factor": row.factor,
        "base": row.base or "",
        "status": status,
        "reason": reason,
        **{key: counts.get(key) for key in STATIC},
        **_speed(row.label, speeds[:1], LATENCY),
        **_speed(row.label, speeds[-1:], THROUGHPUT),
    }


def _status(row: Row, manifest: Manifest, static: Record | None, runs: Mapping[int, Record]) -> tuple[str, str]:
    if row.skipped:
        return "skipped", row.skipped
    if static is not None and static.status == "failed":
        return "failed", static.reason
    failed = {seed: record.reason for seed, record in runs.items() if record.status == "failed"}
    if failed:
        return "failed", "; ".join(f"seed {seed}: {reason}" for seed, reason in failed.items())
    waiting = len(manifest.seeds) - len(runs) if row.trained else 0
    if waiting:
        return "incomplete", f"{waiting} of {len(manifest.seeds)} seeds {MISSING}"
    return "", ""


def _speed(label: str, records: Sequence[Record | None], keys: Sequence[str]) -> dict[str, Any]:
    speeds = records[0].result.get("speeds", {}) if records and records[0] is not None and records[0].result else {}
    return {key: speeds.get(label, {}).get(key) for key in keys}


def _with_accuracy(result: StudyResult) -> pd.DataFrame:
    scored = pd.DataFrame([_accuracy(result, row) for row in result.manifest.rows])
    frame = pd.concat([result.frame, scored], axis=1)
    return _with_cost_changes(pd.concat([frame, _comparisons(result)], axis=1))


def _accuracy(result: StudyResult, row: Row) -> dict[str, Any]:
    runs = list(result.confusions(row.label).values())
    if not runs:
        return {"seeds": 0, **dict.fromkeys(ACCURACY)}
    f1, iou = f1_interval(runs), f1_interval(runs, metric=macro_iou)
    return {
        "seeds": len(runs),
        "f1": f1.value,
        "f1_low": f1.low,
        "f1_high": f1.high,
        "iou": iou.value,
        "iou_low": iou.low,
        "iou_high": iou.high,
        "boundary_f1": _boundary_f1(result.runs[row.label]),
    }


def _boundary_f1(runs: Mapping[int, Record]) -> float:
    """Mean over seeds of macro F1 on the pixels near a boundary of the truth."""
    matrices = [unpack_array(r.result["test_boundary_confusions"]) for r in runs.values() if r.status == "ok"]
    return float(np.mean([scores(matrix.sum(axis=0)).macro_f1 for matrix in matrices]))


def _comparisons(result: StudyResult) -> pd.DataFrame:
    """Effect of every variant against its base, with Holm's correction over the study."""
    found = [_compared(result, row) for row in result.manifest.rows]
    adjusted = iter(holm([comparison.p for comparison in found if comparison is not None]))
    return pd.DataFrame([_effect(comparison, adjusted) for comparison in found])


def _compared(result: StudyResult, row: Row) -> Comparison | None:
    if row.base is None:
        return None
    base, own = result.confusions(row.base), result.confusions(row.label)
    common = sorted(base.keys() & own.keys())
    return compare([base[seed] for seed in common], [own[seed] for seed in common]) if common else None


def _effect(comparison: Comparison | None, adjusted: Any) -> dict[str, Any]:
    keys = ("effect", "effect_low", "effect_high", "p", "verdict", "seeds_needed")
    if comparison is None:
        return dict.fromkeys(keys)
    p = next(adjusted)
    c = comparison
    return dict(zip(keys, (c.effect, c.low, c.high, p, verdict(c, p), c.seeds_needed), strict=True))


def _with_cost_changes(frame: pd.DataFrame) -> pd.DataFrame:
    by_label = frame.set_index("variant")
    for key in ("params", "macs"):
        base = frame["base"].map(lambda label, key=key: by_label[key].get(label) if label else None)
        frame[f"delta_{key}"] = pd.to_numeric(frame[key]) - pd.to_numeric(base)
    return frame
