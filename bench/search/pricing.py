"""What a config costs, exactly and before anything is trained: by closed form where a family has one, else by count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import archs
from bench.counting import count_macs, measure_storage
from bench.search.budget import StaticCost

if TYPE_CHECKING:
    from bench.counting import MacCount


def has_closed_form(config: Any) -> bool:
    """Whether parameters and MACs of a config are known without building it, so that thousands can be priced."""
    return hasattr(config, "closed_form_cost")


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
    _known: dict[Any, StaticCost] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, config: Any) -> StaticCost:
        """The cost of a config: in closed form, or counted on the meta device, where no weight is ever made."""
        if config not in self._known:
            self._known[config] = self._closed_form(config) if has_closed_form(config) else self.count(config)
        return self._known[config]

    def _closed_form(self, config: Any) -> StaticCost:
        params, macs, deployed = config.closed_form_cost(self.size, self.num_classes, self.in_channels)
        activations = partial(self._activations, config)
        return StaticCost(params, macs, self._counted(config, activations) | {"deployed_macs": lambda: deployed})

    def count(self, config: Any) -> StaticCost:
        """The cost by building the network and counting what it does; slow, and right for every family."""
        model = self._on_meta(config)
        found = self._count(model)
        params, activations = sum(parameter.numel() for parameter in model.parameters()), found.activations
        return StaticCost(params, found.total, self._counted(config, lambda: activations))

    def _counted(self, config: Any, activations: Callable[[], int]) -> dict[str, Callable[[], Any]]:
        return {
            "mib": lambda: measure_storage(self._on_meta(config)).file_mib["float32"],
            "deployed_macs": partial(self._deployed_macs, config),
            "activations": activations,
        }

    def _on_meta(self, config: Any) -> nn.Module:
        with torch.device("meta"):
            return config.build(self.num_classes, self.in_channels).eval()

    def _count(self, model: nn.Module) -> MacCount:
        return count_macs(model, self.size, in_channels=self.in_channels)

    def _activations(self, config: Any) -> int:
        return self._count(self._on_meta(config)).activations

    def _deployed_macs(self, config: Any) -> int | None:
        """Of the deployed form, whose making computes with the weights; None for a network that has none."""
        try:
            deployed = archs.deploy(config.build(self.num_classes, self.in_channels).eval(), self.size)
        except Exception:  # a network of anyone's, taken apart, may raise anything
            return None
        return self._count(deployed).total
