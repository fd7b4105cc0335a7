"""Energy where the hardware reports it: NVML's counter of a GPU, RAPL's of a processor's packages.

A counter that is absent reads as nothing at all, never as 0. RAPL counts a whole package, so whatever else runs on it
is in the figure; on most machines only an administrator may read it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

RAPL = Path("/sys/class/powercap")
NOT_REPORTED = "not reported"


class EnergyMeter(Protocol):
    """A counter of joules that only grows; `source` names it."""

    @property
    def source(self) -> str: ...

    def joules_between(self, call: Callable[[], None]) -> float:
        """Joules that the device took during the call."""


@dataclass(frozen=True)
class RaplMeter:
    """The sum of a machine's packages."""

    packages: tuple[Path, ...]
    source: str = "RAPL, whole packages"

    def joules_between(self, call: Callable[[], None]) -> float:
        """Counters start again at 0 beyond their range; no call here is long enough for that to happen twice."""
        before = [_number(package / "energy_uj") for package in self.packages]
        call()
        taken = 0
        for package, start in zip(self.packages, before, strict=True):
            end = _number(package / "energy_uj")
            taken += end - start if end >= start else end - start + _number(package / "max_energy_range_uj")
        return taken / 1e6


@dataclass(frozen=True)
class NvmlMeter:
    """One GPU, by its driver."""

    handle: Any
    device: torch.device
    source: str = "NVML, whole GPU"

    def joules_between(self, call: Callable[[], None]) -> float:
        """Both ends wait for the device."""
        import pynvml

        torch.cuda.synchronize(self.device)
        start = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)
        call()
        torch.cuda.synchronize(self.device)
        return (pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) - start) / 1e3


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


def _rapl(root: Path) -> RaplMeter | None:
    packages = tuple(sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1))
    try:
        for package in packages:
            _number(package / "energy_uj")
            _number(package / "max_energy_range_uj")
    except (OSError, ValueError):  # not for everyone's eyes
        return None
    return RaplMeter(packages) if packages else None


def _nvml(device: torch.device) -> NvmlMeter | None:
    if find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError):  # no counter, or a PyTorch that does not say which GPU it is
        return None
    return NvmlMeter(handle, device)


def _number(path: Path) -> int:
    return int(path.read_text())
