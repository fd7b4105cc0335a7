"""Cells of races: networks in several forms and runtimes, timed in the same rounds; their ratios from the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import archs
from bench.counting.cells import IMAGE_CHANNELS
from bench.engine import Cell, CellContext
from bench.errors import BenchError
from bench.records.identity import changed_fields, network_determinants
from bench.speed.protocol import SpeedProtocol
from bench.stats.medians import Median, median_interval

PACKAGES = ("torch", "timm", "segmentation-models-pytorch", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Way:
    """A network and how it is run."""

    config: archs.ArchConfig
    protocol: SpeedProtocol


def race_cell(ways: Mapping[str, Way], label: str, size: tuple[int, int], num_classes: int, device: str) -> Cell:
    """One interleaved run of `ways`, in their order. Those whose runtime or precision is not to be had here are left
    out, with the reason in the record's `missing`."""
    from bench.records.environment import device_kind

    determinants = {
        "entries": {
            name: {
                **network_determinants(way.config, num_classes, IMAGE_CHANNELS),
                "protocol": changed_fields(way.protocol),
            }
            for name, way in ways.items()
        },
        "order": list(ways),
        "size": size,
        "device": device_kind(device),
        "versions": _versions(),
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.speed.measure import Contender, race

        missing = {name: reason for name, way in ways.items() if (reason := _missing(way.protocol, device))}
        running = {name: way for name, way in ways.items() if name not in missing}
        models = {way.config: archs.build(way.config, num_classes, IMAGE_CHANNELS) for way in running.values()}
        contenders = {name: Contender(models[way.config], size, way.protocol) for name, way in running.items()}
        speeds = race(contenders, device, IMAGE_CHANNELS)
        return {"speeds": {name: speed.to_dict() for name, speed in speeds.items()}, "missing": missing}

    about = {
        name: {"config": archs.to_dict(way.config), "protocol": way.protocol.to_dict()} for name, way in ways.items()
    }
    return Cell("race", label, determinants, run, cost=float(len(ways)), about={"entries": about})


def recorded_ratio(speeds: Mapping[str, Mapping[str, Any]], fast: str, slow: str) -> Median:
    """How many times the throughput of `slow` that of `fast` was, the median over rounds, from a race's record."""
    a, b = speeds[fast], speeds[slow]
    scale = a["protocol"]["batch"] / b["protocol"]["batch"]
    pairs = zip(a["block_rounds_ms"], b["block_rounds_ms"], strict=True)
    return median_interval([scale * theirs / ours for ours, theirs in pairs])


def quickest(speeds: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Of `names`, the one with the highest median throughput; None if none of them ran."""
    return max((name for name in names if name in speeds), key=lambda name: speeds[name]["throughput"], default=None)


def _missing(protocol: SpeedProtocol, device: str) -> str:
    from bench.speed.runtimes import refuse_missing

    try:
        refuse_missing(protocol, torch.device(device))
    except BenchError as error:
        return str(error)
    return ""


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found
