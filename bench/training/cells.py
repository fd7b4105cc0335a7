"""Cells of training: one network, one data set, one recipe, one seed."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import archs
from archs import ArchConfig
from bench.data import RGB, DataSet
from bench.engine import Cell, CellContext, CellFailed
from bench.records import pack_array
from bench.records.identity import changed_fields, network_determinants, network_libraries, versions
from bench.training.curves import curves_folder
from bench.training.recipe import Recipe

PANEL_TILES = 4  # test tiles whose predictions are kept, for the panels of image, truth and prediction


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
    curves: Path | None = None,
) -> Cell:
    """One training. With `test` the best weights are scored on the test tiles, once; a search leaves it out.

    Threads are no determinant: they change the last bits of a run, not what it stands for. The record names those of
    every sitting; on a CPU equal threads throughout give equal figures, to the bit, in whichever process.

    Args:
        weights: a folder that the best weights are written to, as `<key>.safetensors`.
        curves: a folder that the training writes its curves to, see `bench.training.curves.curves_folder`.
    """
    from bench.records.environment import device_kind

    determinants = {
        **network_determinants(config, data.classes.num_classes, data.in_channels),
        "data": _data_determinants(data),
        "recipe": changed_fields(recipe),
        "seed": seed,
        "test": test,
        "device": device_kind(device),
        "versions": versions("torch", *network_libraries(config)),
    }

    label = f"{label}, seed {seed}"
    run = partial(_train, config, data, recipe, seed, device, test, weights, (curves, label) if curves else None)
    cost = _train_cost(config, recipe)
    about = {"config": archs.to_dict(config), "recipe": recipe.to_dict(), "data": data.name}
    return Cell("train", label, determinants, run, cost=cost, untimed=True, long=True, about=about)


def _train(
    config: ArchConfig,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    device: str,
    test: bool,
    weights: Path | None,
    curves: tuple[Path, str] | None,
    context: CellContext,
) -> Mapping[str, Any]:
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
        curves=curves_folder(*curves, context.scratch.name) if curves else None,
    )
    figures = result.figures()
    if result.status == "failed":
        raise CellFailed(result.reason, figures)
    if test:
        figures["panels"] = _panels(model, data, recipe, device)
    if weights is not None:
        _keep_weights(model, weights / f"{context.scratch.name}.safetensors")
    return figures


def _data_determinants(data: DataSet) -> dict[str, Any]:
    """Pixels, classes, bands other than RGB, which fold; neither the set's name nor the colours that it is drawn in."""
    found: dict[str, Any] = {"fingerprint": data.fingerprint, "tile_size": data.tile_size}
    if data.bands != RGB:
        found["bands"] = [asdict(band) for band in data.bands]
    if data.fold is not None:
        found["fold"] = asdict(data.fold)
    return found


def panel_indices(tiles: int) -> list[int]:
    """The test tiles shown in panels: evenly spaced, so that no one picks the flattering ones."""
    return sorted(set(np.linspace(0, tiles - 1, min(PANEL_TILES, tiles)).round().astype(int).tolist()))


def _train_cost(config: ArchConfig, recipe: Recipe) -> float:
    """Steps times tiles; the network's own share is unknown before it has been counted."""
    side = recipe.crop or 256
    return recipe.steps * recipe.batch * (side / 64) ** 2


def _panels(model: torch.nn.Module, data: DataSet, recipe: Recipe, device: str) -> dict[str, Any]:
    from bench.training.evaluate import predict

    test = data["test"]
    indices = panel_indices(len(test.tiles))
    chosen = test.images[indices]
    predictions = predict(model, chosen, batch=1, device=device, precision=recipe.precision, bands=data.bands)
    return {"indices": indices, "predictions": pack_array(np.asarray(predictions, dtype=np.uint8))}


def _keep_weights(model: torch.nn.Module, path: Path) -> None:
    from bench.training.checkpoint import save_weights

    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
