"""Throughput at the best batch: larger and larger batches until it stops growing."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.speed.measure import Contender, Speed, race_isolated

GROWTH = 1.02
"""A larger batch must bring this much more, or the doubling ends; less is lost in the noise of most machines."""


@dataclass(frozen=True)
class BatchSpeed:
    """One batch size of a sweep: its speed, or why there is none."""

    batch: int
    speed: Speed | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Throughput in images a second with its interval; ready for JSON."""
        if self.speed is None:
            return {"batch": self.batch, "reason": self.reason}
        found = self.speed.to_dict()
        keys = ("throughput", "throughput_low", "throughput_high", "ceiling_share", "warm")
        return {"batch": self.batch, **{key: found[key] for key in keys}}


@dataclass(frozen=True)
class Sweep:
    """All batch sizes tried, in order, and why there was no larger one."""

    points: tuple[BatchSpeed, ...]
    ended: str

    @property
    def best(self) -> BatchSpeed | None:
        """The point of the highest throughput; None if not even one image ran."""
        return max((point for point in self.points if point.speed), key=_throughput, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Every point, the best batch and why the doubling ended; ready for JSON."""
        best = self.best
        return {
            "points": [point.to_dict() for point in self.points],
            "best_batch": best.batch if best else None,
            "best_throughput": _throughput(best) if best else None,
            "ended": self.ended,
        }


def _throughput(point: BatchSpeed) -> float:
    return point.speed.throughput.value if point.speed else 0.0


def sweep_batches(
    contenders: Mapping[str, Contender],
    device: torch.device | str = "cpu",
    in_channels: int = 3,
    *,
    max_seconds: float = 60.0,
    largest: int = 1024,
) -> dict[str, Sweep]:
    """Double the batch from 1 on, all networks that still gain from it interleaved, until none does.

    A network leaves with the first batch that is not `GROWTH` times as fast as its best so far, or that fails (memory
    ends); all leave once `max_seconds` are over.
    """
    points: dict[str, list[BatchSpeed]] = {label: [] for label in contenders}
    ended: dict[str, str] = {}
    batch, start = 1, time.perf_counter()
    while len(ended) < len(contenders):
        going = {
            label: replace(contender, protocol=replace(contender.protocol, batch=batch))
            for label, contender in contenders.items()
            if label not in ended
        }
        for label, point in _points(going, batch, device, in_channels).items():
            reason = _end(points[label], point)
            points[label].append(point)
            if reason:
                ended[label] = reason
        batch *= 2
        over = "the time was up" if time.perf_counter() - start > max_seconds else ""
        over = over or (f"{largest} is the largest batch tried" if batch > largest else "")
        ended |= dict.fromkeys(contenders.keys() - ended.keys(), over) if over else {}
    return {label: Sweep(tuple(points[label]), ended[label]) for label in contenders}


def _points(
    going: dict[str, Contender], batch: int, device: torch.device | str, in_channels: int
) -> dict[str, BatchSpeed]:
    """All in one race, in which one that fails costs the others nothing."""
    raced = race_isolated(going, device, in_channels)
    return {label: BatchSpeed(batch, raced.speeds.get(label), raced.failures.get(label, "")) for label in going}


def _end(before: list[BatchSpeed], point: BatchSpeed) -> str:
    """Why a network tries no larger batch after this point; empty if it does."""
    if point.speed is None:
        return point.reason
    best = max((p.speed.throughput.value for p in before if p.speed), default=0.0)
    return "" if point.speed.throughput.value > GROWTH * best else "throughput stopped growing"
