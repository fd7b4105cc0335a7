"""Networks in several forms and runtimes, timed in the same rounds; their ratios from the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import archs
from bench.counting.cells import IMAGE_CHANNELS
from bench.engine import Cell, CellContext
from bench.errors import BenchError
from bench.records import Record, anonymised
from bench.records.identity import changed_fields, network_determinants
from bench.speed.machine import TOLERABLE
from bench.speed.protocol import SpeedProtocol
from bench.speed.quantise import IMAGES, calibration_images
from bench.stats.medians import Median, median_interval

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.training.trained import TrainedNetwork

PACKAGES = ("torch", "timm", "segmentation-models-pytorch", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class RunConfig:
    """A network and how it is run.

    `trained`: the network with its weights; without it they are random (`untrained`).
    """

    config: archs.ArchConfig
    protocol: SpeedProtocol
    trained: TrainedNetwork | None = None

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """The network, with its weights if it has some, else for so many classes and bands."""
        return self.trained.build() if self.trained else untrained(self.config, num_classes, in_channels)

    def determinants(self, num_classes: int, in_channels: int, tiles: DataSet | None) -> dict[str, Any]:
        """What a record of its speed depends on, but for the machine."""
        if self.trained is not None:
            num_classes, in_channels = len(self.trained.names), len(self.trained.bands)
        found = {
            **network_determinants(self.config, num_classes, in_channels),
            "protocol": changed_fields(self.protocol),
        }
        if self.trained is not None:
            found["weights"] = self.trained.digest
        if tiles is not None and self.protocol.precision == "int8":
            found["calibration"] = {"data": tiles.fingerprint, "images": IMAGES}
        return found

    def calibration(self, tiles: DataSet | None, size: tuple[int, int]) -> Tensor | None:
        """What int8 is calibrated on; None for other precisions."""
        if tiles is None or self.protocol.precision != "int8":
            return None
        return calibration_images(tiles, self.trained.bands if self.trained else tiles.bands, size)


def untrained(config: archs.ArchConfig, num_classes: int, in_channels: int = IMAGE_CHANNELS) -> nn.Module:
    """The network with random weights, the same whenever it is timed: on them depends how far its output is from the
    network's in another runtime or precision, hence whether it is timed at all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return archs.build(config, num_classes, in_channels)


def comparison_cell(
    runs: Mapping[str, RunConfig],
    label: str,
    size: tuple[int, int],
    num_classes: int,
    device: str,
    in_channels: int = IMAGE_CHANNELS,
    tiles: DataSet | None = None,
) -> Cell:
    """One interleaved run of `runs`, in their order. Those whose runtime or precision is not to be had here are left
    out, with the reason in the record's `missing`.

    `tiles`: int8 is calibrated on those of the training split.
    """
    from bench.records.environment import device_kind

    determinants = {
        "entries": {name: run.determinants(num_classes, in_channels, tiles) for name, run in runs.items()},
        "order": list(runs),
        "size": size,
        "device": device_kind(device),
        "versions": _versions(int8=any(run.protocol.precision == "int8" for run in runs.values())),
    }

    def measure(context: CellContext) -> Mapping[str, Any]:
        from bench.speed.measure import Contender, race_isolated

        absent = {name: reason for name, run in runs.items() if (reason := missing(run.protocol, device))}
        running = {name: run for name, run in runs.items() if name not in absent}
        models = {(run.config, run.trained): run.build(num_classes, in_channels) for run in running.values()}
        int8 = {run.trained: run for run in running.values() if run.protocol.precision == "int8"}
        images = {trained: run.calibration(tiles, size) for trained, run in int8.items()}
        contenders = {
            name: Contender(models[run.config, run.trained], size, run.protocol, images.get(run.trained))
            for name, run in running.items()
        }
        raced = race_isolated(contenders, device, in_channels, on_ready=context.progress)
        absent |= {name: anonymised(reason) for name, reason in raced.failures.items()}
        return {"speeds": {name: speed.to_dict() for name, speed in raced.speeds.items()}, "missing": absent}

    about = {
        name: {"config": archs.to_dict(run.config), "protocol": run.protocol.to_dict()} for name, run in runs.items()
    }
    return Cell("race", label, determinants, measure, cost=float(len(runs)), about={"entries": about})


def recorded_ratio(speeds: Mapping[str, Mapping[str, Any]], fast: str, slow: str) -> Median:
    """How many times the throughput of `slow` that of `fast` was, the median over rounds of a comparison."""
    a, b = speeds[fast], speeds[slow]
    scale = a["protocol"]["batch"] / b["protocol"]["batch"]
    pairs = zip(a["block_rounds_ms"], b["block_rounds_ms"], strict=True)
    return median_interval([scale * theirs / ours for ours, theirs in pairs])


def latency_ratio(speeds: Mapping[str, Mapping[str, Any]], fast: str, slow: str) -> Median:
    """How many times the latency of `fast` that of `slow` was, the median over rounds of a comparison."""
    rounds = zip(speeds[fast]["latency_rounds_ms"], speeds[slow]["latency_rounds_ms"], strict=True)
    return median_interval([median(theirs) / median(ours) for ours, theirs in rounds])


def background_load(record: Record) -> str:
    """A sentence if other processes took cores that a comparison's threads needed; empty if there were enough."""
    load = load_sentence(list(record.result["speeds"].values()), record.environment["usable_cores"])
    return load and (
        f"{load}. Runtimes suffer from it differently, so these ratios have no verdict; run the study again on an idle "
        "machine."
    )


def load_sentence(speeds: Sequence[Mapping[str, Any]], cores: int) -> str:
    """The load of other processes, without a full stop, if they took cores that the threads of these speeds (each
    as `Speed.to_dict`) needed; empty if there were enough."""
    others = max((speed.get("other_cores") or 0.0 for speed in speeds), default=0.0)
    threads = max((speed["threads"] for speed in speeds), default=1)
    if others + threads <= cores + TOLERABLE:
        return ""
    return f"background CPU load: other processes used {others:.1f} of {cores} cores beside {threads} threads"


def quickest(speeds: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Of `names`, the one with the highest median throughput; None if none of them ran."""
    return max((name for name in names if name in speeds), key=lambda name: speeds[name]["throughput"], default=None)


def missing(protocol: SpeedProtocol, device: str) -> str:
    """Why the runtime or precision is not to be had on `device`, in a sentence; empty where it is."""
    from bench.speed.runtimes import refuse_missing

    try:
        refuse_missing(protocol, torch.device(device))
    except BenchError as error:
        return str(error)
    return ""


def _versions(int8: bool) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in (*PACKAGES, "nncf") if int8 else PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found
