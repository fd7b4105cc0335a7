"""The raw materials of a landscape: smooth noise, winding lines, crowns; all square float32 arrays (S, S)."""

import math

import numpy as np
from scipy import ndimage

Field = np.ndarray
"""A float32 array (S, S)."""

_SPLINE_GAIN = 315 / 151  # one over the mean squared weight of a cubic B-spline, a dimension: unit variance


def smooth(rng: np.random.Generator, size: int, wavelength: float) -> Field:
    """Gaussian noise of about zero mean and unit variance whose lattice is `wavelength` pixels wide."""
    count = math.ceil(size / wavelength) + 4
    lattice = rng.standard_normal((count, count), np.float32)
    rows, columns = (_spline(size, wavelength, count, offset) for offset in rng.random(2))
    return (rows @ lattice @ columns.T) * np.float32(_SPLINE_GAIN)


def _spline(size: int, wavelength: float, count: int, offset: float) -> np.ndarray:
    """Weights (size, count) of a cubic B-spline over lattice nodes `wavelength` pixels apart."""
    at = np.arange(size) / wavelength + offset
    node = at.astype(np.intp)
    t = at - node
    weights = np.zeros((size, count), np.float32)
    line = np.arange(size)
    weights[line, node] = (1 - t) ** 3 / 6
    weights[line, node + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[line, node + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[line, node + 3] = t**3 / 6
    return weights


def fractal(rng: np.random.Generator, size: int, wavelength: float, octaves: int, gain: float = 0.5) -> Field:
    """Octaves of `smooth`, each half the wavelength and `gain` times the height; unit variance in all."""
    total = smooth(rng, size, wavelength)
    for octave in range(1, octaves):
        total += np.float32(gain**octave) * smooth(rng, size, wavelength / 2**octave)
    return total * np.float32(1 / math.sqrt(sum(gain ** (2 * o) for o in range(octaves))))


def slopes(field: Field) -> tuple[Field, Field]:
    """Central differences down (rows) and right (columns)."""
    padded = np.pad(field, 1, mode="edge")
    half = np.float32(0.5)
    return (padded[2:, 1:-1] - padded[:-2, 1:-1]) * half, (padded[1:-1, 2:] - padded[1:-1, :-2]) * half


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
