"""The raw materials of a landscape: smooth noise, winding lines, crowns, plots; square float32 arrays (S, S).

Plots are strips of random width, cut into cells of random length, in turned and slightly bent axes."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

Field = np.ndarray
"""A float32 array (S, S)."""

_PHASES = 16  # places of the lattice relative to the tile, in each dimension; few, so that weights are reused


def smooth(rng: np.random.Generator, size: int, wavelength: float) -> Field:
    """Gaussian noise of about zero mean and unit variance whose lattice is `wavelength` pixels wide."""
    phase = int(rng.integers(_PHASES**2))
    rows, columns = _spline(size, wavelength, phase // _PHASES), _spline(size, wavelength, phase % _PHASES)
    lattice = rng.standard_normal((rows.shape[1], columns.shape[1]), np.float32)
    return rows @ lattice @ columns.T


@lru_cache(maxsize=4096)
def _spline(size: int, wavelength: float, phase: int) -> np.ndarray:
    """Weights (size, nodes) of a cubic B-spline over lattice nodes `wavelength` pixels apart, for unit variance."""
    at = np.arange(size) / wavelength + phase / _PHASES
    node = at.astype(np.intp)
    t = at - node
    weights = np.zeros((size, math.ceil(size / wavelength) + 4), np.float32)
    line = np.arange(size)
    weights[line, node] = (1 - t) ** 3 / 6
    weights[line, node + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[line, node + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[line, node + 3] = t**3 / 6
    return weights * np.float32(math.sqrt(315 / 151))  # 151 / 315 is the mean over t of the squared weights' sum


def fractal(rng: np.random.Generator, size: int, wavelength: float, octaves: int, gain: float = 0.5) -> Field:
    """Octaves of `smooth`, each half the wavelength and `gain` times the height; unit variance in all."""
    height = 1 / math.sqrt(sum(gain ** (2 * o) for o in range(octaves)))
    total = smooth(rng, size, wavelength) * np.float32(height)
    for octave in range(1, octaves):
        total += smooth(rng, size, wavelength / 2**octave) * np.float32(height * gain**octave)
    return total


def slopes(field: Field) -> tuple[Field, Field]:
    """Central differences down (rows) and right (columns); 0 on the border."""
    down, right = np.zeros_like(field), np.zeros_like(field)
    np.subtract(field[2:], field[:-2], out=down[1:-1])
    np.subtract(field[:, 2:], field[:, :-2], out=right[:, 1:-1])
    down *= np.float32(0.5)
    right *= np.float32(0.5)
    return down, right


def line_distance(field: Field) -> Field:
    """About how many pixels each pixel lies from the winding lines where `field` is zero."""
    down, right = slopes(field)
    return np.abs(field) / (np.hypot(down, right) + np.float32(1e-4))


def crowns(rng: np.random.Generator, size: int, spacing: float, filled: float) -> Field:
    """Heights, about 0 to 1, of round crowns `spacing` pixels apart, standing on `filled` of a jittered lattice."""
    count = math.ceil(size / spacing) + 1
    base = (np.arange(count) + 0.5) * spacing
    jitter = (rng.random((2, count, count)) - 0.5) * spacing
    tall = np.where(rng.random((count, count)) < filled, 0.6 + 0.8 * rng.random((count, count)), 0)
    rows, columns = base[:, None] + jitter[0], base[None, :] + jitter[1]
    return _bumps(rows.ravel(), columns.ravel(), tall.ravel(), size, spacing * 0.36)


def _bumps(rows: np.ndarray, columns: np.ndarray, heights: np.ndarray, size: int, radius: float) -> Field:
    """Gaussian bumps of `radius` (standard deviation, pixels), saturating where they meet."""
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    cells = rows[inside].astype(np.intp) * size + columns[inside].astype(np.intp)
    points = np.bincount(cells, heights[inside] * (2 * math.pi * radius**2), size * size)
    field = ndimage.gaussian_filter(points.reshape(size, size).astype(np.float32), radius, truncate=2.5)
    return 1 - np.exp(-1.5 * field)


def relief(height: Field, sun: tuple[float, float]) -> Field:
    """Light minus shade on a surface lit from the direction `sun` (rows, columns): slope towards the sun."""
    down, right = slopes(height)
    return -(down * np.float32(sun[0]) + right * np.float32(sun[1]))


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
