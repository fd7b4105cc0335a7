"""How cost grows with the side of the image and with the batch: cells, and fits of power laws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import archs
from archs.meta import build_on_meta
from bench.counting.cells import IMAGE_CHANNELS, cost_cell
from bench.engine import Cell, CellContext
from bench.records import anonymised
from bench.records.identity import changed_fields, network_libraries, networks_determinants, versions
from bench.speed.protocol import SpeedProtocol

ATTENTION_PRODUCTS = ("bmm", "baddbmm", "scaled_dot_product_attention")  # products of two activations
CONFIDENCE = 0.95
TAKEOVER = 0.5  # of the MACs


def growth_cell(config: archs.ArchConfig, label: str, size: tuple[int, int], num_classes: int, batch: int = 1) -> Cell:
    """Exact counts of a batch at a size, on the meta device: MACs, those of attention, activation memory, launches.

    A network that is tied to a size is made for this one (`archs.fit_image_size`); where it cannot be, the record
    fails and says why.
    """
    fitted = archs.fit_image_size(config, size)
    plain = cost_cell(fitted, label, size, num_classes)
    determinants = {**plain.determinants, "batch": batch}

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.counting import count_macs, count_params

        model = build_on_meta(fitted, num_classes, IMAGE_CHANNELS)
        count = count_macs(model, size, IMAGE_CHANNELS, batch)
        attention = sum(count.by_operator.get(operator, 0) for operator in ATTENTION_PRODUCTS)
        return {
            "params": count_params(model).total,
            "macs": count.total,
            "attention_macs": attention,
            "peak_activation_bytes": count.peak_activation_bytes,
            "activation_bytes": count.activation_bytes,
            "launches": count.launches,
        }

    return Cell("growth", f"{label}, {size[0]}x{size[1]}, batch {batch}", determinants, run)


def latency_cell(
    configs: Mapping[str, archs.ArchConfig],
    size: tuple[int, int],
    num_classes: int,
    protocol: SpeedProtocol,
    device: str,
    most_macs: float,
) -> Cell:
    """Latency of several networks at one size, interleaved; networks above `most_macs` an image are skipped.

    Returns:
        A cell whose result holds `speeds` (latency in ms with its interval) and `skipped` (why), by label.
    """
    from bench.records.environment import device_kind

    fitted = {label: archs.fit_image_size(config, size) for label, config in configs.items()}
    libraries = {package for config in fitted.values() for package in network_libraries(config)}
    determinants = {
        **networks_determinants(fitted, num_classes, IMAGE_CHANNELS),
        "size": size,
        "protocol": changed_fields(protocol),
        "threads": protocol.threads or torch.get_num_threads(),
        "device": device_kind(device),
        "most_macs": most_macs,
        "versions": versions("torch", *libraries),
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        from bench.speed.measure import Contender, race_isolated

        skipped = {
            label: reason for label, c in fitted.items() if (reason := _too_much(c, size, num_classes, most_macs))
        }
        contenders = {
            label: Contender(archs.build(c, num_classes, IMAGE_CHANNELS), size, protocol)
            for label, c in fitted.items()
            if label not in skipped
        }
        raced = race_isolated(contenders, device) if contenders else None
        speeds = raced.speeds if raced else {}
        skipped |= {label: anonymised(reason) for label, reason in raced.failures.items()} if raced else {}
        keys = ("latency_ms", "latency_low", "latency_high")
        found = {label: speed.to_dict() for label, speed in speeds.items()}
        return {"speeds": {label: {key: s[key] for key in keys} for label, s in found.items()}, "skipped": skipped}

    return Cell("latency", f"latency at {size[0]}x{size[1]}", determinants, run, cost=float(size[0] * size[1]))


def _too_much(config: archs.ArchConfig, size: tuple[int, int], num_classes: int, most_macs: float) -> str:
    """Why a network is not timed at a size; empty if it is."""
    from bench.counting import count_macs
    from bench.errors import BenchError

    try:
        macs = count_macs(build_on_meta(config, num_classes, IMAGE_CHANNELS), size, IMAGE_CHANNELS).total
    except (BenchError, archs.ArchError) as error:
        return str(error)
    return f"{macs / 1e9:.3g} GMAC, above the limit of {most_macs / 1e9:.3g} for timing" if macs > most_macs else ""


@dataclass(frozen=True)
class Growth:
    """A power law through (size, cost): cost ~ size ** exponent.

    `low` and `high`: the 95 % interval of a straight line through the logarithms. Of exact counts it tells how far
    they are from one power law, not of any noise. `last`: the exponent between the two largest sizes alone.
    """

    exponent: float
    low: float | None
    high: float | None
    last: float


def fit_growth(sizes: Sequence[float], costs: Sequence[float]) -> Growth | None:
    """Least squares in logarithms; None with fewer than two sizes, no interval with two."""
    from scipy.stats import t

    x, y = np.log(np.array(sorted(zip(sizes, costs, strict=True)), float).reshape(-1, 2)).T
    if len(x) < 2:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    last = float((y[-1] - y[-2]) / (x[-1] - x[-2]))
    if len(x) == 2:
        return Growth(float(slope), None, None, last)
    free = len(x) - 2
    error = np.sqrt(((y - slope * x - intercept) ** 2).sum() / free / ((x - x.mean()) ** 2).sum())
    half = float(t.ppf((1 + CONFIDENCE) / 2, free) * error)
    return Growth(float(slope), float(slope) - half, float(slope) + half, last)


def takeover_side(sides: Sequence[int], shares: Sequence[float]) -> float | None:
    """The side from which on attention products are over half of the MACs; None if they are not at any.

    Between two counted sides the ratio of attention to the rest is taken as a power law. If they are over half at the
    smallest side already, it is that one.
    """
    order = np.argsort(sides)
    x, share = np.asarray(sides, float)[order], np.asarray(shares, float)[order]
    over = share > TAKEOVER
    if not over[-1]:
        return None
    first = len(x) - int(np.argmin(over[::-1])) if not over.all() else 0
    if first == 0:
        return float(x[0])
    odds = np.log(np.maximum(share, 1e-12) / np.maximum(1 - share, 1e-12))[first - 1 : first + 1]
    return float(np.exp(np.interp(0.0, odds, np.log(x[first - 1 : first + 1]))))
