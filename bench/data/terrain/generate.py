"""Tiles and splits of `terrain`: every tile has a seed of its own, every scene belongs to one split."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from bench.data.cache import SplitCache, decode
from bench.data.classes import ARAS400K_CLASSES
from bench.data.dataset import DataSet, Progress, Split, TileReport, assemble, split_digest, tile_digest
from bench.data.terrain.land import plan
from bench.data.terrain.paint import expose, paint
from bench.data.terrain.style import Style, draw_style
from bench.errors import BenchError

TILES_A_SCENE = 8
MARGIN = 4
"""Pixels generated around a tile and cut off, so that blur and shading know no border."""
KEPT_FROM = 1 << 19
"""Pixels of a split from which on it is kept in the cache: generating so many takes about a second."""
SOURCES = sorted(Path(__file__).parent.glob("*.py"))
"""The generator's own code: a split that was kept by another version of it is not found."""
_SPLIT_CODES = {"train": 0, "val": 1, "test": 2}
_SCENE, _TILE = 0, 1


@dataclass(frozen=True)
class Terrain:
    """Options of the generator: the seed, the side of a tile in pixels, and the number of tiles of each split."""

    seed: int = 0
    size: int = 64
    train: int = 768
    val: int = 128
    test: int = 192


def parse_terrain(source: str) -> Terrain:
    """`terrain` or `terrain:seed=1,size=64,...` to options. Raises `BenchError` for what is no option or number."""
    known = [f.name for f in fields(Terrain)]
    options: dict[str, int] = {}
    for item in filter(None, source.partition(":")[2].split(",")):
        key, _, value = item.partition("=")
        if key not in known or not value.isdecimal():
            raise BenchError(
                f"{source} has the option {item}; write terrain:NAME=NUMBER,... with the names {', '.join(known)}."
            )
        options[key] = int(value)
    if not 16 <= options.get("size", 64) <= 4096:
        raise BenchError(f"{source} has tiles of {options['size']} pixels; 16 to 4096 are possible.")
    return Terrain(**options)


def open_terrain(
    source: str, splits: Sequence[str], *, cache: Path | None = None, progress: Progress | None = None
) -> DataSet:
    """The generated data set that `source` describes; arguments and errors as in `bench.data.open_data`.

    Splits that take a while are generated once and kept under `cache`, where that can be written.
    """
    options = parse_terrain(source)
    unknown = [split for split in splits if split not in _SPLIT_CODES]
    if unknown:
        raise BenchError(f"terrain has no split {unknown[0]}; it has {', '.join(_SPLIT_CODES)}.")
    empty = [split for split in splits if getattr(options, split) == 0]
    if empty:
        raise BenchError(f"{source} has no tile in the split {empty[0]}; give {empty[0]} at least 1.")
    report = TileReport(progress, sum(getattr(options, split) for split in splits), "generating terrain")
    parts = [_Part(options.seed, split, getattr(options, split), options.size) for split in splits]
    return assemble("terrain", ARAS400K_CLASSES, [part.open(cache, report) for part in parts], scenes_known=True)


@dataclass(frozen=True)
class _Part:
    """A split that may have to be generated: everything that its tiles follow from, beside this package's code."""

    seed: int
    split: str
    count: int
    size: int

    def open(self, cache: Path | None, report: TileReport) -> Split:
        if self.count * self.size**2 < KEPT_FROM:
            return self._decoded(None, report)
        try:
            return self._decoded(SplitCache.of(cache, f"terrain {self} numpy {np.__version__}"), report)
        except (BenchError, OSError):  # a cache that is full or read-only costs time, no more
            return self._decoded(None, report)

    def _decoded(self, store: SplitCache | None, report: TileReport) -> Split:
        """The split, from the cache where there is one, generated where it is not there yet."""
        shape = (self.count, self.size, self.size, 3)
        digest, images, masks, counted = decode(store, SOURCES, shape, np.uint8, partial(self._fill, report), report)
        return Split(self.split, np.array(images), np.array(masks), self._names(), digest, self._scenes(), counted)

    def _fill(self, report: TileReport, images: np.ndarray, masks: np.ndarray) -> str:
        """Generate into the arrays; the split's digest."""
        for index in range(self.count):
            images[index], masks[index] = make_tile(self.seed, self.split, index, self.size)
            report()
        return split_digest(self._names(), map(tile_digest, images, masks))

    def _names(self) -> tuple[str, ...]:
        return tuple(f"{self.split}_{index:05d}" for index in range(self.count))

    def _scenes(self) -> tuple[str, ...]:
        return tuple(f"{self.split}_scene_{index // TILES_A_SCENE:04d}" for index in range(self.count))


def make_tile(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (size, size, 3) and mask uint8 (size, size) of tile `index` of `split`; the same on every call."""
    style = scene_of(seed, split, index)
    rng = np.random.default_rng([seed, _SPLIT_CODES[split], _TILE, index])
    land = plan(rng, style, size + 2 * MARGIN)
    image = expose(rng, style, paint(rng, style, land))
    inside = slice(MARGIN, MARGIN + size)
    return image[inside, inside], land.cover[inside, inside]


def scene_of(seed: int, split: str, index: int) -> Style:
    """The scene of tile `index` of `split`: its own for every `TILES_A_SCENE` tiles, and for every split."""
    return draw_style(np.random.default_rng([seed, _SPLIT_CODES[split], _SCENE, index // TILES_A_SCENE]))
