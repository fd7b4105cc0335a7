"""What a machine says of itself while networks run: energy, where the hardware reports it, and others' use of the CPU.

Energy is NVML's counter of a GPU, RAPL's of a processor's packages. A counter that is absent reads as nothing at all,
never as 0. RAPL counts a whole package, so whatever else runs on it is in the figure; on most machines only an
administrator may read it."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

RAPL = Path("/sys/class/powercap")
NOT_REPORTED = "not reported"


@dataclass(frozen=True)
class EnergyMeter:
    """Counters of joules that only grow.

    Attributes:
        source: which they are, in words.
        read: their values now, once the device is done with what it was given.
        ranges: where each starts again at 0; no call here is long enough for that to happen twice.
    """

    source: str
    read: Callable[[], Sequence[float]]
    ranges: Sequence[float]

    def joules_between(self, call: Callable[[], None]) -> float:
        """Joules that the device took during the call."""
        before = self.read()
        call()
        return sum((end - start) % whole for start, end, whole in zip(before, self.read(), self.ranges, strict=True))


def energy_meter(device: torch.device, rapl: Path = RAPL) -> EnergyMeter | None:
    """The device's counter; None where it has none that this process may read."""
    return _nvml(device) if device.type == "cuda" else _rapl(rapl)


def joules_per_image(
    call: Callable[[], Any], batch: int, meter: EnergyMeter | None, seconds: float = 1.0
) -> float | None:
    """Energy of an image over `seconds` of calls back to back (counters are read anew some ten times a second).

    None without a counter, or where it did not move.
    """
    if meter is None:
        return None
    calls = 0

    def repeat() -> None:
        nonlocal calls
        start = time.perf_counter()
        while calls == 0 or time.perf_counter() - start < seconds:
            call()
            calls += 1

    return meter.joules_between(repeat) / (calls * batch) or None


def _rapl(root: Path) -> EnergyMeter | None:
    """The sum of a machine's packages."""
    packages = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)

    def read(counter: str = "energy_uj") -> list[float]:
        return [int((package / counter).read_text()) / 1e6 for package in packages]

    try:
        read()
        ranges = read("max_energy_range_uj")
    except (OSError, ValueError):  # not for everyone's eyes
        return None
    return EnergyMeter("RAPL, whole packages", read, ranges) if packages else None


def _nvml(device: torch.device) -> EnergyMeter | None:
    """One GPU, by its driver."""
    if find_spec("pynvml") is None:
        return None
    import pynvml

    def read() -> list[float]:
        torch.cuda.synchronize(device)
        return [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3]

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        read()
    except (pynvml.NVMLError, AttributeError):  # no counter, or a PyTorch that does not say which GPU it is
        return None
    return EnergyMeter("NVML, whole GPU", read, [math.inf])


STAT = Path("/proc/stat")
TOLERABLE = 0.1
"""Cores that others may have on average, beyond those left over, before ratios are called disturbed; an idle machine's
services stay below."""


class CpuLoad:
    """Watches from its making on; needs Linux's `/proc/stat`."""

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._before = self._reading()

    def other_cores(self) -> float | None:
        """Cores that other processes (and other virtual machines on ours) had on average; None where unknown."""
        before, now = self._before, self._reading()
        if before is None or now is None or now[0] <= before[0]:
            return None
        wall, busy, own = (b - a for a, b in zip(before, now, strict=True))
        return max(0.0, (busy - own) / wall)

    def _reading(self) -> tuple[float, float, float] | None:
        """Seconds of the wall, of all busy cores, and of this process."""
        try:
            fields = [int(field) for field in self._stat.read_text().split("\n", 1)[0].split()[1:]]
            ticks = os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, AttributeError):
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
        own = os.times()
        return time.monotonic(), (user + nice + system + irq + softirq + steal) / ticks, own.user + own.system
