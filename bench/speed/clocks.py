"""The clock of each kind of device: when is a call over?"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Times calls on one device; every figure ends when the result is there, not when the call returns."""

    def one(self, call: Callable[[], Any]) -> float:
        """Seconds of one call until its result is there."""

    def round(self, call: Callable[[], Any], calls: int) -> tuple[list[float], float]:
        """Latencies of `calls` calls, and seconds a call when they are issued back to back."""


class CpuClock:
    """On a CPU a call returns when it is done, so a block is its calls."""

    def one(self, call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def round(self, call: Callable[[], Any], calls: int) -> tuple[list[float], float]:
        latencies = [self.one(call) for _ in range(calls)]
        return latencies, sum(latencies) / calls


class CudaClock:
    """Latency by the wall, from an idle device to an idle device; blocks by events on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def one(self, call: Callable[[], Any]) -> float:
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        call()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def round(self, call: Callable[[], Any], calls: int) -> tuple[list[float], float]:
        latencies = [self.one(call) for _ in range(calls)]
        with torch.cuda.device(self.device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
        return latencies, start.elapsed_time(end) / 1e3 / calls


def clock_for(device: torch.device) -> Clock:
    """The clock that waits for `device`."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
