"""From the plan of a tile to its picture: colours on the ground, float32 (3, S, S), then the sensor's 8-bit image.

Colour says little by itself, as in real scenes: meadows and growing crops share greens, fallow fields, bare land
and yards share browns, trees, bushes and orchards share leaves, wet soil is as dark as water. What tells them
apart is texture (rows, crowns and their size, roofs) and shape (plots, streets, shores)."""

import math

import numpy as np
from scipy import ndimage

from bench.data.terrain.land import BARREN, BUILT, CROP, GRASS, SHRUB, TREE, WATER, Land
from bench.data.terrain.noise import Field, Parcels, crowns, fractal, relief, smooth
from bench.data.terrain.style import Rgb, Style

Colour = np.ndarray
"""A coloured surface, float32 (3, S, S)."""

SOWN = 3
"""The first kinds of crop show plants; the rest are bare, and seldom show rows."""
RIPE = np.array([0.60, 0.54, 0.33], np.float32)
ROOFS = np.array(
    [[0.55, 0.37, 0.30], [0.50, 0.40, 0.34], [0.52, 0.51, 0.50], [0.38, 0.38, 0.39], [0.76, 0.74, 0.70]], np.float32
)
WARMER = np.array([0.12, 0.04, -0.06], np.float32)


def paint(rng: np.random.Generator, style: Style, land: Land) -> Colour:
    """The tile's colours under even light, hill shading included."""
    mottle = fractal(rng, len(land.cover), 18, 3, 0.7)
    picture = np.empty((3, *land.cover.shape), np.float32)
    painters = {
        TREE: _forest, SHRUB: _scrub, GRASS: _pasture, CROP: _crops, BUILT: _town, BARREN: _barren, WATER: _water,
    }  # fmt: skip
    for kind, painter in painters.items():
        here = land.cover == kind
        if here.any():
            np.copyto(picture, painter(rng, style, land, mottle), where=here)
    _fence(style, land, picture)
    shade = 1 + np.float32(3.2 * style.relief) * relief(land.height, style.sun).clip(-0.12, 0.12)
    picture *= np.where(land.cover == WATER, np.float32(1), shade)
    return picture


def _flat(colour: Rgb) -> Colour:
    return colour[:, None, None]


def _blend(one: Colour, other: Colour, share: Field) -> Colour:
    return one + (other - one) * share


def _forest(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Closed canopy: crowns side by side, lit on one side."""
    canopy = crowns(rng, len(mottle), style.crown, 0.95)
    light = 0.62 + 0.42 * canopy + 1.3 * relief(canopy, style.sun) + 0.05 * mottle
    return _flat(style.tree) * (1 + _flat(WARMER) * smooth(rng, len(mottle), 24)) * light


def _scrub(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Bushes of the trees' hue, smaller and apart, on grass or soil."""
    size = len(mottle)
    bare = (0.5 + 0.35 * smooth(rng, size, 20) + 0.4 * (style.dryness - 0.5)).clip(0, 1)
    ground = _blend(_flat(style.grass), _flat(style.soil), bare) * (1 + 0.06 * mottle)
    return _planted(style, ground, crowns(rng, size, 2.9, 0.6))


def _planted(style: Style, ground: Colour, bush: Field) -> Colour:
    """Ground with bushes of these heights on it, their light and shade."""
    light = relief(bush, style.sun)
    ground = ground * (1 + 0.25 * np.minimum(0, light))
    return _blend(ground, _flat(style.shrub) * (0.8 + 0.9 * light), (1.25 * bush).clip(0, 1))


def _pasture(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Grass: soft blotches without direction, bare spots, a lone bush here and there."""
    size = len(mottle)
    worn = (0.12 + 0.22 * smooth(rng, size, 26)).clip(0, 0.7)
    tint = _tints(rng, land.fields, 0.1)
    green = _blend(_flat(style.grass), _flat(style.soil), worn) * np.where(land.farmed, tint, 1)
    return _planted(style, green * (1 + 0.07 * mottle), crowns(rng, size, 3.6, 0.025))


def _tints(rng: np.random.Generator, plots: Parcels, spread: float) -> Colour:
    """A brightness, and less of a hue, of its own for each plot."""
    tint = 1 + rng.uniform(-spread, spread, (1, plots.count)) + rng.uniform(-0.4, 0.4, (3, plots.count)) * spread
    return tint.astype(np.float32)[:, plots.ident]


def _crops(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Plots, each with its crop, growth and direction of rows; some fallow and bare, some orchards."""
    plots, size = land.fields, len(mottle)
    leaf, wet = style.tree * np.float32(0.95), style.soil * np.float32(0.5)
    kinds = np.stack([style.grass * np.float32(0.92), leaf, RIPE, style.soil, style.soil * np.float32(1.2), wet])
    kind = rng.choice(len(kinds), plots.count, p=[0.38, 0.18, 0.12, 0.14, 0.08, 0.1])
    colour = kinds[kind].T[:, plots.ident] * _tints(rng, plots, 0.12)
    patchy = 1 + 0.04 * mottle + 0.05 * smooth(rng, size, 14)
    rowed = rng.random(plots.count) < np.where(kind < SOWN, 0.75, 0.3)
    colour = colour * (patchy + _rows(rng, plots, rowed))
    orchard = ((kind < 1) & (rng.random(plots.count) < 0.3))[plots.ident]
    return np.where(orchard, _planted(style, colour, _orchard(plots)), colour)


def _rows(rng: np.random.Generator, plots: Parcels, rowed: np.ndarray) -> Field:
    """Furrows: a wave of its own period, strength and direction in each plot of `rowed`, bool (count,)."""
    period = rng.uniform(2.6, 4.2, plots.count).astype(np.float32)
    strength = (rowed * rng.uniform(0.04, 0.13, plots.count)).astype(np.float32)
    turned = rng.random(plots.count) < 0.35
    way = np.where(turned[plots.ident], plots.along, plots.across)
    return strength[plots.ident] * np.sin(np.float32(2 * math.pi) * way / period[plots.ident])


def _orchard(plots: Parcels) -> Field:
    """Heights of trees planted four pixels apart along the plots' axes."""
    turn = np.float32(2 * math.pi / 4)
    return (0.4 + 0.35 * (np.cos(plots.along * turn) + np.cos(plots.across * turn))).clip(0, 1)


def _fence(style: Style, land: Land, picture: Colour) -> None:
    """Paths and hedges between farmed plots, over what is there; still part of the plots."""
    border = np.float32(0.55) * np.exp(-np.square(land.fields.edge / 0.9))
    green = (land.cover == CROP) | ((land.cover == GRASS) & land.farmed)
    path = _flat((style.soil + style.grass) / 2)
    picture += (path - picture) * np.where(green, border, np.float32(0))


def _town(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Blocks between streets: houses with shadows, yards and gardens; halls in some blocks; and through roads."""
    street = (land.blocks.edge < 1.1) | land.road
    house, roof = _houses(rng, land, style)
    house &= ~street
    green = (rng.random(land.lots.count) < 0.55)[land.lots.ident]
    yard = np.where(green, _flat((style.grass + style.tree) / 2), _flat(style.soil)) * (1 + 0.08 * mottle)
    paved = _flat(np.float32(0.5) * style.rock + np.float32(0.24)) * (1 + 0.03 * mottle)
    ground = np.where(street, paved, yard)
    shadow = np.roll(house, (-round(style.sun[0]), -round(style.sun[1])), (0, 1))
    return np.where(house, roof, ground * np.where(shadow, np.float32(0.6), np.float32(1)))


def _houses(rng: np.random.Generator, land: Land, style: Style) -> tuple[np.ndarray, Colour]:
    """Where houses stand, bool (S, S), and what colour a roof there has."""
    blocks, lots = land.blocks, land.lots
    hall = (rng.random(blocks.count) < 0.2)[blocks.ident]
    stands = (rng.random(lots.count) < 0.72)[lots.ident]
    house = np.where(hall, blocks.edge > 2.2, (lots.edge > 0.75) & stands)
    choices = np.concatenate([ROOFS, style.soil[None], style.rock[None]])
    roofs = choices[rng.integers(0, len(choices), blocks.count + lots.count)]
    roofs *= rng.uniform(0.85, 1.15, (len(roofs), 1)).astype(np.float32)
    number = np.where(hall, blocks.ident, lots.ident + blocks.count)
    return house, roofs.T[:, number]


def _barren(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Bare soil and rock: rough at every scale, without edges or direction."""
    size = len(mottle)
    rough = fractal(rng, size, 10, 3, 0.8)
    stony = (0.5 + 0.5 * smooth(rng, size, 22)).clip(0, 1)
    return _blend(_flat(style.soil), _flat(style.rock), stony) * (1 + 0.06 * mottle + 0.2 * relief(rough, style.sun))


def _water(rng: np.random.Generator, style: Style, land: Land, mottle: Field) -> Colour:
    """Smooth; shallow water lets the ground through."""
    shallow = np.float32(0.6) * np.exp(-land.depth.clip(0) / np.float32(0.12))
    bed = _flat(style.soil * np.float32(0.75))
    return _blend(_flat(style.water), bed, shallow) * (1 + 0.04 * smooth(rng, len(mottle), 30))


HAZE = np.array([0.62, 0.66, 0.72], np.float32)


def expose(rng: np.random.Generator, style: Style, colours: np.ndarray) -> np.ndarray:
    """Colours float32 (3, S, S) to the image uint8 (S, S, 3)."""
    size = colours.shape[-1]
    light = np.float32(rng.uniform(0.85, 1.15)) + np.float32(0.06) * smooth(rng, size, 150)
    if rng.random() < 0.12:
        light *= 1 - np.float32(0.45) * (1.2 * smooth(rng, size, 60)).clip(0, 1)  # the shadow of clouds
    thick = np.float32(style.haze) * (1 + np.float32(0.3) * smooth(rng, size, 100))
    seen = colours * light * (1 - thick) + HAZE[:, None, None] * thick
    seen = ndimage.gaussian_filter(seen, (0, style.blur, style.blur), truncate=2.5)
    seen = seen * style.gain[:, None, None]
    seen += np.float32(style.noise) * rng.standard_normal(seen.shape, np.float32)
    return np.moveaxis((seen * 255 + np.float32(0.5)).clip(0, 255), 0, -1).astype(np.uint8)
