"""Batch norms with stored statistics, multiplied into the layers around them.

In evaluation such a norm is `scale * x + shift` for each channel. Which of them can go where is found by
`archs.deployment.search`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archs.layers import BatchRMSNorm

PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchRMSNorm)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)


Layer = Any
"""A layer or a norm of any kind: torch cannot say which attributes a module has."""


@dataclass(frozen=True)
class Before:
    """The norm called `norm` goes into these layers' outputs: its scale into all, its shift into `shifted`."""

    norm: str
    layers: tuple[str, ...]
    shifted: str


@dataclass(frozen=True)
class After:
    """The norm called `norm` goes into these layers' inputs, from a channel each onwards."""

    norm: str
    layers: tuple[tuple[str, int], ...]


Fold = Before | After


def fold_norms(model: nn.Module, folds: Sequence[Fold]) -> None:
    """Fold in place; each norm leaves behind what else its module does (an activation, or nothing)."""
    modules = dict(model.named_modules())
    with torch.no_grad():
        for fold in folds:
            scale, shift = affine(modules[fold.norm])
            if isinstance(fold, Before):
                for name in fold.layers:
                    scale_outputs(modules[name], scale)
                add_bias(modules[fold.shifted], shift)
            else:
                for name, first in fold.layers:
                    _absorb_inputs(modules[name], scale, shift, first)
    replace(model, {modules[fold.norm]: remainder(modules[fold.norm]) for fold in folds})


# --- arithmetic -------------------------------------------------------------------------------------------------------


def affine(norm: Layer) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation, `(C,)` each."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = norm.weight * scale
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else norm.bias + shift


def scale_outputs(layer: Layer, scale: Tensor) -> None:
    """Multiply each output channel of a layer by its scale, `(C,)`."""
    weight = layer.weight.data
    if isinstance(layer, _TRANSPOSED):  # (in, out / groups, ...)
        groups = weight.unflatten(0, (layer.groups, -1))
        by_group = scale.view(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
        layer.weight.data = (groups * by_group).flatten(0, 1)
    else:
        layer.weight.data = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    if layer.bias is not None:
        layer.bias.data = layer.bias.data * scale


def add_bias(layer: Layer, shift: Tensor) -> None:
    """Add a shift, `(C,)`, to the outputs of a layer."""
    bias = shift if layer.bias is None else layer.bias.data + shift
    layer.bias = nn.Parameter(bias.clone(), requires_grad=False)


def scale_inputs(layer: Layer, scale: Tensor) -> None:
    """Multiply each input channel of a convolution or linear layer by its scale, `(C,)` or one for all."""
    by_group = _by_input_group(layer, scale).unflatten(-1, (-1, *[1] * (layer.weight.ndim - 2)))
    groups = layer.weight.data.unflatten(0, (by_group.shape[0], -1))
    layer.weight.data = (groups * by_group[:, None]).flatten(0, 1)


def shift_inputs(layer: Layer, shift: Tensor) -> None:
    """Let a layer find each input channel shifted, `(C,)` or one for all; a convolution must not pad."""
    by_group = _by_input_group(layer, shift)
    taps = layer.weight.data.flatten(1).unflatten(1, (by_group.shape[1], -1)).sum(2)  # (C_out, inputs of a group)
    groups = taps.unflatten(0, (by_group.shape[0], -1))
    add_bias(layer, (groups @ by_group[:, :, None]).flatten())


def _by_input_group(layer: Layer, values: Tensor) -> Tensor:
    """`(groups, inputs of a group)`."""
    groups = getattr(layer, "groups", 1)
    return values.expand(groups * layer.weight.shape[1]).unflatten(0, (groups, -1))


def _absorb_inputs(layer: Layer, scale: Tensor, shift: Tensor, first: int) -> None:
    """`scale * x + shift` on the input channels from `first`; the others stay."""
    inputs = getattr(layer, "groups", 1) * layer.weight.shape[1]
    channels = slice(first, first + scale.numel())
    scales, shifts = scale.new_ones(inputs), shift.new_zeros(inputs)
    scales[channels], shifts[channels] = scale, shift
    shift_inputs(layer, shifts)  # by the weights as they were
    scale_inputs(layer, scales)


# --- modules ----------------------------------------------------------------------------------------------------------


def remainder(norm: Layer) -> nn.Module | None:
    """What a batch norm's module still does once the norm is folded; None where that is not known."""
    if is_hooked(norm):
        return None
    if type(norm) in PLAIN_NORMS:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm."):
        return nn.Sequential(norm.drop, norm.act) if not isinstance(norm.drop, nn.Identity) else norm.act
    return None


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody reads or changes what goes through the module, and would miss it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def replace(model: nn.Module, changes: Mapping[nn.Module, nn.Module | None]) -> None:
    """Put the new module of each pair wherever the old one stands below `model`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in changes:
                setattr(parent, name, changes[child])
