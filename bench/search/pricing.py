"""What a config costs, exactly and before anything is trained: by closed form where a family has one, else by count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import archs
from bench.counting import count_macs
from bench.search.budget import Cost
from bench.search.lale_cost import lale_blocks
from bench.search.layers import Block, Layer, Tensor, block, file_bytes

MIB = 2**20
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

Form = Callable[[Any, tuple[int, int], int, int], list[Block]]
CLOSED_FORMS: dict[str, Form] = {"lale": lale_blocks}
"""By family: the blocks of a config for (config, size, num_classes, in_channels). Must equal the counter."""


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
        blocks = form(config, self.size, self.num_classes, self.in_channels)
        params, macs, written, folds = (sum(column) for column in zip(*(one[:4] for one in blocks), strict=True))
        return Cost(params, macs, file_bytes(blocks) / MIB, macs - folds, written)

    def count(self, config: Any) -> Cost:
        """The cost by building the network and counting what it does; slow, and right for every family."""
        with torch.device("meta"):
            model = config.build(self.num_classes, self.in_channels).eval()
        count = count_macs(model, self.size, in_channels=self.in_channels)
        return Cost(
            params=sum(parameter.numel() for parameter in model.parameters()),
            macs=count.total,
            mib=file_bytes([block([Layer(tuple(stored_tensors(model)))])]) / MIB,
            deployed_macs=self._deployed_macs(config),
            activations=count.activations,
        )

    def _deployed_macs(self, config: Any) -> int | None:
        """Of the deployed form, whose making computes with the weights; None for a network that has none."""
        try:
            deployed = archs.deploy(config.build(self.num_classes, self.in_channels).eval(), self.size)
        except Exception:  # a network of anyone's, taken apart, may raise anything
            return None
        return count_macs(deployed, self.size, in_channels=self.in_channels).total


def stored_tensors(model: nn.Module) -> list[Tensor]:
    """The tensors of a model's state, one that has several names once, under its first."""
    distinct = {id(tensor): (name, tensor) for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    return [Tensor(name, tuple(tensor.shape), DTYPES[tensor.dtype]) for name, tensor in distinct.values()]
