"""Where things are: relief, water, natural cover, fields, settlements and roads of one tile; no colour yet."""

import math
from dataclasses import dataclass

import numpy as np

from bench.data.terrain.noise import Field, Parcels, divide, fractal, grid, line_distance, slopes, smooth
from bench.data.terrain.style import Style

TREE, SHRUB, GRASS, CROP, BUILT, BARREN, WATER = range(7)
Mask = np.ndarray
"""A bool array (S, S)."""


@dataclass(frozen=True)
class Land:
    """The plan of one tile of S pixels: `cover` uint8 (S, S) of classes, and what the painter needs to paint it."""

    cover: np.ndarray
    height: Field  # relief, about unit variance
    depth: Field  # below the water level (positive under water), in units of height
    road: Mask
    farmed: Mask  # inside a fenced plot: crop, or a meadow, which is grass
    fields: Parcels
    blocks: Parcels
    lots: Parcels


def plan(rng: np.random.Generator, style: Style, size: int) -> Land:
    """A tile's plan, in the style of its scene."""
    height = fractal(rng, size, 120, 5, 0.5)
    river, bank = _river(rng, size)
    height -= np.float32(0.9) * np.exp(-np.square(bank / 16))  # rivers lie in valleys
    lake = np.float32(style.wet) - height
    depth = np.where(river, np.maximum(lake, np.float32(0.25)), lake)
    steep = np.float32(12) * np.hypot(*slopes(height))
    fields = _fields(rng, style, size)
    blocks, lots = _streets(rng, size)
    road = _roads(rng, size) & (lake < 0)  # bridges span rivers, not lakes
    cover = _natural(rng, style, size, height, bank)
    farmed, meadow = _tilled(rng, style, fields, steep)
    cover[farmed] = CROP
    cover[meadow] = GRASS
    cover[(depth > -0.07 * style.beach) & (lake > -0.3)] = BARREN
    cover[_settled(rng, style, blocks, steep)] = BUILT
    cover[depth > 0] = WATER
    cover[road] = BUILT
    return Land(cover, height, depth, road, farmed, fields, blocks, lots)


def _river(rng: np.random.Generator, size: int) -> tuple[Mask, Field]:
    """Which pixels a river covers, and each pixel's distance from it; two tiles in five have one."""
    if rng.random() > 0.4:
        return np.zeros((size, size), bool), np.full((size, size), 99, np.float32)
    meanders = np.float32(24) * smooth(rng, size, 90) + np.float32(9) * smooth(rng, size, 32)
    distance = line_distance(_line(rng, size) + meanders)
    width = np.float32(rng.uniform(1.2, 4.5)) * (1 + np.float32(0.25) * smooth(rng, size, 30))
    return distance < width, distance


def _roads(rng: np.random.Generator, size: int) -> Mask:
    """Which pixels lie on a through road: none to two gently bending ones in 64 pixels, more in larger tiles."""
    found = np.zeros((size, size), bool)
    for _ in range(rng.binomial(2 + size // 100, 0.2)):
        bend = np.float32(7) * smooth(rng, size, 75)
        found |= np.abs(_line(rng, size) + bend) < rng.uniform(1.0, 1.7)
    return found


def _line(rng: np.random.Generator, size: int) -> Field:
    """Signed distance, in pixels, from a straight line through the tile."""
    rows, columns = grid(size)
    angle = rng.random() * math.pi
    return (rows - size * rng.random()) * math.cos(angle) + (columns - size * rng.random()) * math.sin(angle)


def _fields(rng: np.random.Generator, style: Style, size: int) -> Parcels:
    """Plots of farmland, all in one direction a tile, sides of about `style.parcel` pixels."""
    bend = np.float32(2.5) * smooth(rng, size, 70)
    long = style.parcel * rng.uniform(1.1, 2.4)
    return divide(rng, grid(size, bend), rng.random() * math.pi, style.parcel, long)


def _streets(rng: np.random.Generator, size: int) -> tuple[Parcels, Parcels]:
    """Blocks between streets, and the building lots in them."""
    turn, axes = rng.random() * math.pi, grid(size, np.float32(1.5) * smooth(rng, size, 60))
    return divide(rng, axes, turn, 13, 18), divide(rng, axes, turn, 4.6, 4.6)


def _tilled(rng: np.random.Generator, style: Style, fields: Parcels, steep: Field) -> tuple[Mask, Mask]:
    """Which pixels lie in plots that are farmed, whole plots at a time, and which of them in meadows."""
    fit = fields.mean(fractal(rng, len(steep), 90, 2) - 0.5 * steep) + 0.25 * rng.standard_normal(fields.count)
    used = fit > 0.42 - style.farming
    meadow = used & (rng.random(fields.count) < 0.16)
    return used[fields.ident], meadow[fields.ident]


def _settled(rng: np.random.Generator, style: Style, blocks: Parcels, steep: Field) -> Mask:
    """Which pixels are built up, whole blocks at a time."""
    fit = blocks.mean(fractal(rng, len(steep), 75, 2) - 0.3 * steep) + 0.15 * rng.standard_normal(blocks.count)
    return (fit > 1.6 - style.urban)[blocks.ident]


def _natural(rng: np.random.Generator, style: Style, size: int, height: Field, bank: Field) -> np.ndarray:
    """Tree, Shrub, Grass and Barren by what the place suits best: uint8 (S, S)."""
    dry = np.float32(style.dryness - 0.5)
    damp = np.exp(-np.square(bank / 7))
    ragged, torn = (np.float32(0.3) * fractal(rng, size, 13, 3, 0.6) for _ in range(2))
    suits = {
        TREE: fractal(rng, size, 55, 2, 0.55) + 0.05 + 0.35 * height - 1.2 * dry + damp + ragged,
        SHRUB: fractal(rng, size, 45, 2, 0.55) - 0.4 + 0.8 * dry + torn,
        GRASS: fractal(rng, size, 55, 2, 0.55) + 0.2 - ragged,
        BARREN: fractal(rng, size, 55, 2, 0.55) - 0.85 + 0.35 * height + 1.6 * dry - torn,
    }
    best = np.stack(list(suits.values())).argmax(0)
    return np.array(list(suits), np.uint8)[best]
