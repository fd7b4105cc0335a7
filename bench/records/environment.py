"""What a figure was measured on: hardware and software, and nothing that names a person, a host or a folder."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "fvcore",
    "thop",
    "numpy",
    "optuna",
    "safetensors",
    "onnxruntime",
    "openvino",
)


def resolve_device(name: str) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU; `cpu`, `cuda` and `cuda:1` are taken as given.

    Raises:
        BenchError: the device is not one of these, or not in this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise BenchError(f"device {name!r} is not known; give auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    available = torch.cuda.device_count()
    if int(index or 0) >= available:
        raise BenchError(f"device {name!r} is not here: PyTorch sees {available} CUDA device(s); give cpu or auto")
    return torch.device("cuda", int(index or 0))


def user_cache() -> Path:
    """`$LALE_BENCH_CACHE`, else `lale-bench` in the user's cache folder: what can be made again."""
    if given := os.environ.get("LALE_BENCH_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lale-bench"


def device_kind(device: torch.device | str) -> str:
    """The model of the device, such as `NVIDIA H100 80GB HBM3` or the processor's name: what timings depend on."""
    import torch

    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


def environment(device: torch.device | str) -> dict[str, Any]:
    """A JSON-able description of the machine and the software that a measurement on `device` ran with."""
    import torch

    device = torch.device(device)
    return {
        "device": device.type,
        "device_kind": device_kind(device),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        **(_cuda(device) if device.type == "cuda" else {}),
    }


def _cuda(device: torch.device) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu_index": torch.cuda.current_device() if device.index is None else device.index,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "gpu_multiprocessors": properties.multi_processor_count,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = (line.partition(":") for line in info.read_text(errors="replace").splitlines())
        names = [value.strip() for key, _, value in fields if key.strip() in ("model name", "Model", "Hardware")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
