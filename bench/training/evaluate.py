"""Class maps of whole tiles at native size, and the confusion matrices of a network over a split, in the arithmetic of
the training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from bench.data.bands import RGB, Band
from bench.data.classes import Classes
from bench.errors import BenchError
from bench.training.augment import Stored, normalise
from bench.training.metrics import boundary_confusion, confusion
from bench.training.recipe import Recipe
from bench.training.tiles import Tiles


class NonFiniteError(BenchError):
    """A network gave logits that are not finite, so its class maps mean nothing."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The arithmetic of a recipe: bf16 runs the forward pass under autocast, fp32 leaves it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def predict_batch(
    model: nn.Module, images: Stored, precision: str, bands: tuple[Band, ...] = RGB
) -> tuple[UInt8[Tensor, "n h w"], Float[Tensor, ""]]:
    """Class maps of one batch on its device, and a number that is finite only if every winning logit is."""
    batch = normalise(images, bands)
    with torch.inference_mode(), autocast(images.device, precision):
        winner, classes = model(batch).max(dim=1)
    return classes.to(torch.uint8), winner.float().sum()


def predict(
    model: nn.Module,
    images: np.ndarray,
    batch: int = 8,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    bands: tuple[Band, ...] = RGB,
) -> UInt8[np.ndarray, "n h w"]:
    """Class maps of tiles (N, H, W, B) of stored pixels, `batch` at a time; the model is moved to `device` and left
    in its mode.

    Raises `NonFiniteError` when the network gives logits that are not finite.
    """
    device = torch.device(device)
    training = model.training
    model.to(device).eval()
    maps = []
    try:
        for first in range(0, len(images), batch):
            tiles = torch.tensor(images[first : first + batch], device=device)
            classes, level = predict_batch(model, tiles, precision, bands)
            require_finite(level)
            maps.append(classes.cpu().numpy())
    finally:
        model.train(training)
    return np.concatenate(maps) if maps else np.zeros(images.shape[:3], np.uint8)


def require_finite(level: Float[Tensor, ""]) -> None:
    """Raise `NonFiniteError` if the number that `predict_batch` gave is not finite."""
    if not torch.isfinite(level):
        raise NonFiniteError("The network gives logits that are not finite; train it again at a lower learning rate.")


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
