"""Confusion matrices of a network over a split: whole tiles at native size, in the arithmetic of the training."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from bench.data.classes import Classes
from bench.errors import BenchError
from bench.training.metrics import boundary_confusion, confusion
from bench.training.predict import predict_batch, require_finite
from bench.training.recipe import Recipe
from bench.training.tiles import Tiles

ClassMaps = tuple[UInt8[Tensor, "n h w"], UInt8[Tensor, "n h w"]]


def evaluate(model: nn.Module, tiles: Tiles, classes: Classes, recipe: Recipe) -> Int64[np.ndarray, "n c c"]:
    """One confusion matrix a tile. Leaves the model in eval mode; raises `NonFiniteError` for logits that are not."""
    found = [
        confusion(pred, truth, classes.num_classes, classes.ignore_index)
        for pred, truth in _class_maps(model, tiles, recipe)
    ]
    return np.concatenate(found)


def evaluate_with_boundaries(
    model: nn.Module, tiles: Tiles, classes: Classes, recipe: Recipe
) -> tuple[Int64[np.ndarray, "n c c"], Int64[np.ndarray, "n c c"]]:
    """`evaluate`, and the same near the truth's boundaries, from one pass over the tiles."""
    whole, near = [], []
    for pred, truth in _class_maps(model, tiles, recipe):
        whole.append(confusion(pred, truth, classes.num_classes, classes.ignore_index))
        near.append(boundary_confusion(pred, truth, classes.num_classes, classes.ignore_index))
    return np.concatenate(whole), np.concatenate(near)


def _class_maps(model: nn.Module, tiles: Tiles, recipe: Recipe) -> Iterator[ClassMaps]:
    """Prediction and truth of batch after batch."""
    if not len(tiles):
        raise BenchError("There are no tiles to evaluate on; the val and test splits need at least one each.")
    model.eval()
    first, levels = 0, []
    while first < len(tiles):
        images, truth = tiles.take(torch.arange(first, min(first + _batch(recipe, tiles), len(tiles))))
        pred, level = predict_batch(model, images, recipe.precision, tiles.bands)
        levels.append(level)
        yield pred, truth
        first += len(truth)
    require_finite(torch.stack(levels).sum())


def _batch(recipe: Recipe, tiles: Tiles) -> int:
    """As many tiles as have the pixels of a training batch: what fits in memory there fits here."""
    height, width = tiles.size
    side = recipe.crop
    pixels = recipe.batch * (height * width if side is None else side * side)
    return max(1, pixels // (height * width))
