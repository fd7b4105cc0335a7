"""A folder of tiles as a data set: `{train,val,test}/{images,masks}/NAME.png` and `classes.json`.

Images are 8-bit RGB, or have the bands that `classes.json` names; masks hold numbers or class colours; image and mask
have one name. A folder without `classes.json` is read as ARAS400k as published: masks in its seven colours. Anything
that does not fit is refused with a sentence, never dropped or mapped to a class silently (see docs/own-tiles.md).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path

import numpy as np

from bench.data.bands import Band, is_rgb, measure_bands, rgb_bands
from bench.data.cache import SplitCache, decode
from bench.data.classes import Table, read_table
from bench.data.dataset import (
    MEMORY_LIMIT,
    DataSet,
    Progress,
    Split,
    TileReport,
    assemble,
    split_digest,
    tile_digest,
)
from bench.data.masks import MaskReader
from bench.data.nodata import filled, unseen
from bench.data.pixels import SUFFIXES, FileError, read_image
from bench.data.scenes import SceneOf, scene_finder, scenes_of
from bench.errors import BenchError

THREADS = 4
"""Decoding threads: Pillow releases the interpreter lock while it decodes."""
LITTER = "__MACOSX"
"""A folder that unpacked archives leave behind; its files, like hidden ones, are no tiles."""


@dataclass(frozen=True)
class TileFiles:
    """The two files of one tile."""

    name: str
    image: Path
    mask: Path


def open_folder(
    folder: Path,
    splits: Sequence[str],
    *,
    cache: Path | None = None,
    memory_limit: int = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> DataSet:
    """The data set in `folder`; arguments and errors as in `bench.data.open_data`."""
    if not folder.is_dir():
        raise BenchError(
            f"{folder} is neither a folder of tiles nor one of the words world and terrain; give a folder that holds "
            "{train,val,test}/{images,masks}, or one of these words."
        )
    table = read_table(folder / "classes.json")
    files = {split: list_tiles(folder, split, table) for split in splits}
    finder = scene_finder(folder, table.scene)
    opening = _Opening(folder, table, files, finder, memory_limit, cache, progress)
    parts = [opening.split(split) for split in splits]
    return assemble(
        table.name,
        table.classes,
        parts,
        bands=opening.bands(parts),
        scenes_known=finder is not None,
        credit=table.credit,
        scope=table.scope,
        gsd_m=table.gsd_m,
    )


def list_tiles(folder: Path, split: str, table: Table) -> list[TileFiles]:
    """The tiles of a split by name. Raises `BenchError` where the split is missing or empty, an image has no mask
    or a mask no image."""
    for kind in ("images", "masks"):
        if not (folder / split / kind).is_dir():
            raise BenchError(
                f"{folder / split / kind} does not exist; tiles lie in {{train,val,test}}/{{images,masks}}."
            )
    images = files_by_name(folder / split / "images", table.image_suffix)
    masks = files_by_name(folder / split / "masks", table.mask_suffix)
    for complaint in unmatched(images, masks, f"{folder / split}"):
        raise BenchError(complaint)
    if not images:
        raise BenchError(f"{folder / split / 'images'} holds no tile; put PNG, JPEG or TIFF files in it.")
    return [TileFiles(name, images[name], masks[name]) for name in sorted(images)]


def files_by_name(folder: Path, suffix: str = "") -> dict[str, Path]:
    """The image files of a folder and of those in it, by path less file type and `suffix`; hidden files and other
    litter are left out. Raises `BenchError` where the folder is missing, two files share a name, or one lacks the
    suffix."""
    if not folder.is_dir():
        raise BenchError(f"{folder} does not exist; give a folder of PNG, JPEG or TIFF files.")
    found: dict[str, Path] = {}
    for path in files_below(folder):
        inner = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part[0] == "." or part == LITTER for part in inner.parts):
            continue
        name = inner.with_suffix("").as_posix()
        if not name.endswith(suffix):
            raise BenchError(f'{path} does not end in "{suffix}", as classes.json says; rename it, or correct that.')
        name = name.removesuffix(suffix)
        if name in found:
            raise BenchError(f"{path} and {found[name].name} share one name; remove one of them.")
        found[name] = path
    return found


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, sorted; linked folders are read, but for one that leads back."""
    found: list[Path] = []
    for where, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(where) in {os.path.realpath(above) for above in Path(where).absolute().parents}:
            folders.clear()
        else:
            found += [Path(where, name) for name in names]
    return sorted(found)


def unmatched(images: Mapping[str, Path], masks: Mapping[str, Path], where: str) -> list[str]:
    """A sentence if images have no mask, and one if masks have no image, naming the first few; or one that tells the
    suffixes by which all of them differ."""
    if suffixes := _suffixes(sorted(images), sorted(masks)):
        return [
            f'The names of images end in "{suffixes[0]}" and those of their masks in "{suffixes[1]}"; write '
            f'"image_suffix": "{suffixes[0]}", "mask_suffix": "{suffixes[1]}" into classes.json.'
        ]
    sentences = []
    for has, lacks, one, other in ((images, masks, "image", "mask"), (masks, images, "mask", "image")):
        alone = sorted(set(has) - set(lacks))
        if alone:
            few = ", ".join(has[name].name for name in alone[:3]) + (", ..." if len(alone) > 3 else "")
            sentences.append(
                f"{where} has {len(alone)} {one}{'s' * (len(alone) > 1)} without {other}: {few}; add the {other} "
                f"under the same name or remove the {one}."
            )
    return sentences


SEPARATORS = "_-. "


def _suffixes(images: Sequence[str], masks: Sequence[str]) -> tuple[str, str] | None:
    """The one pair of endings by which each image's name differs from its mask's, where there is such a pair."""
    if len(images) != len(masks) or set(images) & set(masks):
        return None
    pairs = {_endings(image, mask) for image, mask in zip(images, masks, strict=True)}
    found = pairs.pop() if len(pairs) == 1 else None
    if found and len(images) == 1 and not all(end[:1] in ("", *SEPARATORS) for end in found):
        return None  # "scene1" and "scene2" are two scenes
    return found if found and found not in zip(images, masks, strict=True) else None


def _endings(one: str, other: str) -> tuple[str, str]:
    """What follows the common beginning of two names; a separator before it belongs to it."""
    common = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
    kept = len("".join(common).rstrip(SEPARATORS))
    return one[kept:], other[kept:]


def read_tile(tile: TileFiles, reader: MaskReader, size: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, B) and mask uint8 (H, W) of a tile; pixels without data are filled and have no label. Raises
    `BenchError`, naming the file, where they differ in size, or from `size`."""
    table = reader.table
    image, mask = read_image(tile.image, len(table.bands), str(table.path)), reader.read(tile.mask)
    if image.shape[:2] != mask.shape:
        raise FileError(
            tile.mask, f"is {_wh(mask.shape)} pixels but its image is {_wh(image.shape)}; both must be of one size."
        )
    if size is not None and mask.shape != size:
        raise FileError(
            tile.image,
            f"is {_wh(mask.shape)} pixels but the first tile is {_wh(size)}; tiles must all be of one size: cut them "
            "with `lale-bench data tile`.",
        )
    missing = unseen(image, table.bands)
    if missing is None:
        return image, mask
    return _filled(image, mask, missing, tile, table)


def _wh(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _filled(
    image: np.ndarray, mask: np.ndarray, missing: np.ndarray, tile: TileFiles, table: Table
) -> tuple[np.ndarray, np.ndarray]:
    """The tile with the mean of each band's observed pixels (0 without any) where it was not observed, and no label
    wherever a band was not."""
    ignore = table.classes.ignore_index
    if ignore is None:
        raise FileError(
            tile.image,
            f"holds pixels without data, but {table.path} has no value for pixels without label; write "
            '"ignore_index": 255 there.',
        )
    return filled(image, missing), np.where(missing.any(2), np.uint8(ignore), mask)


@dataclass(frozen=True)
class _Opening:
    """One opening of a folder: all that its splits are decoded by."""

    folder: Path
    table: Table
    files: Mapping[str, list[TileFiles]]
    finder: SceneOf | None
    memory_limit: int
    cache: Path | None
    progress: Progress | None

    @cached_property
    def reader(self) -> MaskReader:
        return MaskReader(self.table)

    @cached_property
    def first(self) -> np.ndarray:
        """The image of the first tile, which all others are like in size, bands and type."""
        return read_image(next(iter(self.files.values()))[0].image, len(self.table.bands), str(self.table.path))

    @cached_property
    def report(self) -> TileReport:
        return TileReport(self.progress, sum(map(len, self.files.values())), f"decoding {self.table.name}")

    @cached_property
    def store(self) -> SplitCache | None:
        """Where splits are kept that are together too large for memory; None where they are not."""
        tiles = sum(map(len, self.files.values()))
        needed = tiles * (self.first.nbytes + self.first[..., 0].size)
        return SplitCache.of(self.cache, self.table.content) if needed > self.memory_limit else None

    def split(self, split: str) -> Split:
        """One split, decoded: in memory, or memory-mapped from the cache."""
        tiles = self.files[split]
        names = tuple(tile.name for tile in tiles)
        shape = (len(tiles), *self.first.shape)
        scenes = scenes_of(split, names, self.finder)
        files = [path for tile in tiles for path in (tile.image, tile.mask)]
        fill = partial(self._fill, tiles)
        digest, images, masks, counted = decode(self.store, files, shape, self.first.dtype, fill, self.report)
        return Split(split, images, masks, names, digest, scenes, counted)

    def bands(self, parts: Sequence[Split]) -> tuple[Band, ...]:
        """The bands, measured on the training tiles once; these are read for it where they were not asked for."""
        if is_rgb(self.first):
            return rgb_bands(self.table.bands)
        train = next((part for part in parts if part.name == "train"), None)
        if train is None:
            train = replace(self, files={"train": list_tiles(self.folder, "train", self.table)}).split("train")
        classes = self.table.classes.num_classes
        measure = partial(measure_bands, train.images, train.masks, classes, self.table.bands)
        return measure() if self.store is None else self.store.bands(train.digest, measure)

    def _fill(self, tiles: Sequence[TileFiles], images: np.ndarray, masks: np.ndarray) -> str:
        """Decode `tiles` into the arrays; the split's digest."""
        digests = []
        for i, (image, mask, digest) in enumerate(self._decoded(tiles)):
            images[i], masks[i] = image, mask
            digests.append(digest)
            self.report()
        return split_digest((tile.name for tile in tiles), digests)

    def _decoded(self, tiles: Sequence[TileFiles]) -> Iterator[tuple[np.ndarray, np.ndarray, bytes]]:
        """(image, mask, digest) of each tile in order, decoded by a few threads, never far ahead of the reader."""
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(tiles), 64 * THREADS):
                yield from pool.map(self._decode, tiles[start : start + 64 * THREADS])

    def _decode(self, tile: TileFiles) -> tuple[np.ndarray, np.ndarray, bytes]:
        image, mask = read_tile(tile, self.reader, self.first.shape[:2])
        if image.dtype != self.first.dtype:
            raise FileError(
                tile.image, f"holds {image.dtype} but the first tile {self.first.dtype}; convert all to one type."
            )
        return image, mask, tile_digest(image, mask)
