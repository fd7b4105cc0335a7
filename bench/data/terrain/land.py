"""Where things are: relief, water, natural cover, fields, settlements and roads of one tile; no colour yet."""

from dataclasses import dataclass

import numpy as np

from bench.data.terrain.noise import Field, fractal, line_distance, slopes, smooth
from bench.data.terrain.parcels import Parcels, divide, grid
from bench.data.terrain.style import Style

TREE, SHRUB, GRASS, CROP, BUILT, BARREN, WATER = range(7)


@dataclass(frozen=True)
class Land:
    """The plan of one tile of S pixels: `cover` uint8 (S, S) of classes, and what the painter needs to paint it."""

    cover: np.ndarray
    height: Field  # relief, about unit variance
    depth: Field  # below the water level (positive under water), in units of height
    road: np.ndarray  # bool (S, S)
    fields: Parcels
    blocks: Parcels
    lots: Parcels


def plan(rng: np.random.Generator, style: Style, size: int) -> Land:
    """A tile's plan, in the style of its scene."""
    height = fractal(rng, size, 120, 5, 0.45)
    river, bank = _river(rng, size)
    height -= np.float32(0.9) * np.exp(-np.square(bank / 16))  # rivers lie in valleys
    depth = np.maximum(np.float32(style.wet) - height, np.where(river, np.float32(0.25), -9))
    steep = _steepness(height)
    bend = np.float32(2.5) * smooth(rng, size, 70)
    fields = divide(rng, grid(size, bend), rng.random() * np.pi, style.parcel, style.parcel * rng.uniform(1.1, 2.4))
    turn = rng.random() * np.pi
    axes = grid(size, np.float32(1.5) * smooth(rng, size, 60))
    blocks, lots = divide(rng, axes, turn, 13, 18), divide(rng, axes, turn, 4.6, 4.6)
    road = _road(rng, size)
    cover = _natural(rng, style, size, height, bank)
    tilled = fields.mean(fractal(rng, size, 90, 2) - 0.5 * steep) + 0.25 * rng.standard_normal(fields.count)
    cover[(tilled > 0.45 - style.farming)[fields.ident]] = CROP
    town = blocks.mean(fractal(rng, size, 75, 2) - 0.3 * steep) + 0.2 * rng.standard_normal(blocks.count)
    cover[(town > 1.35 - style.urban)[blocks.ident]] = BUILT
    cover[depth > 0] = WATER
    cover[road] = BUILT
    return Land(cover, height, depth, road, fields, blocks, lots)


def _river(rng: np.random.Generator, size: int) -> tuple[np.ndarray, Field]:
    """Which pixels a river covers, and each pixel's distance from it; two tiles in five have one."""
    distance = line_distance(fractal(rng, size, 95, 3, 0.35))
    if rng.random() > 0.4:
        return np.zeros((size, size), bool), np.full((size, size), 99, np.float32)
    width = np.float32(rng.uniform(1.2, 4.5)) * (1 + np.float32(0.25) * smooth(rng, size, 30))
    return distance < width, distance


def _road(rng: np.random.Generator, size: int) -> np.ndarray:
    """Which pixels lie on a through road: none, one or two gently bending ones."""
    found = np.zeros((size, size), bool)
    for _ in range(rng.integers(0, 3)):
        found |= line_distance(smooth(rng, size, 130)) < rng.uniform(0.9, 1.6)
    return found


def _steepness(height: Field) -> Field:
    return np.float32(12) * np.hypot(*slopes(height))


def _natural(rng: np.random.Generator, style: Style, size: int, height: Field, bank: Field) -> np.ndarray:
    """Tree, Shrub, Grass and Barren by what the place suits best: uint8 (S, S)."""
    dry = np.float32(style.dryness - 0.5)
    damp = np.exp(-np.square(bank / 7))
    suits = {
        TREE: fractal(rng, size, 55, 4) + 0.35 * height - 1.4 * dry + damp,
        SHRUB: fractal(rng, size, 45, 4) - 0.55 + 0.9 * dry,
        GRASS: fractal(rng, size, 55, 3) + 0.15,
        BARREN: fractal(rng, size, 55, 4) - 0.95 + 0.35 * height + 1.8 * dry,
    }
    best = np.stack(list(suits.values())).argmax(0)
    return np.array(list(suits), np.uint8)[best]
