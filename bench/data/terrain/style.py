"""What the tiles of one scene share: climate, season, light, sensor. A scene never serves two splits."""

import math
from dataclasses import dataclass

import numpy as np

Rgb = np.ndarray
"""A colour, float32 (3,), 0 to 1."""


@dataclass(frozen=True)
class Style:
    """One scene. Colours are as a camera shows them (0 to 1, gamma applied); lengths in pixels."""

    dryness: float  # 0 green .. 1 parched: pasture and ripe crops turn to straw, shrub and barren land spread
    farming: float  # how much of the flat land is tilled
    urban: float
    wet: float  # the level lakes and the sea rise to
    beach: float  # how wide their shores are
    relief: float
    parcel: float  # mean width of a field
    crown: float  # mean distance of tree crowns
    sun: tuple[float, float]
    tree: Rgb
    shrub: Rgb
    grass: Rgb
    soil: Rgb
    rock: Rgb
    water: Rgb
    haze: float
    gain: Rgb
    blur: float
    noise: float


def draw_style(rng: np.random.Generator) -> Style:
    """A scene at random."""
    dryness, angle = float(rng.beta(1.6, 1.6)), rng.random() * 2 * math.pi
    soil = _mix((0.38, 0.31, 0.25), (0.66, 0.58, 0.46), rng.random()) * _tint(rng, 0.05)
    green = _mix((0.29, 0.39, 0.20), (0.37, 0.45, 0.25), rng.random())
    straw = _mix((0.52, 0.48, 0.32), (0.62, 0.56, 0.40), rng.random())
    tree = _mix((0.15, 0.22, 0.14), (0.27, 0.34, 0.18), rng.random()) * _tint(rng, 0.06)
    return Style(
        dryness=dryness,
        farming=float(rng.normal(0.2, 0.55)),
        urban=float(rng.normal(0.0, 0.4)),
        wet=float(rng.normal(-2.1, 0.55)),
        beach=float(rng.uniform(0, 2)),
        relief=float(rng.uniform(0.2, 1.2)),
        parcel=float(rng.uniform(11, 24)),
        crown=float(rng.uniform(4.0, 5.5)),
        sun=(math.sin(angle), math.cos(angle)),
        tree=tree,
        shrub=tree * _tint(rng, 0.06) * np.float32(rng.uniform(0.95, 1.2)),
        grass=_mix(green, straw, dryness) * _tint(rng, 0.05),
        soil=soil,
        rock=_mix(soil, (0.52, 0.50, 0.48), rng.random()) * np.float32(rng.uniform(0.85, 1.15)),
        water=_mix((0.09, 0.14, 0.18), (0.32, 0.34, 0.26), rng.random()) * _tint(rng, 0.08),
        haze=float(rng.uniform(0.0, 0.25)),
        gain=np.float32(rng.uniform(0.8, 1.5)) * _tint(rng, 0.06),
        blur=float(rng.uniform(0.45, 0.75)),
        noise=float(rng.uniform(0.008, 0.02)),
    )


def _mix(one: Rgb | tuple[float, ...], other: Rgb | tuple[float, ...], share: float) -> Rgb:
    a, b = np.asarray(one, np.float32), np.asarray(other, np.float32)
    return a + (b - a) * np.float32(share)


def _tint(rng: np.random.Generator, spread: float) -> Rgb:
    return (1 + rng.uniform(-spread, spread, 3)).astype(np.float32)
