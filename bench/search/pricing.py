"""What a config costs, exactly and before anything is trained: by closed form where a family has one, else by count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import archs
from bench.counting import count_macs, measure_storage
from bench.search.budget import Cost
from bench.search.lale_cost import lale_blocks
from bench.search.layers import Block, file_bytes

MIB = 2**20
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
            mib=measure_storage(model).file_mib["float32"],
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
