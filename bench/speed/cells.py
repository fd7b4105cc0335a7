"""Cells of speed: several networks in one interleaved measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import archs
from archs import ArchConfig
from bench.counting.cells import IMAGE_CHANNELS
from bench.engine import Cell, CellContext
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
        from bench.speed.measure import measure_speed

        models = {label: archs.build(config, num_classes, in_channels) for label, config in configs.items()}
        failures = {label: reason for label, model in models.items() if (reason := _refusal(model, size, in_channels))}
        fit = {label: model for label, model in models.items() if label not in failures}
        speeds = measure_speed(fit, size, protocol, device, in_channels) if fit else {}
        return {"speeds": {label: speed.to_dict() for label, speed in speeds.items()}, "failures": failures}

    label = f"speed at batch {protocol.batch}"
    return Cell("speed", label, determinants, run, cost=float(len(configs)), about=about)


def _refusal(model: torch.nn.Module, size: tuple[int, int], in_channels: int) -> str:
    """Why a network does not run at a size; empty if it does. One that fails must not cost the others their figures."""
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, in_channels, *size))
    except Exception as error:  # whatever it raises is the answer
        return str(error).strip() or type(error).__name__
    return ""
