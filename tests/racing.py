"""Races of networks, in which a failure is raised, and the ratio of two speeds of one race."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from bench.errors import BenchError
from bench.speed.comparison import recorded_ratio
from bench.speed.measure import Contender, Median, Speed, SpeedProtocol, race_isolated


def race(contenders: Mapping[str, Contender], **options: Any) -> dict[str, Speed]:
    raced = race_isolated(contenders, **options)
    for reason in raced.failures.values():
        raise BenchError(reason)
    return raced.speeds


def measure_speed(
    models: Mapping[str, nn.Module], size: tuple[int, int], protocol: SpeedProtocol, **options: Any
) -> dict[str, Speed]:
    return race({label: Contender(model, size, protocol) for label, model in models.items()}, **options)


def ratio(fast: Speed, slow: Speed) -> Median:
    speeds = {"fast": fast, "slow": slow}
    recorded = {
        name: {"protocol": {"batch": one.protocol.batch}, "block_rounds_ms": one.block_rounds}
        for name, one in speeds.items()
    }
    return recorded_ratio(recorded, "fast", "slow")
