"""Rounds: each network has its turn in each, in an order that rotates, until enough is known; by the device's clock."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from bench.speed.protocol import SpeedProtocol
from bench.speed.roofline import RooflineMeter
from bench.stats.medians import median_interval


class Clock:
    """Times calls on one device; every figure ends when the result is there, not when the call returns.

    A call on a CPU returns when it is done. A CUDA device is waited for: latency is by the wall, from an idle device to
    an idle device, and calls back to back are timed by events on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device if device.type == "cuda" else None

    def one(self, call: Callable[[], Any]) -> float:
        """Seconds of one call until its result is there."""
        if self.cuda:
            torch.cuda.synchronize(self.cuda)
        start = time.perf_counter()
        call()
        if self.cuda:
            torch.cuda.synchronize(self.cuda)
        return time.perf_counter() - start

    def round(self, call: Callable[[], Any], calls: int) -> tuple[list[float], float]:
        """Latencies of `calls` calls, and seconds a call when they are issued back to back."""
        latencies = [self.one(call) for _ in range(calls)]
        if self.cuda is None:
            return latencies, sum(latencies) / calls
        with torch.cuda.device(self.cuda):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
        return latencies, start.elapsed_time(end) / 1e3 / calls


LOOKS = 20  # the rounds are looked at when there is a twentieth more of them


class Runner:
    """One network's calls and their times; seconds throughout."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.warmup_calls, self.warm, self.pace = 0, False, 0.0
        self.latencies: list[tuple[float, ...]] = []
        self.blocks: list[float] = []
        self.failure: Exception | None = None

    def warm_up(self, clock: Clock, longest: float) -> None:
        """Call until the medians of two successive windows of 5 agree within 5 %, or the time is up."""
        times: list[float] = []
        window, start = 5, time.perf_counter()
        while not self.warm and (len(times) < 2 or time.perf_counter() - start < longest):
            times.append(clock.one(self.call))
            before, now = times[-2 * window : -window], times[-window:]
            self.warm = len(before) == window and abs(median(now) / median(before) - 1) < 0.05
        self.warmup_calls, self.pace = len(times), median(times[-window:])

    def time_round(self, clock: Clock, protocol: SpeedProtocol, models: int) -> None:
        """Latencies and a block; of fewer calls where a slow network would outlast its part of the time."""
        affordable = protocol.max_seconds / (models * protocol.rounds * max(self.pace, 1e-9))
        latencies, block = clock.round(self.call, max(1, min(protocol.calls, int(affordable))))
        self.latencies.append(tuple(latencies))
        self.blocks.append(block)

    def settled(self, goal: float) -> bool:
        """Whether both intervals are as narrow as wanted."""
        medians = [median(round_) for round_ in self.latencies]
        return all(median_interval(v).relative_half_width < goal for v in (medians, self.blocks))


def time_rounds(runners: list[Runner], meter: RooflineMeter, clock: Clock, protocol: SpeedProtocol) -> None:
    """Time until the protocol is content; the device's own rates are measured at the end of a round.

    They are in each of the fewest rounds, then as long as they take no more time than the networks.
    """
    spent, metered, rounds, due = 0.0, 0.0, 0, protocol.rounds
    while runners:
        if rounds >= due:  # seldom, where rounds are many and short: looking at all of them takes longer than a round
            if _enough(runners, spent, protocol):
                break
            due = rounds + max(1, rounds // LOOKS)
        first, start = rounds % len(runners), time.perf_counter()
        for runner in runners[first:] + runners[:first]:
            try:
                runner.time_round(clock, protocol, len(runners))
            except Exception as error:  # it fails alone: the others are timed on
                runner.failure = error
        runners = [runner for runner in runners if runner.failure is None]
        spent += time.perf_counter() - start
        if rounds < protocol.rounds or metered < spent:
            start = time.perf_counter()
            meter.time_round()
            metered += time.perf_counter() - start
        rounds += 1


def _enough(runners: list[Runner], seconds: float, protocol: SpeedProtocol) -> bool:
    if seconds >= protocol.max_seconds:
        return True
    return seconds >= protocol.min_seconds and all(runner.settled(protocol.precision_goal) for runner in runners)
