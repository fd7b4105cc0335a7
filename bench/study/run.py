"""From a declared study to its cells, and the run of those that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

import archs
from bench.counting.cells import static_cell
from bench.data import DataSet, open_data
from bench.engine import Cell, run_cells
from bench.records import RecordStore
from bench.records.environment import environment
from bench.speed.cells import speed_cell
from bench.study.declare import Setting, Study, Variant
from bench.study.manifest import Manifest, Row
from bench.training.cells import train_cell

RECORDS = "records"
WEIGHTS = "weights"


@dataclass(frozen=True)
class StudyPlan:
    """The cells of a study under a setting, in the order they are measured, and the manifest that names them."""

    cells: tuple[Cell, ...]
    manifest: Manifest
    folder: Path
    store: RecordStore


def plan_study(study: Study, setting: Setting, data: DataSet | None = None) -> StudyPlan:
    """Lay out the cells: counts first, then speed, then trainings, all variants under a seed before the next seed.

    So an interrupted study has compared what it could. A variant that cannot take the tiles is planned as skipped,
    with the reason; one that is tied to another size is counted at that size all the same.

    Raises:
        BenchError: the data cannot be opened.
    """
    data = data or open_data(setting.data)
    study = replace(study, variants=tuple(_fitted(variant, data) for variant in study.variants))
    skipped = {v.label: _misfit(v, _sizes(study, v, setting, data)) for v in study.variants}
    fitting = [v for v in study.variants if not _misfit(v, {setting.size})]
    counted = [v for v in study.variants if v in fitting or v.inputs.fixed] if "static" in study.instruments else []
    statics = {v.label: _static(v, setting, data) for v in counted}
    timed = [v for v in fitting if study.is_timed(v)]
    speeds = _speeds(timed, setting, data) if timed else {}
    trained = [v for v in study.variants if study.is_trained(v) and not skipped[v.label]]
    trains = {v.label: _trains(v, setting, data) for v in trained}
    rows = tuple(
        _row(study, v, statics.get(v.label), trains.get(v.label, []), skipped[v.label]) for v in study.variants
    )
    manifest = Manifest(
        study=study.name,
        question=study.question,
        base=study.base,
        figures=tuple(study.figures),
        data=_describe(data),
        recipe=setting.recipe.to_dict(),
        seeds=tuple(setting.seeds),
        size=setting.size,
        device=setting.device,
        speeds={str(batch): cell.key for batch, cell in speeds.items()},
        rows=rows,
    )
    by_seed = [cells[i] for i in range(len(setting.seeds)) for cells in trains.values()]
    return StudyPlan(
        (*statics.values(), *speeds.values(), *by_seed),
        manifest,
        setting.out / study.name,
        RecordStore(setting.out / RECORDS),
    )


def run_study(plan: StudyPlan, *, console: Console | None = None, retry_failed: bool = False) -> None:
    """Measure what is missing and save the manifest (first, so that a part of a study can be looked at).

    Raises:
        BenchError: the disk is full, or a record is damaged.
        StudyInterrupted: Ctrl-C; the same study goes on from there.
    """
    plan.manifest.save(plan.folder)
    run_cells(
        plan.cells,
        plan.store,
        environment=environment(plan.manifest.device),
        console=console,
        retry_failed=retry_failed,
    )


def _sizes(study: Study, variant: Variant, setting: Setting, data: DataSet) -> set[tuple[int, int]]:
    """Every size of image that the study shows a variant."""
    if not study.is_trained(variant):
        return {setting.size}
    crop = setting.recipe.crop
    return {setting.size, data.tile_size, (crop, crop) if crop else data.tile_size}


def _misfit(variant: Variant, sizes: set[tuple[int, int]]) -> str:
    """Why the variant cannot take one of the sizes; empty if it can."""
    for height, width in sorted(sizes):
        try:
            variant.inputs.check(height, width)
        except archs.ArchError as error:
            return f"{error}; counted at that size" if variant.inputs.fixed else str(error)
    return ""


def _fitted(variant: Variant, data: DataSet) -> Variant:
    """A network tied to a nominal input size is made for the tiles that it is scored on."""
    if variant.inputs.fixed is not None:
        return variant
    return replace(variant, config=archs.fit_image_size(variant.config, data.tile_size))


def _static(variant: Variant, setting: Setting, data: DataSet) -> Cell:
    size = variant.inputs.fixed or setting.size
    return static_cell(variant.config, variant.label, size, data.classes.num_classes)


def _speeds(variants: Sequence[Variant], setting: Setting, data: DataSet) -> dict[int, Cell]:
    from bench.speed.measure import SpeedProtocol

    configs = {variant.label: variant.config for variant in variants}
    return {
        batch: speed_cell(configs, setting.size, data.classes.num_classes, SpeedProtocol(batch=batch), setting.device)
        for batch in setting.batches
    }


def _trains(variant: Variant, setting: Setting, data: DataSet) -> list[Cell]:
    weights = setting.out / WEIGHTS if setting.keep_weights else None
    return [
        train_cell(variant.config, variant.label, data, setting.recipe, seed, setting.device, weights=weights)
        for seed in setting.seeds
    ]


def _row(study: Study, variant: Variant, static: Cell | None, trains: Sequence[Cell], skipped: str) -> Row:
    return Row(
        label=variant.label,
        family=archs.family_of(variant.config),
        factor=variant.factor,
        static=static.key if static else None,
        trains=tuple(cell.key for cell in trains),
        trained=study.is_trained(variant),
        skipped=skipped,
        base=(variant.base or study.base) if variant.label != study.base else None,
    )


def _describe(data: DataSet) -> dict:
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "tile_size": list(data.tile_size),
        "tiles": {name: len(split) for name, split in data.splits.items()},
        "classes": data.classes.to_dict(),
        "guesses": _guesses(data),
    }


def _guesses(data: DataSet) -> dict[str, float]:
    """Macro F1 on the test tiles of guesses that see no shapes: the commonest class, and colour alone."""
    from bench.training.baseline import colour_baseline, majority_baseline
    from bench.training.metrics import scores

    return {
        "majority": scores(majority_baseline(data)).macro_f1,
        "colour": scores(colour_baseline(data)).macro_f1,
    }
