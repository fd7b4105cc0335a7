"""Cells of counts: what determines them, and the run that makes them.

Studies and searches build their cells here, in `bench.speed.cells` and in `bench.training.cells` and nowhere else, so
that equal questions have equal keys and a figure measured for one answers all.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import archs
from archs import ArchConfig
from bench.engine import Cell, CellContext
from bench.records.identity import network_determinants, network_libraries, versions

IMAGE_CHANNELS = 3
# Of what a static record holds. 2 has the deployed form beside the trained one; 3 leaves fvcore's count of the deployed
# form out, and weights, however they are viewed, out of the peak of activations.
STATIC_SCHEMA = 3


def static_cell(
    config: ArchConfig, label: str, size: tuple[int, int], num_classes: int, in_channels: int = IMAGE_CHANNELS
) -> Cell:
    """Counts of a network: parameters, MACs by every counter, storage, activations; no arithmetic is timed."""
    determinants = {
        "schema": STATIC_SCHEMA,
        **network_determinants(config, num_classes, in_channels),
        "size": size,
        "versions": versions("torch", "fvcore", "thop", *network_libraries(config)),
    }

    run = partial(_static_figures, config, size, num_classes, in_channels)
    return Cell("static", f"{label}: counts", determinants, run, untimed=True, about={"config": archs.to_dict(config)})


def _static_figures(
    config: ArchConfig, size: tuple[int, int], num_classes: int, in_channels: int, context: CellContext
) -> Mapping[str, Any]:
    from bench.counting.static import refuse_other_output, static_figures

    refuse_other_output(archs.build(config, num_classes, in_channels), size, in_channels)
    return static_figures(config, size, num_classes, in_channels)


def cost_cell(config: ArchConfig, label: str, size: tuple[int, int], num_classes: int) -> Cell:
    """Parameters and exact MACs alone: what a list wants, in a fraction of a second."""
    determinants = {
        **network_determinants(config, num_classes, IMAGE_CHANNELS),
        "size": size,
        "versions": versions("torch", *network_libraries(config)),
    }

    run = partial(_costs, config, size, num_classes)
    return Cell("cost", label, determinants, run, untimed=True, about={"config": archs.to_dict(config)})


def _costs(config: ArchConfig, size: tuple[int, int], num_classes: int, context: CellContext) -> Mapping[str, Any]:
    from bench.counting import count_macs, count_params

    model = archs.build(config, num_classes, IMAGE_CHANNELS)
    return {"params": count_params(model).total, "macs": count_macs(model, size, IMAGE_CHANNELS).total}
