"""Cells of speed: several networks in one interleaved measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

import archs
from archs import ArchConfig
from bench.counting.cells import IMAGE_CHANNELS
from bench.engine import Cell, CellContext
from bench.records import anonymised
from bench.records.identity import changed_fields, network_libraries, networks_determinants, versions
from bench.speed.comparison import untrained
from bench.speed.protocol import SpeedProtocol
from bench.speed.quantise import TIMED_IMAGES, calibration_images

if TYPE_CHECKING:
    from bench.data import DataSet

RUNTIME_PACKAGES = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino", "nncf")}
"""What computes in the runtimes that are not PyTorch's."""


def speed_cell(
    configs: Mapping[str, ArchConfig],
    size: tuple[int, int],
    num_classes: int,
    protocol: SpeedProtocol,
    device: str,
    in_channels: int = IMAGE_CHANNELS,
    tiles: DataSet | None = None,
) -> Cell:
    """Speed of several networks, interleaved: one measurement, since speeds of different times do not compare.

    `tiles`: int8 is calibrated on those of the training split.
    """
    from bench.records.environment import device_kind

    libraries = {package for config in configs.values() for package in network_libraries(config)}
    determinants = {
        **networks_determinants(configs, num_classes, in_channels),
        "size": size,
        "protocol": changed_fields(protocol),
        "threads": protocol.threads or torch.get_num_threads(),
        "device": device_kind(device),
        "versions": versions("torch", *libraries, *RUNTIME_PACKAGES.get(protocol.runtime, ())),
    }
    int8 = tiles if protocol.precision == "int8" else None
    if int8:
        determinants["calibration"] = {"data": int8.fingerprint, "images": TIMED_IMAGES}
    about = {
        "configs": {label: archs.to_dict(config) for label, config in configs.items()},
        "protocol": protocol.to_dict(),
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.speed.measure import Contender, race_isolated

        images = calibration_images(int8, int8.bands, size, TIMED_IMAGES) if int8 else None
        contenders = {
            label: Contender(untrained(config, num_classes, in_channels), size, protocol, images)
            for label, config in configs.items()
        }
        raced = race_isolated(contenders, device, in_channels)
        failures = {label: anonymised(reason) for label, reason in raced.failures.items()}
        return {"speeds": {label: speed.to_dict() for label, speed in raced.speeds.items()}, "failures": failures}

    label = f"speed at batch {protocol.batch}"
    return Cell("speed", label, determinants, run, cost=float(len(configs)), about=about)
