"""The parts of one optimiser step: its batch, its loss and gradient, and the watch for what is not finite."""

import math
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from archs.segmenter import require_logits
from bench.errors import BenchError
from bench.training.augment import augment
from bench.training.evaluate import autocast
from bench.training.loss import Loss
from bench.training.recipe import Recipe
from bench.training.tiles import Tiles, batch_indices, derive_seed, generator

READ_EVERY = 16
"""Steps between two reads of the loss from a GPU: each read waits until the device has caught up."""


def training_batch(
    tiles: Tiles, recipe: Recipe, seed: int, step: int
) -> tuple[Float[Tensor, "n b h w"], UInt8[Tensor, "n h w"]]:
    """The augmented batch of one step, the same for every network trained under this seed."""
    images, masks = tiles.take(batch_indices(seed, step, recipe.batch, len(tiles)))
    batch, masks = augment(images, masks, recipe, generator(seed, "augment", step), tiles.bands)
    return (batch if recipe.channels_last else batch.contiguous()), masks


def descend(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    recipe: Recipe,
    batch: Float[Tensor, "n b h w"],
    truth: UInt8[Tensor, "n h w"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; its loss and the norm of its gradient before clipping, both left on the device.

    Raises:
        BenchError: one image is too small a batch for a batch norm over one pixel.
    """
    optimiser.zero_grad(set_to_none=True)
    with autocast(batch.device, recipe.precision):
        value = _loss_or_sentence(model, loss, batch, truth)
    value.backward()
    limit = math.inf if recipe.clip is None else recipe.clip
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimiser.step()
    return value.detach(), norm


def _loss_or_sentence(
    model: nn.Module, loss: Loss, batch: Float[Tensor, "n b h w"], truth: UInt8[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    try:
        return _loss(model, loss, batch, truth)
    except ValueError as error:  # PyTorch's own, or a network's that knows its rule
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = batch.shape[-2:]
        raise BenchError(
            f"this network cannot train on a batch of {len(batch)} at {height}x{width}: its coarsest map has one "
            "pixel, of which a batch norm finds no variance; use --recipe batch=2 or larger tiles"
        ) from error


def _loss(model: Any, loss: Loss, batch: Float[Tensor, "n b h w"], truth: UInt8[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """The loss of the logits, and of each auxiliary head by its weight where the network has some."""
    if not hasattr(model, "forward_aux"):
        return loss(require_logits(model(batch), batch), truth)
    logits, auxiliary = model.forward_aux(batch)
    return loss(logits, truth) + sum(weight * loss(extra, truth) for weight, extra in auxiliary)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def seed_step(seed: int, step: int) -> None:
    """Reseed torch for what the network itself draws in this step (dropout, drop path)."""
    torch.manual_seed(derive_seed(seed, "step", step))


class LossWatch:
    """Sums the loss and remembers the first step that was not finite, on the device, read only now and then."""

    def __init__(self, device: torch.device, total: float) -> None:
        self.total = torch.tensor(total, dtype=torch.float64, device=device)
        self.failed_step = torch.zeros((), dtype=torch.int64, device=device)
        self.newest = math.nan
        """the loss as last read"""
        self.read_every = READ_EVERY if device.type == "cuda" else 1

    def add(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> None:
        """Take the loss and gradient norm of step `step` (from 1)."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self.failed_step = torch.where(finite | (self.failed_step > 0), self.failed_step, step)
        self.total += loss
        self.last = loss

    def failure(self) -> str:
        """Read from the device: a sentence about the first step that was not finite, or nothing."""
        self.newest = float(self.last)
        step = int(self.failed_step)
        return f"The loss or its gradient became non-finite at step {step}." if step else ""

    def restart(self) -> None:
        """Begin a new sum."""
        self.total.zero_()
