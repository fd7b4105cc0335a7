"""Class maps of whole tiles at their native size, in eval mode."""

from contextlib import AbstractContextManager

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from bench.data.bands import RGB, Band
from bench.errors import BenchError
from bench.training.augment import Stored, normalise


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
