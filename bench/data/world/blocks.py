"""The map cut into scenes and tiles: a scene is a block of 256 px, wholly in one split; tiles divide a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bench.data.classes import read_table
from bench.data.dataset import SPLITS, DataSet, Progress, Split, TileReport, assemble, split_digest, tile_digest
from bench.data.folds import divide
from bench.errors import BenchError

FOLDER = Path(__file__).parent
SCENE = 256
LEFT, WIDTH, BOTTOM = 12, 21 * SCENE, 9 * SCENE
"""Scenes lie in WIDTH columns from LEFT on, above row BOTTOM, all in pixels of 1/15 degree."""
SCENE_LAND, TILE_LAND = 0.15, 0.05
"""Share of land from which on a scene, or a tile of it, is taken: the sea is easy and more than half of the map."""
WATER = 0
SHARES = (0.6, 0.2, 0.2)
GSD_M = round(6_371_008.8 * np.pi / 180 / 15, 1)
"""Side of a pixel from north to south in metres, on a sphere with the mean radius of the Earth."""
SIDES = (16, 32, 64, 128, 256)
SCOPE = "No test scene is in train, but scenes have neighbours there: scores hold for other blocks of this map."
CREDIT = "Image: NASA Earth Observatory, Blue Marble; labels: NASA LP DAAC, MODIS land cover MCD12C1 v006 (2019)"


@dataclass(frozen=True)
class World:
    """Options of `world`: the side of a tile in pixels, one of `SIDES`."""

    tile: int = 128


@dataclass(frozen=True)
class Scene:
    """A block of the map: its name, the split that it belongs to, and left and top of its tiles in map pixels."""

    name: str
    split: str
    tiles: tuple[tuple[int, int], ...]


def parse_world(source: str) -> World:
    """`world` or `world:tile=64` to options. Raises `BenchError` for another option or side."""
    options = source.partition(":")[2]
    key, _, value = options.partition("=")
    if options and (key != "tile" or not value.isdecimal()):
        raise BenchError(f"{source} has the option {options}; write world, or world:tile=64.")
    side = int(value) if options else World().tile
    if side not in SIDES:
        raise BenchError(f"{source} has tiles of {side} pixels; a scene of {SCENE} divides into {_listed(SIDES)}.")
    return World(side)


def open_world(source: str, splits: Sequence[str], *, progress: Progress | None = None) -> DataSet:
    """The embedded map as `source` wants it; arguments and errors as in `bench.data.open_data`."""
    options = parse_world(source)
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise BenchError(f"world has no split {unknown[0]}; it has {_listed(SPLITS)}.")
    table = read_table(FOLDER / "classes.json")
    scenes = world_scenes(options.tile)
    held = {split: [scene for scene in scenes if scene.split == split] for split in splits}
    report = TileReport(progress, sum(len(scene.tiles) for part in held.values() for scene in part), "cutting world")
    parts = [_split(split, part, options.tile, report) for split, part in held.items()]
    return assemble(table.name, table.classes, parts, scenes_known=True, credit=CREDIT, scope=SCOPE, gsd_m=GSD_M)


@cache
def world_scenes(tile: int = World().tile) -> tuple[Scene, ...]:
    """All scenes, by rows of the map, with their tiles of `tile` x `tile` pixels.

    Which split a scene belongs to depends on the classes of all its pixels, and so on no tile size.
    """
    labels = _map()[1]
    corners = _land_blocks(LEFT, 0, WIDTH, BOTTOM, SCENE, SCENE_LAND)
    amounts = np.array([np.bincount(labels[y : y + SCENE, x : x + SCENE].ravel(), minlength=10) for x, y in corners])
    names = [_name(x, y) for x, y in corners]
    return tuple(
        Scene(name, SPLITS[part], tuple(_land_blocks(x, y, SCENE, SCENE, tile, TILE_LAND)))
        for name, part, (x, y) in zip(names, divide(names, amounts, SHARES), corners, strict=True)
    )


def _land_blocks(left: int, top: int, width: int, height: int, side: int, land: float) -> list[tuple[int, int]]:
    """Left and top of the blocks of a region that have at least that share of land, row by row."""
    labels = _map()[1]
    corners = [(x, y) for y in range(top, top + height, side) for x in range(left, left + width, side)]
    return [(x, y) for x, y in corners if np.mean(labels[y : y + side, x : x + side] != WATER) >= land]


def _split(name: str, scenes: Sequence[Scene], side: int, report: TileReport) -> Split:
    image, labels = _map()
    corners = [corner for scene in scenes for corner in scene.tiles]
    names = tuple(scene.name for scene in scenes for _ in scene.tiles)
    images = np.stack([image[y : y + side, x : x + side] for x, y in corners])
    masks = np.stack([labels[y : y + side, x : x + side] for x, y in corners])
    tiles = tuple(_name(x, y) for x, y in corners)
    report(len(tiles))
    return Split(name, images, masks, tiles, split_digest(tiles, map(tile_digest, images, masks)), names)


def world_picture() -> UInt8[np.ndarray, "2700 5400 3"]:
    """The whole picture in RGB; its upper left corner is 180 W, 90 N, a pixel is 1/15 degree."""
    return _map()[0]


@cache
def _map() -> tuple[UInt8[np.ndarray, "2700 5400 3"], UInt8[np.ndarray, "2700 5400"]]:
    """Image and class indices of the whole map, decoded once a process."""
    with Image.open(FOLDER / "image.jpg") as image, Image.open(FOLDER / "labels.png") as labels:
        return np.asarray(image), np.asarray(labels)


def _name(left: int, top: int) -> str:
    return f"x{left:04d}_y{top:04d}"


def _listed(values: Sequence[object]) -> str:
    return f"{', '.join(map(str, values[:-1]))} and {values[-1]}"
