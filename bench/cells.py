"""The cells of every study: what determines a figure, and the run that makes it.

Studies and searches build their cells here and nowhere else, so that equal questions have equal keys and a figure
measured for one answers all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import archs
from archs import ArchConfig
from bench.engine import Cell, CellContext, CellFailed
from bench.records import pack_array

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.speed import SpeedProtocol
    from bench.training.recipe import Recipe
    from bench.training.trainer import TrainResult

IMAGE_CHANNELS = 3
LIBRARIES = {
    "smp": ("segmentation-models-pytorch", "timm"),
    "dpt": ("segmentation-models-pytorch", "timm"),
    "timm": ("timm",),
}
# Of what a static record holds. 2 has the deployed form beside the trained one; 3 leaves fvcore's count of the deployed
# form out, and weights, however they are viewed, out of the peak of activations.
STATIC_SCHEMA = 3
PANEL_TILES = 4  # test tiles whose predictions are kept, for the panels of image, truth and prediction


def static_cell(config: ArchConfig, label: str, size: tuple[int, int], num_classes: int) -> Cell:
    """Counts of a network: parameters, MACs by every counter, storage, activations; no arithmetic is timed."""
    determinants = {
        "schema": STATIC_SCHEMA,
        "config": archs.to_dict(config),
        "size": size,
        "num_classes": num_classes,
        "in_channels": IMAGE_CHANNELS,
        "versions": _versions("torch", "fvcore", "thop", *_library(config)),
    }

    run = partial(_static_figures, config, size, num_classes)
    return Cell("static", f"{label}: counts", determinants, run, untimed=True)


def _static_figures(
    config: ArchConfig, size: tuple[int, int], num_classes: int, context: CellContext
) -> Mapping[str, Any]:
    from bench.static import static_figures

    return static_figures(config, size, num_classes, IMAGE_CHANNELS)


def cost_cell(config: ArchConfig, label: str, size: tuple[int, int], num_classes: int) -> Cell:
    """Parameters and exact MACs alone: what a list wants, in a fraction of a second."""
    determinants = {
        "config": archs.to_dict(config),
        "size": size,
        "num_classes": num_classes,
        "in_channels": IMAGE_CHANNELS,
        "versions": _versions("torch", *_library(config)),
    }

    return Cell("cost", label, determinants, partial(_costs, config, size, num_classes), untimed=True)


def _costs(config: ArchConfig, size: tuple[int, int], num_classes: int, context: CellContext) -> Mapping[str, Any]:
    from bench.counting import count_macs, count_params

    model = archs.build(config, num_classes, IMAGE_CHANNELS)
    return {"params": count_params(model).total, "macs": count_macs(model, size, IMAGE_CHANNELS).total}


def speed_cell(
    configs: Mapping[str, ArchConfig], size: tuple[int, int], num_classes: int, protocol: SpeedProtocol, device: str
) -> Cell:
    """Speed of several networks, interleaved: one measurement, since speeds of different times do not compare."""
    from bench.environment import device_kind

    determinants = {
        "configs": {label: archs.to_dict(config) for label, config in configs.items()},
        "size": size,
        "num_classes": num_classes,
        "protocol": asdict(protocol),
        "threads": protocol.threads or torch.get_num_threads(),
        "device": device_kind(device),
        "versions": _versions("torch"),
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.speed import measure_speed

        models = {label: archs.build(config, num_classes, IMAGE_CHANNELS) for label, config in configs.items()}
        failures = {label: reason for label, model in models.items() if (reason := _refusal(model, size))}
        fit = {label: model for label, model in models.items() if label not in failures}
        speeds = measure_speed(fit, size, protocol, device) if fit else {}
        return {"speeds": {label: speed.to_dict() for label, speed in speeds.items()}, "failures": failures}

    return Cell("speed", f"speed at batch {protocol.batch}", determinants, run, cost=float(len(configs)))


def _refusal(model: torch.nn.Module, size: tuple[int, int]) -> str:
    """Why a network does not run at a size; empty if it does. One that fails must not cost the others their figures."""
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, IMAGE_CHANNELS, *size))
    except Exception as error:  # whatever it raises is the answer
        return str(error).strip() or type(error).__name__
    return ""


def train_cell(
    config: ArchConfig,
    label: str,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    device: str,
    *,
    test: bool = True,
    weights: Path | None = None,
) -> Cell:
    """One training. With `test` the best weights are scored on the test tiles, once; a search leaves it out.

    Threads are no determinant: they change the last bits of a run, not what it stands for, and the record's
    environment names them.

    Args:
        weights: a folder that the best weights are written to, as `<key>.safetensors`.
    """
    from bench.environment import device_kind

    determinants = {
        "config": archs.to_dict(config),
        "data": {"name": data.name, "fingerprint": data.fingerprint, "tile_size": data.tile_size},
        "num_classes": data.classes.num_classes,
        "recipe": recipe.to_dict(),
        "seed": seed,
        "test": test,
        "device": device_kind(device),
        "versions": _versions("torch", *_library(config)),
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.training.trainer import train_config

        model, result = train_config(
            config,
            data,
            recipe,
            seed,
            device=device,
            folder=context.scratch,
            on_step=lambda step, total, loss: context.progress(step, total, f"loss {loss:.3f}"),
            test=test,
        )
        figures = _train_figures(result)
        if result.status == "failed":
            raise CellFailed(result.reason, figures)
        if test:
            figures["panels"] = _panels(model, data, recipe, device)
        if weights is not None:
            _keep_weights(model, weights / f"{cell.key}.safetensors")
        return figures

    cell = Cell("train", f"{label}, seed {seed}", determinants, run, cost=_train_cost(config, recipe))
    return cell


def panel_indices(tiles: int) -> list[int]:
    """The test tiles shown in panels: evenly spaced, so that no one picks the flattering ones."""
    return sorted(set(np.linspace(0, tiles - 1, min(PANEL_TILES, tiles)).round().astype(int).tolist()))


def _versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in sorted(set(packages))}


def _library(config: ArchConfig) -> tuple[str, ...]:
    """The packages whose code is part of the network, beside torch."""
    parts = (config, getattr(config, "encoder", config), getattr(config, "decoder", config))
    families = {getattr(part, "family", "") for part in parts}
    return tuple(package for family in families for package in LIBRARIES.get(family, ()))


def _train_cost(config: ArchConfig, recipe: Recipe) -> float:
    """Steps times tiles; the network's own share is unknown before it has been counted."""
    side = recipe.crop or 256
    return recipe.steps * recipe.batch * (side / 64) ** 2


def _train_figures(result: TrainResult) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "steps": result.steps,
        "best_step": result.best_step,
        "history": result.history,
        "train_seconds": result.seconds,
        "peak_bytes": result.peak_bytes,
    }
    for field in ("val_confusion", "test_confusions", "test_boundary_confusions"):
        matrix = getattr(result, field)
        if matrix is not None:
            figures[field] = pack_array(matrix)
            figures[f"{field.split('_confusion')[0]}_scores"] = _scores(matrix)
    return figures


def _scores(matrix: np.ndarray) -> dict[str, float]:
    from bench.metrics import scores

    found = scores(matrix if matrix.ndim == 2 else matrix.sum(axis=0))
    return {"macro_f1": found.macro_f1, "macro_iou": found.macro_iou, "accuracy": found.accuracy}


def _panels(model: torch.nn.Module, data: DataSet, recipe: Recipe, device: str) -> dict[str, Any]:
    from bench.training.predict import predict

    test = data["test"]
    indices = panel_indices(len(test.tiles))
    predictions = predict(model, test.images[indices], batch=1, device=device, precision=recipe.precision)
    return {"indices": indices, "predictions": pack_array(np.asarray(predictions, dtype=np.uint8))}


def _keep_weights(model: torch.nn.Module, path: Path) -> None:
    from bench.training.checkpoint import save_weights

    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
