"""What a study found, read from its manifest and its records: one row a variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.records import Record, unpack_array
from bench.report.columns import INCOMPLETE
from bench.stats import DELTA, SCENES, THESE_IMAGES, Comparison, Evidence, evidence, macro_f1, macro_iou, scene_values
from bench.stats.looks import seeds_to_settle
from bench.stats.model import ALPHA
from bench.stats.pooled import average, class_counts, class_f1
from bench.stats.verdicts import Scope
from bench.study.deployed import DEPLOYED, INT8, DeployedRun
from bench.study.layout import BASELINES, speed_label, static_label, train_label
from bench.study.protocol import Results
from bench.training.metrics import scores
from bench.training.recipe import still_rising

STATIC = (
    "params", "macs", "fvcore_macs", "thop_macs", "storage_bytes", "paper_mib", "activations", "launches",
    "deployed_params", "deployed_macs", "deployed_launches", "deployed_file_bytes",
)  # fmt: skip
LATENCY = ("latency_ms", "latency_low", "latency_high")
THROUGHPUT = (
    "throughput", "throughput_low", "throughput_high", "ceiling_share", "ceiling_share_low", "ceiling_share_high",
)  # fmt: skip
ACCURACY = ("f1", "f1_low", "f1_high", "iou", "iou_low", "iou_high", "boundary_f1", "rising")
EFFECT = [
    "effect", "effect_low", "effect_high", "verdict", "scenes_effect", "scenes_low", "scenes_high", "scenes_verdict",
    "seeds_needed",
]  # fmt: skip
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
    delta: float
    deltas: tuple[float, ...]
    looks: tuple[Mapping[str, Any], ...]
    cells: frozenset[str]
    rows: tuple[Row, ...]

    def planned(self, label: str) -> list[tuple[int, int]]:
        """Seed and fold (0 where there are none) of a variant's trainings; a settled study has more of some, and those
        that are trained for its next look wait until it is taken."""
        seeds = self.seeds[: self.looks[-1]["seeds"].get(label)] if self.looks else self.seeds
        runs = [(seed, fold) for seed in seeds for fold in range(1, self.folds + 1) or (0,)]
        return [run for run in runs if train_label(label, *run) in self.cells]

    @classmethod
    def of(cls, results: Results) -> "Declared":
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
            delta=setting.get("delta", DELTA),
            deltas=tuple(details.get("deltas", ())),
            looks=tuple(details.get("looks", ())),
            cells=frozenset(manifest.cells),
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
        evidence: the models of the scores of all variants with two or more; None where there is none.
        deployed: the run of deployed latencies; None where the study has none.
        speed_machine: whose latency and throughput are, in words; empty where nothing was timed.
    """

    manifest: Declared
    frame: pd.DataFrame
    runs: Mapping[str, Mapping[tuple[int, int], Record]]
    baselines: Mapping[str, float]
    evidence: Evidence | None = None
    deployed: DeployedRun | None = None
    speed_machine: str = ""

    @property
    def test_scenes(self) -> tuple[str, ...] | None:
        """The scene of each test tile, in the order of `confusions`; None where they tell nothing of other scenes."""
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

    def succeeded(self, label: str) -> list[Record]:
        """The trainings of a variant that did not fail, by seed and fold."""
        return [record for record in self.runs[label].values() if record.status == "ok"]

    def rising(self, label: str) -> list[bool]:
        """Whether each training of a variant that did not fail was still rising at its end."""
        return [still_rising(record.result["history"]) for record in self.succeeded(label)]

    def pooled(self, label: str) -> np.ndarray | None:
        """One matrix over all test tiles and seeds; None without a training."""
        found = list(self.confusions(label).values())
        return np.sum([matrices.sum(axis=0) for matrices in found], axis=0) if found else None

    def class_f1(self, label: str) -> list[float] | None:
        """F1 of each class, the mean over seeds; None without a training."""
        found = [class_f1(class_counts(matrices.sum(axis=0))) for matrices in self.confusions(label).values()]
        return average(np.transpose(found)).tolist() if found else None


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
    deployed = None
    if DEPLOYED in declared.cells:
        scored = {label: records.get(label) for label in declared.cells if label.startswith(INT8)}
        deployed = DeployedRun(records.get(DEPLOYED), scored, declared.delta)
    if deployed is not None:
        rows = [{**row, **deployed.columns(row["variant"])} for row in rows]
    found = records.get(BASELINES)
    baselines = found.result if found else declared.data.get("guesses", {})
    result = StudyResult(
        declared, pd.DataFrame(rows), runs, baselines, deployed=deployed, speed_machine=_machine_of(speeds)
    )
    result = replace(result, evidence=evidence_of(result))
    return replace(result, frame=_with_accuracy(result))


def _machine_of(speeds: Sequence[Record | None]) -> str:
    """The device and the threads of the first speeds that are there."""
    for record in speeds:
        timed = next(iter((record.result or {}).get("speeds", {}).values()), None) if record else None
        if record is not None and timed is not None:
            threads = f"{timed['threads']} thread{'s' if timed['threads'] > 1 else ''}"
            return f"{record.environment.get('device_kind', 'an unknown device')}, {threads}"
    return ""


def evidence_of(result: StudyResult) -> Evidence | None:
    """The models of a study's scores, and of its test scenes where these stand for others."""
    matrices = {row.label: result.confusions(row.label) for row in result.manifest.rows}
    scenes, folds = result.test_scenes, result.manifest.folds
    values = None
    if scenes is not None:
        values = {label: scene_values(list(runs.values()), scenes) for label, runs in matrices.items() if runs}
    return evidence({label: _scores(runs) for label, runs in matrices.items()}, values, folds)


def _scores(runs: Mapping[int, np.ndarray], metric: Any = macro_f1) -> dict[int, float]:
    return {seed: float(metric(class_counts(matrices.sum(axis=0)))) for seed, matrices in runs.items()}


def _runs(row: Row, manifest: Declared, records: Mapping[str, Record]) -> dict[tuple[int, int], Record]:
    found = {run: records.get(train_label(row.label, *run)) for run in manifest.planned(row.label)}
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
        "uncounted": ", ".join(counts.get("unknown_operators") or ()),
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
    planned = len(manifest.planned(row.label))
    waiting = planned - len(runs) if row.trained else 0
    if waiting:
        return INCOMPLETE, f"{waiting} of {planned} {'trainings' if manifest.folds else 'seeds'} {MISSING}"
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
    f1, iou = _intervals(result, "f1", macro_f1), _intervals(result, "iou", macro_iou)
    scored = pd.DataFrame([_accuracy(result, row, f1, iou) for row in result.manifest.rows])
    result = replace(result, frame=pd.concat([result.frame, scored], axis=1))
    return _with_cost_changes(pd.concat([result.frame, _comparisons(result)], axis=1))


Interval = dict[str, float | None]


def _intervals(result: StudyResult, key: str, metric: Any) -> dict[str, Interval]:
    """Of each variant with a training, its mean score and the interval over trainings; what is compared is these."""
    found = {row.label: _scores(result.confusions(row.label), metric) for row in result.manifest.rows}
    means = {label: float(np.mean(list(scores.values()))) for label, scores in found.items() if scores}
    known = result.evidence if metric is macro_f1 else evidence(found)
    if known is not None and not known.trainings.layout.present.all():
        means |= known.means()
    halves = known.half_widths() if known else {}
    return {label: _interval(key, mean, halves.get(label)) for label, mean in means.items()}


def _interval(key: str, mean: float, half: float | None) -> Interval:
    low, high = (None, None) if half is None else (max(0.0, mean - half), min(1.0, mean + half))
    return {key: mean, f"{key}_low": low, f"{key}_high": high}


def _accuracy(result: StudyResult, row: Row, f1: Mapping[str, Interval], iou: Mapping[str, Interval]) -> dict[str, Any]:
    runs = result.confusions(row.label)
    if not runs:
        return {"seeds": 0, **dict.fromkeys(ACCURACY)}
    return {
        "seeds": len(runs),
        **f1[row.label],
        **iou[row.label],
        "boundary_f1": _boundary_f1(result, row.label),
        "rising": float(np.mean(result.rising(row.label))),
    }


def _boundary_f1(result: StudyResult, label: str) -> float:
    """Mean over seeds of macro F1 on the pixels near a boundary of the truth."""
    matrices = result.confusions(label, "test_boundary_confusions").values()
    return float(np.mean([scores(matrix.sum(axis=0)).macro_f1 for matrix in matrices]))


def _comparisons(result: StudyResult) -> pd.DataFrame:
    """Every variant against its base, in both scopes; all of a study's comparisons hold together."""
    scored = {row.label for row in result.manifest.rows if result.confusions(row.label)}
    pairs = [(row.label, row.base) for row in result.manifest.rows if row.base in scored and row.label in scored]
    judged = [pair for pair in pairs if result.evidence is not None and {*pair} <= {*result.evidence.labels}]
    here = {variant: _unjudged(result, variant, base) for variant, base in pairs}
    here |= _compared(result, judged, THESE_IMAGES)
    known = result.evidence is not None and result.evidence.scenes is not None
    there = _compared(result, judged, SCENES) if known else {}
    labels = [row.label for row in result.manifest.rows]
    rows = [_effect(result, here.get(label), there.get(label), len(judged)) for label in labels]
    return pd.DataFrame(rows, columns=EFFECT)


def _compared(result: StudyResult, pairs: Sequence[tuple[str, str]], scope: Scope) -> dict[str, Comparison]:
    """By variant."""
    m = result.manifest
    if result.evidence is None:
        return {}
    level = m.looks[-1]["level"] if m.looks else ALPHA
    found = result.evidence.compare(pairs, scope=scope, delta=m.delta, level=level)
    return {comparison.variant: comparison for comparison in found}


def _unjudged(result: StudyResult, variant: str, base: str) -> Comparison:
    """Without a second seed there is an effect, over the seeds that both have if any, and nothing to judge it by."""
    own, others = (_scores(result.confusions(label)) for label in (variant, base))
    shared, nan = own.keys() & others.keys(), float("nan")
    ours, theirs = (np.mean([f1[seed] for seed in shared or f1]) for f1 in (own, others))
    return Comparison(variant, base, float(ours - theirs), nan, nan, nan, "undecided", THESE_IMAGES)


def _effect(result: StudyResult, here: Comparison | None, there: Comparison | None, comparisons: int) -> dict[str, Any]:
    """The columns of `EFFECT`, of one of so many comparisons; a verdict that an earlier look reached stands."""
    if here is None:
        return dict.fromkeys(EFFECT)
    earlier = [look["verdicts"].get(here.variant, "undecided") for look in result.manifest.looks]
    verdict = next((word for word in earlier if word != "undecided"), here.verdict)
    found = {"effect": here.effect, "effect_low": here.low, "effect_high": here.high, "verdict": verdict}
    if there is not None:
        beyond = {"scenes_low": there.low, "scenes_high": there.high, "scenes_verdict": there.verdict}
        found |= {"scenes_effect": there.effect, **beyond}
    needed = _seeds_needed(result, here, comparisons) if verdict == "undecided" else None
    return {**dict.fromkeys(EFFECT), **found, "seeds_needed": needed}


def _seeds_needed(result: StudyResult, comparison: Comparison, comparisons: int) -> int | None:
    """Seeds of both networks that would settle it on these test images, if the effect is as it was seen."""
    known = result.evidence
    if known is None or not comparison.error > 0:
        return None
    variances = known.trainings.variances
    pair = [known.labels.index(label) for label in (comparison.variant, comparison.base)]
    return seeds_to_settle(
        comparison.effect,
        float(variances[pair].sum()),
        0.0,
        result.manifest.delta,
        seeds=len(result.confusions(comparison.variant)),
        critical=(comparison.high - comparison.low) / 2 / comparison.error,
        comparisons=comparisons,
    )


def _with_cost_changes(frame: pd.DataFrame) -> pd.DataFrame:
    by_label = frame.set_index("variant")
    for key in ("params", "macs"):
        base = frame["base"].map(lambda label, key=key: by_label[key].get(label) if label else None)
        frame[f"delta_{key}"] = pd.to_numeric(frame[key]) - pd.to_numeric(base)
    return frame
