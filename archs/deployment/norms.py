"""Batch norms with stored statistics, folded into the convolutions and linear layers around them.

In evaluation such a norm is `scale * x + shift` for each channel. It goes *before*, into the layers whose outputs (or
their sum) it reads, where nobody else reads those; or *after*, into the convolutions that read it, where none of them
pads (padding adds zeros after the shift, so that no bias can stand for it). Which norms these are is read from the
data flow, not from names or the order of modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from archs.deployment.flow import Call, Flow, Value

NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "cudnn_batch_norm"}
# They move elements, or add zeros; what becomes of the channels is tried out, not presumed.
MOVES = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "transpose", "permute", "t", "unsqueeze", "squeeze"),
    *("slice", "constant_pad_nd", "clone", "alias", "detach"),
}
PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)


@dataclass(frozen=True)
class Before:
    """The norm called `norm` goes into these layers' outputs: its scale into all, its shift into `shifted`."""

    norm: str
    layers: tuple[str, ...]
    shifted: str


@dataclass(frozen=True)
class After:
    """The norm called `norm` goes into these convolutions' inputs, from a channel each onwards."""

    norm: str
    layers: tuple[tuple[str, int], ...]


Fold = Before | After


def find_folds(model: nn.Module, flow: Flow) -> set[Fold]:
    """What can be folded, judged by one pass."""
    return _Finder(dict(model.named_modules()), flow).folds()


def fold_norms(model: nn.Module, folds: Iterable[Fold]) -> None:
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
            replace(model, modules[fold.norm], remainder(modules[fold.norm]))


# --- arithmetic -------------------------------------------------------------------------------------------------------


def affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation, `(C,)` each."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = norm.weight * scale
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else norm.bias + shift


def scale_outputs(layer: nn.Module, scale: Tensor) -> None:
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


def add_bias(layer: nn.Module, shift: Tensor) -> None:
    """Add a shift, `(C,)`, to the outputs of a layer."""
    bias = shift if layer.bias is None else layer.bias.data + shift
    layer.bias = nn.Parameter(bias.clone(), requires_grad=False)


def scale_inputs(layer: nn.Module, scale: Tensor) -> None:
    """Multiply each input channel of a convolution by its scale, `(C,)` or one for all."""
    weight = layer.weight.data
    by_group = scale.expand(layer.in_channels).view(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
    layer.weight.data = (weight.unflatten(0, (layer.groups, -1)) * by_group).flatten(0, 1)


def shift_inputs(layer: nn.Module, shift: Tensor) -> None:
    """Let a convolution without padding find each input channel shifted, `(C,)` or one for all."""
    taps = layer.weight.data.flatten(2).sum(2).unflatten(0, (layer.groups, -1))  # (groups, out, in), each per group
    by_group = shift.expand(layer.in_channels).view(layer.groups, -1, 1)
    add_bias(layer, (taps @ by_group).flatten())


def _absorb_inputs(layer: nn.Module, scale: Tensor, shift: Tensor, first: int) -> None:
    """`scale * x + shift` on the input channels from `first`; the others stay."""
    channels = slice(first, first + scale.numel())
    scales, shifts = scale.new_ones(layer.in_channels), shift.new_zeros(layer.in_channels)
    scales[channels], shifts[channels] = scale, shift
    shift_inputs(layer, shifts)  # by the weights as they were
    scale_inputs(layer, scales)


# --- modules ----------------------------------------------------------------------------------------------------------


def remainder(norm: nn.Module) -> nn.Module | None:
    """What a batch norm's module still does once the norm is folded; None where that is not known."""
    if type(norm) in PLAIN_NORMS:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm."):
        return nn.Sequential(norm.drop, norm.act) if not isinstance(norm.drop, nn.Identity) else norm.act
    return None


def replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` stands below `model`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


# --- search -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A layer that a norm's input comes from: its output, the dimension of its channels, and the way from there."""

    layer: str
    output: Value
    dimension: int
    moves: tuple[Call, ...]


class _Finder:
    def __init__(self, modules: dict[str, nn.Module], flow: Flow) -> None:
        self.modules = modules
        self.flow = flow

    def folds(self) -> set[Fold]:
        norms = [(name, call) for call in self.flow.calls if (name := self._norm(call)) is not None]
        found = (self._before(name, call) or self._after(name, call) for name, call in norms)
        return {fold for fold in found if fold is not None}

    def _norm(self, call: Call) -> str | None:
        """The name of the norm that this call is, if it uses stored statistics and is called this once."""
        if call.operator not in NORMS or call.arguments.get("training"):
            return None
        statistics = call.arguments["running_mean"]
        owner = self._owner(statistics, "running_mean")
        return owner if owner is not None and remainder(self.modules[owner]) is not None else None

    def _owner(self, value: Value | None, attribute: str) -> str | None:
        """The module whose attribute this value is, if the pass reads it once."""
        if value is None or not isinstance(value.name, str) or self.flow.only_reader(value) is None:
            return None
        owner, _, name = value.name.rpartition(".")
        return owner if name == attribute else None

    def _layer(self, weight: Value, bias: Value | None) -> str | None:
        """The layer that these are the weight and bias of."""
        owner = self._owner(weight, "weight")
        if owner is None or not isinstance(self.modules[owner], LAYERS):
            return None
        if bias is None:  # one may be added, if the layer would use it
            return owner if "bias" in type(self.modules[owner]).forward.__code__.co_names else None
        return owner if self._owner(bias, "bias") == owner else None

    def _before(self, norm: str, call: Call) -> Before | None:
        value = call.arguments["input"]
        sources = self._sources(value, ()) if self.flow.only_reader(value) is call else None
        if sources is None:
            return None
        kept = [self._channels_kept(source) for source in sources]
        exact = [source.layer for source, (_, whole) in zip(sources, kept, strict=True) if whole]
        if not (exact and all(same for same, _ in kept)):
            return None
        return Before(norm, tuple(source.layer for source in sources), exact[0])

    def _sources(self, value: Value, moves: tuple[Call, ...]) -> list[_Source] | None:
        """The layers whose outputs, moved and summed, are `value`, if nothing else reads anything on the way."""
        call = self.flow.producer.get(value)
        if call is None:
            return None
        if call.operator in ("convolution", "mm", "addmm"):
            source = self._source(call, moves)
            return None if source is None else [source]
        if call.operator == "add":
            return self._summands(call, moves)
        if call.operator in MOVES and not call.arguments.get("value"):
            return self._through(call.inputs[0], call, moves) if len(call.inputs) == 1 else None
        return None

    def _through(self, value: Value, call: Call, moves: tuple[Call, ...]) -> list[_Source] | None:
        return self._sources(value, (call, *moves)) if self.flow.only_reader(value) is call else None

    def _summands(self, call: Call, moves: tuple[Call, ...]) -> list[_Source] | None:
        a, b = call.arguments["self"], call.arguments["other"]
        if not isinstance(b, Value) or call.arguments.get("alpha", 1) != 1:
            return None
        if any(self.flow.tensors[v].shape != self.flow.tensors[call.outputs[0]].shape for v in (a, b)):
            return None
        if any(self.flow.only_reader(v) is not call for v in (a, b)):
            return None
        found = [self._sources(v, moves) for v in (a, b)]
        return None if None in found else [*found[0], *found[1]]

    def _source(self, call: Call, moves: tuple[Call, ...]) -> _Source | None:
        arguments = call.arguments
        if call.operator == "convolution":
            layer, dimension = self._layer(arguments["weight"], arguments["bias"]), 1
        else:  # a linear layer: input @ weight^T (+ bias)
            weight = self.flow.producer.get(arguments["mat2"])
            if weight is None or weight.operator != "t" or self.flow.only_reader(arguments["mat2"]) is not call:
                return None
            bias = arguments.get("self") if call.operator == "addmm" else None
            layer, dimension = self._layer(weight.inputs[0], bias), 1
        return None if layer is None else _Source(layer, call.outputs[0], dimension, moves)

    def _channels_kept(self, source: _Source) -> tuple[bool, bool]:
        """Whether the layer's channels arrive as the norm's, in order, and whether no zeros came between.

        Every element is marked by its channel, from 1, and moved as the network moves it.
        """
        shape = self.flow.tensors[source.output].shape
        channels = shape[source.dimension]
        marks = torch.arange(1, channels + 1)
        marks = marks.view([-1 if i == source.dimension else 1 for i in range(len(shape))]).expand(shape).contiguous()
        for move in source.moves:
            marks = move.replay(marks)
        if marks.ndim < 2 or marks.shape[1] != channels:
            return False, False
        expected = torch.arange(1, channels + 1).view(1, -1, *[1] * (marks.ndim - 2))
        return bool(((marks == expected) | (marks == 0)).all()), bool((marks != 0).all())

    def _after(self, norm: str, call: Call) -> After | None:
        if self.flow.written_after(call.arguments["input"], call):
            return None  # its input is not there any more when the convolutions come to read it
        layers = self._absorbers(call.outputs[0], 0)
        return After(norm, tuple(layers)) if layers else None

    def _absorbers(self, value: Value, first: int) -> list[tuple[str, int]] | None:
        """The convolutions that read `value`, itself or stacked from channel `first` on, if nothing else does."""
        if value in self.flow.leaving:
            return None
        found: list[tuple[str, int]] = []
        for call in dict.fromkeys(self.flow.readers[value]):
            absorbers = self._absorbers_at(call, value, first)
            if absorbers is None:
                return None
            found += absorbers
        return found

    def _absorbers_at(self, call: Call, value: Value, first: int) -> list[tuple[str, int]] | None:
        arguments = call.arguments
        if call.operator == "cat" and arguments.get("dim") == 1 and arguments["tensors"].count(value) == 1:
            before = arguments["tensors"][: arguments["tensors"].index(value)]
            return self._absorbers(call.outputs[0], first + sum(self.flow.tensors[v].shape[1] for v in before))
        if call.operator != "convolution" or arguments["input"] != value or arguments["transposed"]:
            return None
        layer = self._layer(arguments["weight"], arguments["bias"]) if not any(arguments["padding"]) else None
        return None if layer is None else [(layer, first)]
