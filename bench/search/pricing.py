"""What a config costs, exactly and before anything is trained: by closed form where a family has one, else by count."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.counting import count_macs
from bench.search.budget import Cost
from bench.search.lale_cost import lale_layers
from bench.search.layers import Layer, Tensor

MIB = 2**20
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "F64": 8, "I64": 8}
"""Bytes an element by safetensors' name of the type, in the order in which safetensors ranks the types."""
DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}

Form = Callable[[Any, tuple[int, int], int, int], Iterable[Layer]]
CLOSED_FORMS: dict[str, Form] = {"lale": lale_layers}
"""By family: the layers of a config for (config, size, num_classes, in_channels). Must equal the counter."""


@dataclass(frozen=True)
class Pricer:
    """The static cost of configs at one input: each config is priced once.

    Attributes:
        size: height and width of the input, in pixels.
        num_classes, in_channels: as the networks are built.
    """

    size: tuple[int, int]
    num_classes: int
    in_channels: int = 3
    _known: dict[Any, Cost] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, config: Any) -> Cost:
        """The cost of a config: in closed form, or counted on the meta device, where no weight is ever made."""
        if config not in self._known:
            form = CLOSED_FORMS.get(config.family)
            self._known[config] = self.count(config) if form is None else self._add_up(form, config)
        return self._known[config]

    def _add_up(self, form: Form, config: Any) -> Cost:
        layers = list(form(config, self.size, self.num_classes, self.in_channels))
        tensors = [tensor for layer in layers for tensor in layer.tensors]
        params = sum(tensor.elements for tensor in tensors if tensor.learned)
        return Cost(params, sum(layer.macs for layer in layers), file_bytes(tensors) / MIB)

    def count(self, config: Any) -> Cost:
        """The cost by building the network and counting what it does; slow, and right for every family."""
        with torch.device("meta"):
            model = config.build(self.num_classes, self.in_channels).eval()
        macs = count_macs(model, self.size, in_channels=self.in_channels).total
        params = sum(parameter.numel() for parameter in model.parameters())
        return Cost(params, macs, file_bytes(stored_tensors(model)) / MIB)


def stored_tensors(model: nn.Module) -> list[Tensor]:
    """The tensors of a model's state, one that has several names once, under its first."""
    distinct = {id(tensor): (name, tensor) for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    return [Tensor(name, tuple(tensor.shape), DTYPES[tensor.dtype]) for name, tensor in distinct.values()]


def file_bytes(tensors: Iterable[Tensor]) -> int:
    """Size in bytes of the safetensors file of these tensors, worked out from names, shapes and types alone.

    Eight bytes, a JSON header padded to a multiple of eight, the tensors. The header spells each tensor's place, so
    the order counts: wide types first, then by name. The format: https://github.com/huggingface/safetensors.
    """
    ranks = {name: -i for i, name in enumerate(BYTES)}
    header, end = {}, 0
    for tensor in sorted(tensors, key=lambda tensor: (ranks[tensor.dtype], tensor.name)):
        start, end = end, end + tensor.elements * BYTES[tensor.dtype]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (start, end)}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + text + (-text) % 8 + end
