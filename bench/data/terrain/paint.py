"""What things look like: the plan of a tile to its colours, float32 (3, S, S), before the sensor sees it."""

import numpy as np

from bench.data.terrain.land import BARREN, BUILT, CROP, GRASS, SHRUB, TREE, WATER, Land
from bench.data.terrain.noise import Field, crowns, fractal, relief, smooth
from bench.data.terrain.parcels import Parcels
from bench.data.terrain.style import Rgb, Style

Colour = np.ndarray
"""A coloured surface, float32 (3, S, S)."""


def paint(rng: np.random.Generator, style: Style, land: Land) -> Colour:
    """The tile's colours under even light, hill shading included."""
    size = land.cover.shape[0]
    picture = np.empty((3, size, size), np.float32)
    mottle = fractal(rng, size, 18, 3, 0.7)
    painters = {
        TREE: _forest, SHRUB: _scrub, GRASS: _pasture, CROP: _fields, BUILT: _town, BARREN: _barren, WATER: _water,
    }  # fmt: skip
    for kind, painter in painters.items():
        here = land.cover == kind
        if here.any():
            np.copyto(picture, painter(rng, style, land, mottle), where=here)
    shade = 1 + np.float32(2.2 * style.relief) * relief(land.height, style.sun).clip(-0.15, 0.15)
    return np.where(land.cover == WATER, picture, picture * shade)


def _flat(colour: Rgb) -> Colour:
    return colour[:, None, None]


def _forest(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Closed canopy: crowns side by side, lit on one side."""
    size = mottle.shape[0]
    canopy = crowns(rng, size, style.crown, 0.95)
    light = 0.62 + 0.42 * canopy + 1.3 * relief(canopy, style.sun) + 0.05 * mottle
    warm = 1 + _flat(np.array([0.12, 0.04, -0.06], np.float32)) * smooth(rng, size, 24)
    return _flat(style.tree) * warm * light


def _scrub(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Bushes of the trees' hue, smaller and apart, on grass or soil."""
    size = mottle.shape[0]
    ground = _ground(rng, style, size, mottle)
    bush = crowns(rng, size, 2.9, 0.6)
    light = 0.8 + 0.9 * relief(bush, style.sun)
    cover = (1.25 * bush).clip(0, 1)
    return (
        ground * (1 - cover) * (1 - 0.25 * np.maximum(0, -relief(bush, style.sun)))
        + _flat(style.shrub) * light * cover
    )


def _ground(rng: np.random.Generator, style: Style, size: int, mottle: Field) -> Colour:
    """Open ground between grass and soil."""
    bare = (0.5 + 0.35 * smooth(rng, size, 20) + 0.4 * (style.dryness - 0.5)).clip(0, 1)
    return (_flat(style.grass) * (1 - bare) + _flat(style.soil) * bare) * (1 + 0.06 * mottle)


def _pasture(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Grass: soft blotches without direction, a lone tree here and there."""
    size = mottle.shape[0]
    worn = (0.12 + 0.22 * smooth(rng, size, 26)).clip(0, 0.7)
    green = _flat(style.grass) * (1 - worn) + _flat(style.soil) * worn
    lone = crowns(rng, size, 9, 0.12)
    return green * (1 + 0.07 * mottle) * (1 - 0.55 * lone)


def _fields(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Plots, each with its crop, growth and direction of rows; some are fallow and show bare soil."""
    plots = land.fields
    growing, ripe = style.grass * np.float32(0.9), np.array([0.60, 0.54, 0.33], np.float32)
    lush, wet = style.tree * np.float32(1.25), style.soil * np.float32(0.5)
    choices = np.stack([growing, style.grass, lush, ripe, style.soil, style.soil * np.float32(1.2), wet])
    odds = np.array([0.22, 0.2, 0.12, 0.16, 0.14, 0.08, 0.08])
    kind = rng.choice(len(choices), plots.count, p=odds)
    tint = (1 + rng.uniform(-0.1, 0.1, (plots.count, 3))).astype(np.float32)
    colour = np.moveaxis((choices[kind] * tint)[plots.ident], -1, 0)
    border = np.exp(-np.square(plots.edge / 0.9))
    path = _flat((style.soil + style.grass) / 2)
    return (colour * (1 + _rows(rng, plots) + 0.03 * mottle)) * (1 - 0.6 * border) + path * 0.6 * border


def _rows(rng: np.random.Generator, plots: Parcels) -> Field:
    """Furrows: a wave of its own period, strength and direction in each plot."""
    period = rng.uniform(2.6, 4.2, plots.count).astype(np.float32)
    strength = rng.uniform(0.05, 0.16, plots.count).astype(np.float32)
    turned = rng.random(plots.count) < 0.35
    way = np.where(turned[plots.ident], plots.along, plots.across)
    return strength[plots.ident] * np.sin(2 * np.pi * way / period[plots.ident])


ROOFS = np.array(
    [[0.56, 0.36, 0.29], [0.50, 0.38, 0.32], [0.52, 0.51, 0.50], [0.38, 0.38, 0.39], [0.78, 0.77, 0.74]], np.float32
)


def _town(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Blocks between streets: houses with shadows, yards and gardens; halls in some blocks; and through roads."""
    blocks, lots = land.blocks, land.lots
    paved = _flat(_pavement(style)) * (1 + 0.03 * mottle)
    hall = (rng.random(blocks.count) < 0.2)[blocks.ident]
    street = (blocks.edge < 1.1) | land.road
    house = np.where(hall, blocks.edge > 2.2, (lots.edge > 0.75) & (rng.random(lots.count) < 0.72)[lots.ident])
    house &= ~street
    number = np.where(hall, blocks.ident, lots.ident + blocks.count)
    roofs = ROOFS[rng.integers(0, len(ROOFS), blocks.count + lots.count)]
    roofs *= rng.uniform(0.85, 1.15, (len(roofs), 1)).astype(np.float32)
    green = (rng.random(lots.count) < 0.55)[lots.ident]
    yard = np.where(green, _flat((style.grass + style.tree) / 2), _flat(style.soil)) * (1 + 0.08 * mottle)
    ground = np.where(street, paved, yard)
    shadow = np.roll(house, (-round(style.sun[0]), -round(style.sun[1])), (0, 1)) & ~house
    return np.where(house, np.moveaxis(roofs[number], -1, 0), ground * np.where(shadow, np.float32(0.6), 1))


def _pavement(style: Style) -> Rgb:
    return np.float32(0.5) * style.rock + np.float32(0.24)


def _barren(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Bare soil and rock: rough at every scale, without edges or direction."""
    size = mottle.shape[0]
    rough = fractal(rng, size, 10, 3, 0.8)
    stony = (0.5 + 0.5 * smooth(rng, size, 22)).clip(0, 1)
    colour = _flat(style.soil) * (1 - stony) + _flat(style.rock) * stony
    return colour * (1 + 0.06 * mottle + 0.8 * relief(rough, style.sun) * 0.25)


def _water(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Smooth; shallow water lets the ground through."""
    size = mottle.shape[0]
    shallow = np.exp(-land.depth.clip(0) / 0.12) * np.float32(0.6)
    bed = _flat(style.soil * np.float32(0.75))
    return (_flat(style.water) * (1 - shallow) + bed * shallow) * (1 + 0.04 * smooth(rng, size, 30))
