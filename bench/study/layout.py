"""From declared variants to their cells."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import archs
from bench.counting.cells import static_cell
from bench.data import DataSet, open_data
from bench.data.folds import fold, scope_of_folds
from bench.engine import Cell, CellContext
from bench.records import RecordStore
from bench.speed.cells import speed_cell
from bench.speed.comparison import missing
from bench.study.adoption import adopted
from bench.study.declare import AccuracyCell, Variant, VariantStudy
from bench.study.deployed import DEPLOYED, RUNTIMES, deployed_cell, deployed_protocol, int8_label
from bench.study.protocol import RECORDS, WEIGHTS, Layout, Setting
from bench.training.cells import train_cell
from bench.training.curves import CURVES
from bench.training.trained import TrainedNetwork

BASELINES = "baselines"


def static_label(variant: str) -> str:
    """Label of the cell of a variant's counts."""
    return f"static: {variant}"


def speed_label(batch: int) -> str:
    """Label of the cell of all variants' speed at a batch size."""
    return f"speed: batch {batch}"


def train_label(variant: str, seed: int, fold: int = 0) -> str:
    """Label of the cell of a variant's training with a seed, on a fold where there are folds."""
    return f"train: {variant}, seed {seed}" + (f", fold {fold}" if fold else "")


def lay_out(study: VariantStudy, setting: Setting) -> Layout:
    """See `VariantStudy.layout`.

    A variant that cannot take the tiles is skipped, with the reason; one that is tied to another size is counted at
    that size all the same.
    """
    data = open_data(setting.data)
    parts = {k: fold(data, k, setting.folds) for k in range(1, setting.folds + 1)} or {0: data}
    study = replace(study, variants=tuple(_fitted(variant, data) for variant in study.variants))
    skipped = {v.label: _misfit(v, _sizes(study, v, setting, data)) for v in study.variants}
    skipped = {label: reason for label, reason in skipped.items() if reason}
    fitting = [v for v in study.variants if not _misfit(v, {setting.size})]
    counted = [v for v in study.variants if v in fitting or v.inputs.fixed] if "static" in study.instruments else []
    timed = [v for v in fitting if study.is_timed(v)]
    trained = [v for v in study.variants if study.is_trained(v) and v.label not in skipped]
    for part in parts.values() if trained else ():
        part.require_scorable(intervals=not setting.folds)
    cells = {static_label(v.label): _static(v, setting, data) for v in counted}
    cells |= _speeds(timed, setting, data) if timed and "speed" in study.instruments else {}
    cells |= {DEPLOYED: deployed_cell(timed, setting, data)} if timed and "deployed" in study.instruments else {}
    cells |= {
        train_label(variant.label, seed, k): _train(variant, seed, k, setting, part)
        for seed in setting.seeds
        for k, part in parts.items()
        for variant in trained
    }
    if study.accuracy is not None and "deployed" in study.instruments:
        cells |= _accuracies(
            [v for v in timed if v in trained],
            study.accuracy,
            setting,
            next(iter(parts.items())),
            adopted(cells, RecordStore(setting.out / RECORDS), {}),  # weights lie under the key that is reported
        )
    cells |= {BASELINES: baselines_cell(list(parts.values()))} if trained else {}
    return Layout(cells, skipped, _details(study, data, list(parts.values())))


def baselines_cell(parts: Sequence[DataSet]) -> Cell:
    """Macro F1 of what sees no shapes: the majority class, and a classifier of a pixel's colour; on the test tiles of
    the data set, or of all its folds."""

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.training.baseline import colour_baseline, majority_baseline
        from bench.training.metrics import scores

        found = {"majority": majority_baseline, "colour": colour_baseline}
        pooled = {name: np.sum([baseline(part) for part in parts], axis=0) for name, baseline in found.items()}
        return {name: scores(matrix).macro_f1 for name, matrix in pooled.items()}

    first, *others = [part.fingerprint for part in parts]
    data = {"fingerprint": first, **({"other_folds": others} if others else {})}
    determinants = {"data": data, "num_classes": parts[0].classes.num_classes}
    return Cell("baselines", "baselines without a network", determinants, run)


def _sizes(study: VariantStudy, variant: Variant, setting: Setting, data: DataSet) -> set[tuple[int, int]]:
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
    return static_cell(variant.config, variant.label, size, data.classes.num_classes, data.in_channels)


def _speeds(variants: Sequence[Variant], setting: Setting, data: DataSet) -> dict[str, Cell]:
    from bench.speed.measure import SpeedProtocol

    configs = {variant.label: variant.config for variant in variants}
    classes, bands = data.classes.num_classes, data.in_channels
    protocols = {batch: SpeedProtocol(batch=batch) for batch in setting.batches}
    return {
        speed_label(batch): speed_cell(configs, setting.size, classes, protocol, setting.device, bands)
        for batch, protocol in protocols.items()
    }


def _train(variant: Variant, seed: int, k: int, setting: Setting, data: DataSet) -> Cell:
    weights = setting.out / WEIGHTS if setting.keep_weights else None
    curves = setting.out / CURVES if setting.log else None
    label = f"{variant.label}, fold {k}" if k else variant.label
    recipe, device = setting.recipe, setting.device
    return train_cell(variant.config, label, data, recipe, seed, device, weights=weights, curves=curves)


def _accuracies(
    variants: Sequence[Variant],
    accuracy: AccuracyCell,
    setting: Setting,
    part: tuple[int, DataSet],
    cells: Mapping[str, Cell],
) -> dict[str, Cell]:
    """Scores in int8 of the first training of each variant, if its weights are there."""
    k, data = part
    found = {}
    for variant in variants:
        key = cells[train_label(variant.label, setting.seeds[0], k)].key
        weights = setting.out / WEIGHTS / f"{key}.safetensors"
        if weights.is_file():
            trained = TrainedNetwork.of(variant.label, variant.config, data, weights)
            for protocol in (deployed_protocol(runtime, "int8") for runtime in RUNTIMES["int8"]):
                if not missing(protocol, setting.device):
                    label = int8_label(variant.label, protocol.runtime)
                    found[label] = accuracy(trained, data, protocol, label, setting.device)
    return found


def _details(study: VariantStudy, data: DataSet, parts: Sequence[DataSet]) -> dict[str, Any]:
    return {
        "base": study.base,
        "figures": list(study.figures),
        "instruments": list(study.instruments),
        "variants": [
            {
                **variant.to_dict(),
                "family": archs.family_of(variant.config),
                "trained": study.is_trained(variant),
                "timed": study.is_timed(variant),
            }
            for variant in study.variants
        ],
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "tile_size": list(data.tile_size),
            "tiles": {name: len(split) for name, split in data.splits.items()},
            "classes": data.classes.to_dict(),
            "credit": data.credit,
            "gsd_m": data.gsd_m,
            "scope": scope_of_folds(parts) if len(parts) > 1 else data.scope,
            "test_scenes": scenes_tested(parts),
        },
    }


def scenes_tested(parts: Sequence[DataSet]) -> list[str] | None:
    """The scene of each test tile; None where scenes are not known, or some are in train too: no score on them tells
    anything of other scenes."""
    known = all(part.scenes_known and not {*part["test"].scenes} & {*part["train"].scenes} for part in parts)
    return [scene for part in parts for scene in part["test"].scenes] if known else None
