"""Losses over logits (N, K, H, W) and class indices (N, H, W), computed in float32, ignored pixels left out."""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from bench.training.recipe import Recipe

Logits = Float[Tensor, "n k h w"]
Truth = UInt8[Tensor, "n h w"]
Loss = Callable[[Logits, Truth], Float[Tensor, ""]]


def dice_loss(logits: Logits, truth: Truth, ignore_index: int | None = None) -> Float[Tensor, ""]:
    """Multiclass soft Dice as the LALE authors use it.

    With p the softmax over classes and t the one-hot truth, sums running over all valid pixels of the batch:

        loss = 1/K * sum over classes k in the batch of (1 - 2 sum p_k t_k / (sum p_k + sum t_k))

    No smoothing. A class that no valid pixel of the batch has contributes zero to the sum, and the mean is still
    over all K classes. A batch without any valid pixel has loss 0.
    """
    classes = logits.shape[1]
    hit = _one_hot(truth, classes)  # (N, K, H, W); nothing is set at ignored pixels
    probability = logits.float().softmax(dim=1)
    overlap = (probability * hit).sum(dim=(0, 2, 3))
    predicted = probability if ignore_index is None else probability * (truth != ignore_index).unsqueeze(1)
    present = hit.sum(dim=(0, 2, 3))
    # An absent class is masked before the division, so that neither value nor gradient can become 0/0.
    size = torch.where(present > 0, predicted.sum(dim=(0, 2, 3)) + present, 1.0)
    return ((1.0 - 2.0 * overlap / size) * (present > 0)).sum() / classes


def _one_hot(truth: Truth, classes: int) -> Float[Tensor, "n k h w"]:
    index = torch.arange(classes, device=truth.device, dtype=truth.dtype).view(1, -1, 1, 1)
    return (truth.unsqueeze(1) == index).float()


def cross_entropy(logits: Logits, truth: Truth, ignore_index: int | None = None) -> Float[Tensor, ""]:
    """Mean cross-entropy over valid pixels; 0, and not 0/0, for a batch without any."""
    skip = -100 if ignore_index is None else ignore_index
    total = functional.cross_entropy(logits.float(), truth.long(), ignore_index=skip, reduction="sum")
    valid = truth.numel() if ignore_index is None else (truth != ignore_index).sum().clamp_min(1)
    return total / valid


def make_loss(recipe: Recipe, ignore_index: int | None) -> Loss:
    """The loss that the recipe names; "dice+ce" is the plain sum."""
    terms = [_TERMS[name] for name in recipe.loss.split("+")]

    def loss(logits: Logits, truth: Truth) -> Float[Tensor, ""]:
        return torch.stack([term(logits, truth, ignore_index) for term in terms]).sum()

    return loss


_TERMS = {"dice": dice_loss, "ce": cross_entropy}
