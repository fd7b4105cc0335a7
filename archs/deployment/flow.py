"""Who makes and who reads each tensor of a forward pass, found by running it once on the meta device.

Nothing is computed, so any network that runs without reading a tensor's values can be followed, whatever the Python
around its operators does. A value is one state of one tensor: an operator that writes in place makes a new value.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from archs.meta import meta_copy, result_on_meta


@dataclass(frozen=True)
class Value:
    """A value's name: the qualified name of a parameter or buffer, or a running number."""

    name: str | int


@dataclass(frozen=True, eq=False)
class Call:
    """One operator as it ran, its tensors replaced by `Value`s; `position` counts the calls of the pass."""

    position: int
    func: Any
    arguments: dict[str, Any]
    outputs: tuple[Value, ...]
    writes: frozenset[int]  # storages written in place

    @property
    def operator(self) -> str:
        """`aten.relu_.default` and `aten.relu.default` are both `relu`."""
        return self.func._schema.name.removeprefix("aten::").removesuffix("_")

    @property
    def inputs(self) -> list[Value]:
        """The values read, each as often as it is."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Value)]

    def replay(self, tensor: Tensor) -> Tensor:
        """Run the operator again with `tensor` in the place of every value it read."""
        named = tree_map(lambda leaf: tensor if isinstance(leaf, Value) else leaf, self.arguments)
        keyword = {a.name for a in self.func._schema.arguments if a.kwarg_only}
        return self.func(
            *[value for name, value in named.items() if name not in keyword],
            **{name: value for name, value in named.items() if name in keyword},
        )


@dataclass
class Flow:
    """The data flow of one pass.

    `tensors` holds each value's tensor (without content) and keeps it alive, so that identities stay unique.
    `leaving`: values that somebody outside the recorded operators holds, the network's outputs among them.
    `called`: the qualified names of the modules that ran.
    """

    calls: list[Call] = field(default_factory=list)
    tensors: dict[Value, Tensor] = field(default_factory=dict)
    producer: dict[Value, Call] = field(default_factory=dict)
    readers: dict[Value, list[Call]] = field(default_factory=lambda: defaultdict(list))
    leaving: set[Value] = field(default_factory=set)
    called: set[str] = field(default_factory=set)

    def only_reader(self, value: Value) -> Call | None:
        """The one call that reads `value`, if nobody else ever sees it."""
        readers = self.readers[value]
        return readers[0] if len(readers) == 1 and value not in self.leaving else None

    def written_after(self, value: Value, call: Call) -> bool:
        """Whether the memory of `value` is written in place once `call` has run."""
        storage = _storage(self.tensors[value])
        return any(storage in later.writes for later in self.calls[call.position + 1 :])


def trace_flow(model: nn.Module, size: tuple[int, int], in_channels: int) -> Flow:
    """The flow of `model` in eval mode on one `(in_channels, *size)` image. The model is left untouched."""
    bare = meta_copy(model)
    recorder = _Recorder({**dict(bare.named_parameters()), **dict(bare.named_buffers())})
    dtype = next((p.dtype for p in bare.parameters() if p.is_floating_point()), torch.float32)
    x = torch.empty(1, in_channels, *size, dtype=dtype, device="meta")
    for name, module in bare.named_modules():
        module.register_forward_pre_hook(partial(_note, recorder.flow.called, name))
    with torch.no_grad(), recorder:
        output = bare(x)
    recorder.leave(output)
    return recorder.flow


def _note(called: set[str], name: str, module: nn.Module, args: Any) -> None:
    called.add(name)


class _Recorder(TorchDispatchMode):
    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.flow = Flow()
        self.values: dict[int, Value] = {}  # of the present state of each tensor, by its id
        self.sharing: dict[int, list[Value]] = defaultdict(list)  # values by storage
        for name, tensor in state.items():
            self._show(tensor, Value(name))

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema.arguments
        named = {a.name: value for a, value in zip(schema, args, strict=False)} | kwargs
        read = tree_map(lambda leaf: self._value(leaf) if isinstance(leaf, Tensor) else leaf, named)
        out = result_on_meta(func, args, kwargs)
        written = [named[a.name] for a in schema if a.alias_info and a.alias_info.is_write and a.name in named]
        self._record(func, read, out, frozenset(_storage(t) for t in _tensors(written)))
        return out

    def leave(self, output: Any) -> None:
        """Note that the caller holds these tensors."""
        self.flow.leaving.update(self._value(tensor) for tensor in _tensors(output))

    def _record(self, func: Any, read: dict[str, Any], out: Any, writes: frozenset[int]) -> None:
        results = list(_tensors(out))
        outputs = tuple(self._show(tensor, Value(len(self.flow.tensors))) for tensor in results)
        call = Call(len(self.flow.calls), func, read, outputs, writes)
        self.flow.calls.append(call)
        self.flow.producer.update((value, call) for value in outputs)
        for value in call.inputs:
            self.flow.readers[value].append(call)

    def _value(self, tensor: Tensor) -> Value:
        """The tensor's value; for one that no operator made, a new one, and all that share its memory are held."""
        if id(tensor) not in self.values:
            self.flow.leaving.update(self.sharing[_storage(tensor)])
            self._show(tensor, Value(len(self.flow.tensors)))
        return self.values[id(tensor)]

    def _show(self, tensor: Tensor, value: Value) -> Value:
        self.values[id(tensor)] = value
        self.flow.tensors[value] = tensor
        self.sharing[_storage(tensor)].append(value)
        return value


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
