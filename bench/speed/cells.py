"""Cells of speed: several networks in one interleaved measurement."""

from collections.abc import Mapping
from typing import Any

import torch

import archs
from archs import ArchConfig
from bench.counting.cells import IMAGE_CHANNELS
from bench.engine import Cell, CellContext
from bench.records import anonymised
from bench.records.identity import changed_fields, network_libraries, networks_determinants, versions
from bench.speed.protocol import SpeedProtocol


def speed_cell(
    configs: Mapping[str, ArchConfig],
    size: tuple[int, int],
    num_classes: int,
    protocol: SpeedProtocol,
    device: str,
    in_channels: int = IMAGE_CHANNELS,
) -> Cell:
    """Speed of several networks, interleaved: one measurement, since speeds of different times do not compare."""
    from bench.records.environment import device_kind

    libraries = {package for config in configs.values() for package in network_libraries(config)}
    determinants = {
        **networks_determinants(configs, num_classes, in_channels),
        "size": size,
        "protocol": changed_fields(protocol),
        "threads": protocol.threads or torch.get_num_threads(),
        "device": device_kind(device),
        "versions": versions("torch", *libraries),
    }
    about = {
        "configs": {label: archs.to_dict(config) for label, config in configs.items()},
        "protocol": protocol.to_dict(),
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.speed.measure import Contender, race_isolated

        contenders = {
            label: Contender(archs.build(config, num_classes, in_channels), size, protocol)
            for label, config in configs.items()
        }
        raced = race_isolated(contenders, device, in_channels)
        failures = {label: anonymised(reason) for label, reason in raced.failures.items()}
        return {"speeds": {label: speed.to_dict() for label, speed in raced.speeds.items()}, "failures": failures}

    label = f"speed at batch {protocol.batch}"
    return Cell("speed", label, determinants, run, cost=float(len(configs)), about=about)
