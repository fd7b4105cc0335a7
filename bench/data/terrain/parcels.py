"""Plots of land: strips of random width, cut into cells of random length, in turned and slightly bent axes."""

import math
from dataclasses import dataclass

import numpy as np

from bench.data.terrain.noise import Field


@dataclass(frozen=True)
class Parcels:
    """`ident` int (S, S) numbers the plots below `count`; `edge` is the distance to the nearest border in pixels;
    `along` and `across` are the coordinates of the plots' axes, in pixels."""

    ident: np.ndarray
    edge: Field
    along: Field
    across: Field
    count: int

    def mean(self, field: Field) -> np.ndarray:
        """The mean of a field over each plot (count,); plots outside the tile get 0."""
        ident = self.ident.ravel()
        total = np.bincount(ident, field.ravel(), self.count)
        return total / np.maximum(np.bincount(ident, minlength=self.count), 1)


def grid(size: int, bend: Field | float = 0.0) -> tuple[Field, Field]:
    """Pixel coordinates (rows, columns), bent by a field of pixels."""
    rows = np.arange(size, dtype=np.float32)
    return rows[:, None] + bend, rows[None, :] + bend


def divide(rng: np.random.Generator, axes: tuple[Field, Field], angle: float, width: float, length: float) -> Parcels:
    """Plots of about `width` x `length` pixels, strips running in the direction `angle` (radians)."""
    rows, columns = axes
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    across, along = rows * cos - columns * sin, rows * sin + columns * cos
    across, along = across - across.min() + 1e-3, along - along.min() + 1e-3
    strips = math.ceil(float(across.max()) / (0.6 * width)) + 1
    breaks = np.concatenate([[0], np.cumsum(width * (0.6 + 0.9 * rng.random(strips)))]).astype(np.float32)
    breaks -= np.float32(rng.random() * 0.6 * width)
    lengths = (length * (0.6 + 0.9 * rng.random(strips))).astype(np.float32)
    offsets = (lengths * rng.random(strips)).astype(np.float32)
    strip = np.searchsorted(breaks, across, "right") - 1
    step = lengths[strip]
    place = (along + offsets[strip]) / step
    cell = place.astype(np.intp)
    rest = (place - cell) * step
    edge = np.minimum(np.minimum(across - breaks[strip], breaks[strip + 1] - across), np.minimum(rest, step - rest))
    cells = int(cell.max()) + 1
    return Parcels(strip * cells + cell, edge, along, across, strips * cells)
