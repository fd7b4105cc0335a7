"""Which batch norms can be folded, and into what, read from the data flow and not from names or the order of modules.

A norm goes *before*, into the layers whose outputs (or their sum) it reads, where nobody else reads those; or
*after*, into the convolutions and linear layers that read it, where none of them pads (padding puts zeros where the
norm would have put its shift, so that no bias can stand for it).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from archs.deployment.flow import Call, Flow, Value
from archs.deployment.norms import LAYERS, After, Before, Fold, remainder

NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "cudnn_batch_norm"}
# They move elements, or put zeros between; what becomes of the channels is tried out, not presumed.
MOVES = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "transpose", "permute", "t", "unsqueeze", "squeeze"),
    *("slice", "constant_pad_nd", "clone", "alias", "detach"),
}
Moves = tuple[Call, ...]


def find_folds(model: nn.Module, flow: Flow) -> list[Fold]:
    """What can be folded, in the order of the pass."""
    return _Finder(dict(model.named_modules()), flow).folds()


@dataclass(frozen=True)
class _Source:
    """A layer that a norm's input comes from, its output, and the moves from there to the norm."""

    layer: str
    output: Value
    moves: Moves


class _Finder:
    def __init__(self, modules: dict[str, nn.Module], flow: Flow) -> None:
        self.modules = modules
        self.flow = flow

    def folds(self) -> list[Fold]:
        norms = [(name, call) for call in self.flow.calls if (name := self._norm(call)) is not None]
        found = (self._before(name, call) or self._after(name, call) for name, call in norms)
        return [fold for fold in found if fold is not None]

    # What a value of the flow belongs to.

    def _norm(self, call: Call) -> str | None:
        """The name of the norm that this call is, if it uses stored statistics and is called this once."""
        if call.operator not in NORMS or call.arguments.get("training"):
            return None
        owner = self._owner(call.arguments["running_mean"], "running_mean")
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

    def _layer_of(self, call: Call) -> str | None:
        """The layer that a convolution or matrix product is the work of."""
        arguments = call.arguments
        if call.operator == "convolution":
            return self._layer(arguments["weight"], arguments["bias"])
        if call.operator not in ("mm", "addmm"):  # a linear layer: input @ weight^T (+ bias)
            return None
        transposed = self.flow.producer.get(arguments["mat2"])
        if transposed is None or transposed.operator != "t" or self.flow.only_reader(arguments["mat2"]) is not call:
            return None
        return self._layer(transposed.inputs[0], arguments["self"] if call.operator == "addmm" else None)

    # Folding before: from the norm's input back to layers.

    def _before(self, norm: str, call: Call) -> Before | None:
        sources = self._sources_of_read(call.arguments["input"], call, ())
        if sources is None:
            return None
        kept = [self._channels_kept(source.output, source.moves) for source in sources]
        exact = [source.layer for source, whole in zip(sources, kept, strict=True) if whole]
        if not exact or None in kept:
            return None
        return Before(norm, tuple(source.layer for source in sources), exact[0])

    def _sources_of_read(self, value: Value, reader: Call, moves: Moves) -> list[_Source] | None:
        """`_sources` of a value, if nobody but `reader` reads it."""
        return self._sources(value, moves) if self.flow.only_reader(value) is reader else None

    def _sources(self, value: Value, moves: Moves) -> list[_Source] | None:
        """The layers whose outputs, moved and summed, are `value`, if nothing else reads anything on the way."""
        call = self.flow.producer.get(value)
        if call is None:
            return None
        if call.operator == "add":
            return self._summands(call, moves)
        if _only_moves(call):
            return self._sources_of_read(call.inputs[0], call, (call, *moves))
        layer = self._layer_of(call)
        return None if layer is None else [_Source(layer, value, moves)]

    def _summands(self, call: Call, moves: Moves) -> list[_Source] | None:
        terms = [call.arguments["self"], call.arguments["other"]]
        shape = self.flow.tensors[call.outputs[0]].shape
        if call.arguments.get("alpha", 1) != 1 or not all(isinstance(term, Value) for term in terms):
            return None
        if any(self.flow.tensors[term].shape != shape for term in terms):
            return None
        found = [self._sources_of_read(term, call, moves) for term in terms]
        first, second = found
        return None if first is None or second is None else [*first, *second]

    def _channels_kept(self, output: Value, moves: Moves, arriving: int = 1) -> bool | None:
        """Whether all channels (dimension 1) are still in order, in dimension `arriving`, when the moves are done.

        Every element is marked by its channel, from 1, and moved as the network moves it. True if nothing but the
        marks arrives, False if zeros came between, None if the channels are others.
        """
        like = self.flow.tensors[output]
        marks = _marks(like, 1)
        for move in moves:
            marks = move.replay(marks)
        if marks.ndim <= arriving or marks.shape[arriving] != like.shape[1]:
            return None
        zeros = marks == 0
        return not zeros.any().item() if ((marks == _marks(marks, arriving)) | zeros).all() else None

    # Folding after: from the norm's output on to layers.

    def _after(self, norm: str, call: Call) -> After | None:
        if self.flow.written_after(call.arguments["input"], call):
            return None  # its input is not there any more when the layers come to read it
        layers = self._absorbers(call.outputs[0], 0)
        return After(norm, tuple(layers)) if layers else None

    def _absorbers(self, value: Value, first: int) -> list[tuple[str, int]] | None:
        """The layers that read `value`, itself or stacked from channel `first` on, if nothing else does."""
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
        if _only_moves(call):
            layer = self._linear_behind(value, call) if first == 0 else None
        elif call.operator != "convolution" or arguments["input"] != value or arguments["transposed"]:
            return None
        else:
            layer = None if any(arguments["padding"]) else self._layer_of(call)
        return None if layer is None else [(layer, first)]

    def _linear_behind(self, value: Value, call: Call) -> str | None:
        """The linear layer that reads the map `value` as rows of channels, if nothing else reads anything between."""
        moves: Moves = ()
        while _only_moves(call):
            moves = (*moves, call)
            reader = self.flow.only_reader(call.outputs[0])
            if reader is None:
                return None
            call = reader
        rows = call.arguments.get("self" if call.operator == "mm" else "mat1")
        if rows != moves[-1].outputs[0] or not self._channels_kept(value, moves, arriving=1):
            return None
        return self._layer_of(call)


def _only_moves(call: Call) -> bool:
    """Whether the call only moves one tensor's elements, or puts zeros between them."""
    return call.operator in MOVES and not call.arguments.get("value") and len(call.inputs) == 1


def _marks(like: Tensor, dimension: int) -> Tensor:
    """1, 2, 3, ... along one dimension and the same along the others, in memory as `like` is."""
    along = [-1 if i == dimension else 1 for i in range(like.ndim)]
    numbers = torch.arange(1, like.shape[dimension] + 1, device="cpu")
    return torch.empty_like(like, dtype=torch.int64, device="cpu").copy_(numbers.view(along))
