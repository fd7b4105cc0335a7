"""Hard budgets, and what a config costs against them, exactly and before anything is trained.

Costs come by closed form where a family has one, else by count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from torch import nn

import archs
from archs.meta import build_on_meta
from bench.counting import count_macs, measure_storage
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.counting import MacCount


@dataclass(frozen=True)
class StaticCost:
    """What a config costs before it is trained.

    Attributes:
        params: trainable parameters.
        macs: exact plain multiply-accumulates of one image at the search's input size.
        counted: the other figures, by name, each counted when it is first asked for.
    """

    params: int
    macs: int
    counted: Mapping[str, Callable[[], Any]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def mib(self) -> float:
        """The float32 safetensors file, in MiB of 2^20 bytes."""
        return self.counted["mib"]()

    @cached_property
    def deployed_macs(self) -> int | None:
        """Exact plain MACs of the deployed form (`archs.deploy`); None for a network that has none."""
        return self.counted["deployed_macs"]()

    @cached_property
    def activations(self) -> int:
        """Elements that one image's operators write, views left out."""
        return self.counted["activations"]()

    def to_dict(self) -> dict[str, Any]:
        """All five figures, as JSON."""
        names = ("params", "macs", "mib", "deployed_macs", "activations")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return f"{self.macs / 1e9:.4g} GMACs, {self.params:,} parameters, {self.mib:.4g} MiB"


@dataclass(frozen=True)
class Budget:
    """Limits that every trained config keeps; None is no limit.

    Attributes:
        max_gmacs: exact plain MACs of one image at the search's input size, in 10^9.
        max_params: parameters.
        max_mib: the float32 safetensors file, in MiB.
        max_latency_ms: median milliseconds of one image on the search's device.
        max_deployed_gmacs: exact plain MACs of the deployed form, in 10^9.
        max_activations: elements that one image's operators write, views left out.
    """

    max_gmacs: float | None = None
    max_params: float | None = None
    max_mib: float | None = None
    max_latency_ms: float | None = None
    max_deployed_gmacs: float | None = None
    max_activations: float | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not 0 < value < float("inf"):
                raise BenchError(f"--{limit.name.replace('_', '-')} {value} is no limit: give a number above 0")

    def excess(self, cost: StaticCost, latency_ms: float | None = None) -> dict[str, float]:
        """How many times each limit is used, by its name: above 1 breaks it. Unmeasured latency is left out."""
        used: dict[str, Callable[[], float | None]] = {
            "max_gmacs": lambda: cost.macs / 1e9,
            "max_params": lambda: cost.params,
            "max_mib": lambda: cost.mib,
            "max_latency_ms": lambda: latency_ms,
            # What has no deployed form runs as it was trained.
            "max_deployed_gmacs": lambda: (cost.macs if cost.deployed_macs is None else cost.deployed_macs) / 1e9,
            "max_activations": lambda: cost.activations,
        }
        limited = {name: (getattr(self, name), used[name]()) for name in used if getattr(self, name)}
        return {name: value / limit for name, (limit, value) in limited.items() if value is not None}

    def broken(self, cost: StaticCost, latency_ms: float | None = None) -> list[str]:
        """The names of the limits that do not hold."""
        return [name for name, times in self.excess(cost, latency_ms).items() if times > 1]

    def __str__(self) -> str:
        given = {limit.name.replace("_", " "): getattr(self, limit.name) for limit in fields(self)}
        return ", ".join(f"{name} {value:g}" for name, value in given.items() if value) or "no limits"


Latency = Callable[[Any], float]
"""Median milliseconds of one image, measured on the search's device (or read from its record)."""


def impossible(budget: Budget, config: Any, cost: StaticCost, latency_ms: float | None) -> BenchError:
    """The sentence for a budget that no config of the space meets: `config` is the smallest that was found."""
    broken = budget.broken(cost, latency_ms)
    limits = " and ".join(f"--{name.replace('_', '-')} {getattr(budget, name):g}" for name in broken)
    measured = "" if latency_ms is None else f", {latency_ms:.4g} ms"
    return BenchError(
        f"no configuration of the search space fits {limits}: the smallest costs {cost}{measured}; "
        "raise the limit or free more fields"
    )


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
        return build_on_meta(config, self.num_classes, self.in_channels).eval()

    def _count(self, model: nn.Module) -> MacCount:
        return count_macs(model, self.size, in_channels=self.in_channels)

    def _activations(self, config: Any) -> int:
        return self._count(self._on_meta(config)).activations

    def _deployed_macs(self, config: Any) -> int | None:
        """Of the deployed form, whose making computes with the weights; None for a network that has none."""
        try:
            deployed = archs.deploy(
                config.build(self.num_classes, self.in_channels).eval(), self.size, self.in_channels
            )
        except Exception:  # a network of anyone's, taken apart, may raise anything
            return None
        return self._count(deployed).total
