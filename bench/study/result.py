"""What a study found, read from its manifest and its records: one row a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.records import Record, unpack_array
from bench.stats import Comparison, compare, f1_interval, holm, macro_iou, verdict
from bench.study.layout import BASELINES, speed_label, static_label, train_label
from bench.study.protocol import Results
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
class Row:
    """One variant: its label, its family, its factor, and what it is compared with.

    `trained`: whether it was to be. `skipped`: why it was not measured, if it was not.
    """

    label: str
    family: str
    factor: str
    base: str | None
    trained: bool
    skipped: str


@dataclass(frozen=True)
class Declared:
    """What was compared, under which setting, as the manifest of a `VariantStudy` says."""

    study: str
    question: str
    base: str | None
    figures: tuple[str, ...]
    data: Mapping[str, Any]
    recipe: Mapping[str, Any]
    seeds: tuple[int, ...]
    folds: int
    size: tuple[int, int]
    batches: tuple[int, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, results: Results) -> Declared:
        """Read from the manifest of what was measured."""
        manifest = results.manifest
        details, setting = manifest.details, manifest.setting
        return cls(
            study=manifest.study,
            question=manifest.question,
            base=details["base"],
            figures=tuple(details["figures"]),
            data=details["data"],
            recipe=setting["recipe"],
            seeds=tuple(setting["seeds"]),
            folds=setting.get("folds", 0),
            size=tuple(setting["size"]),
            batches=tuple(sorted(batch for batch in setting["batches"] if speed_label(batch) in manifest.cells)),
            rows=tuple(_row(one, details["base"], manifest.skipped) for one in details["variants"]),
        )


def _row(one: Mapping[str, Any], base: str | None, skipped: Mapping[str, str]) -> Row:
    label = one["label"]
    compared = (one["base"] or base) if label != base else None
    return Row(label, one["family"], one["factor"], compared, one["trained"], skipped.get(label, ""))


@dataclass(frozen=True)
class Panels:
    """Some test tiles as the first training predicted them, by variant: `predictions` (tiles, H, W) of the tiles at
    `indices` of the test split, which is that of `fold` where that is not 0."""

    fold: int
    indices: list[int]
    predictions: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StudyResult:
    """A study's figures.

    Attributes:
        manifest: what was run.
        frame: one row a variant, in the study's order; see `bench.report.columns` for the columns and units.
        runs: variant -> the training records that are there, by seed and fold (0 where there are no folds).
        baselines: macro F1 on the test tiles of what sees no shapes; empty where it was not computed.
    """

    manifest: Declared
    frame: pd.DataFrame
    runs: Mapping[str, Mapping[tuple[int, int], Record]]
    baselines: Mapping[str, float]

    @property
    def test_scenes(self) -> tuple[str, ...] | None:
        """The scene of each test tile, in the order of `confusions`; None where scenes are not known."""
        scenes = self.manifest.data.get("test_scenes")
        return None if scenes is None else tuple(scenes)

    def confusions(self, label: str, kind: str = "test_confusions") -> dict[int, np.ndarray]:
        """By seed, one confusion matrix a test tile (tiles, C, C); with folds, the tiles of fold 1, then of fold 2 and
        so on. A seed of which a training failed or is missing is left out."""
        found = self.fold_confusions(label, kind)
        whole = max(1, self.manifest.folds)
        return {seed: np.concatenate(list(folds.values())) for seed, folds in found.items() if len(folds) == whole}

    def fold_confusions(self, label: str, kind: str = "test_confusions") -> dict[int, dict[int, np.ndarray]]:
        """By seed and fold, one confusion matrix a test tile, of the trainings that succeeded."""
        found: dict[int, dict[int, np.ndarray]] = {}
        for (seed, fold), record in self.runs[label].items():
            if record.status == "ok":
                found.setdefault(seed, {})[fold] = unpack_array(record.result[kind])
        return found

    def panels(self, labels: Sequence[str]) -> Panels | None:
        """What the first of `labels` predicted in its first training, and the others in that same one; None where
        none was trained."""
        kept = {
            label: {run: r.result["panels"] for run, r in self.runs[label].items() if r.status == "ok" and r.result}
            for label in labels
        }
        run = next((run for runs in kept.values() for run in runs), None)
        shown = {label: runs[run] for label, runs in kept.items() if run in runs}
        if run is None:
            return None
        predictions = {label: unpack_array(panels["predictions"]) for label, panels in shown.items()}
        return Panels(run[1], next(iter(shown.values()))["indices"], predictions)

    def pooled(self, label: str) -> np.ndarray | None:
        """One matrix over all test tiles and seeds; None without a training."""
        found = list(self.confusions(label).values())
        return np.sum([matrices.sum(axis=0) for matrices in found], axis=0) if found else None

    def class_f1(self, label: str) -> list[float] | None:
        """F1 of each class, the mean over seeds; None without a training."""
        found = [scores(matrices.sum(axis=0)).f1 for matrices in self.confusions(label).values()]
        return np.mean(found, axis=0).tolist() if found else None


def result_of(results: Results) -> StudyResult:
    """The figures of a `VariantStudy`.

    Raises:
        BenchError: the study is of another kind.
    """
    if not results.manifest.declared:
        raise BenchError(f"the study {results.manifest.study} declares no variants, so it has no table of them")
    declared, records = Declared.of(results), results.records
    runs = {row.label: _runs(row, declared, records) for row in declared.rows}
    speeds = [records.get(speed_label(batch)) for batch in declared.batches]
    rows = [_figures(row, declared, records, speeds, runs[row.label]) for row in declared.rows]
    found = records.get(BASELINES)
    baselines = found.result if found else declared.data.get("guesses", {})
    result = StudyResult(declared, pd.DataFrame(rows), runs, baselines)
    return replace(result, frame=_with_accuracy(result))


def _runs(row: Row, manifest: Declared, records: Mapping[str, Record]) -> dict[tuple[int, int], Record]:
    planned = [(seed, fold) for seed in manifest.seeds for fold in range(1, manifest.folds + 1) or (0,)]
    found = {run: records.get(train_label(row.label, *run)) for run in planned}
    return {run: record for run, record in found.items() if record is not None}


def _figures(
    row: Row,
    manifest: Declared,
    records: Mapping[str, Record],
    speeds: Sequence[Record | None],
    runs: Mapping[tuple[int, int], Record],
) -> dict[str, Any]:
    """The counts and speeds of one row, and why any of it is missing."""
    static = records.get(static_label(row.label))
    counts = static.result if static and static.result else {}
    status, reason = _status(row, manifest, static, runs)
    untimed = _untimed(row.label, speeds)
    if untimed and status not in ("skipped", "failed"):
        status, reason = "failed", "; ".join(filter(None, (untimed, reason)))
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


def _status(
    row: Row, manifest: Declared, static: Record | None, runs: Mapping[tuple[int, int], Record]
) -> tuple[str, str]:
    if row.skipped:
        return "skipped", row.skipped
    if static is not None and static.status == "failed":
        return "failed", static.reason
    failed = {run: record.reason for run, record in runs.items() if record.status == "failed"}
    if failed:
        return "failed", "; ".join(f"{_run_name(*run)}: {reason}" for run, reason in failed.items())
    planned = len(manifest.seeds) * max(1, manifest.folds)
    waiting = planned - len(runs) if row.trained else 0
    if waiting:
        return "incomplete", f"{waiting} of {planned} {'trainings' if manifest.folds else 'seeds'} {MISSING}"
    return "", ""


def _run_name(seed: int, fold: int) -> str:
    return f"seed {seed}, fold {fold}" if fold else f"seed {seed}"


def _untimed(label: str, records: Sequence[Record | None]) -> str:
    """Why the speed of a network is missing from a measurement of several; empty where it is not."""
    reasons = [
        record.reason or record.result.get("failures", {}).get(label, "") for record in records if record is not None
    ]
    return "; ".join(dict.fromkeys(f"not timed: {reason}" for reason in reasons if reason))


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
        "boundary_f1": _boundary_f1(result, row.label),
    }


def _boundary_f1(result: StudyResult, label: str) -> float:
    """Mean over seeds of macro F1 on the pixels near a boundary of the truth."""
    matrices = result.confusions(label, "test_boundary_confusions").values()
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
