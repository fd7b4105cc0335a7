"""A folder of tiles as a data set: `{train,val,test}/{images,masks}/NAME.png` and `classes.json`.

Images are 8-bit RGB; masks hold class indices or class colours, image and mask of one name. A folder without
`classes.json` is read as ARAS400k as published: masks in its seven colours. Anything that does not fit is refused
with a sentence, never dropped or mapped to a class silently.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.data.cache import SplitCache
from bench.data.classes import read_classes
from bench.data.dataset import MEMORY_LIMIT, DataSet, Progress, Split, TileReport, assemble, split_digest, tile_digest
from bench.data.masks import MaskReader
from bench.data.pixels import SUFFIXES, read_image
from bench.data.scenes import scene_finder, scenes_of
from bench.errors import BenchError

THREADS = 4
"""Decoding threads: Pillow releases the interpreter lock while it decodes."""


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
            f"{folder} is neither a folder of tiles nor an embedded set; give a folder that holds "
            "{train,val,test}/{images,masks}, or world, or terrain."
        )
    name, reader = read_table(folder)
    files = {split: list_tiles(folder, split) for split in splits}
    first = files[splits[0]][0]
    size = read_image(first.image).shape[:2]
    total = sum(len(tiles) for tiles in files.values())
    report = TileReport(progress, total, f"decoding {name}")
    if total * size[0] * size[1] * 4 <= memory_limit:
        parts = [_in_memory(split, tiles, reader, size, report) for split, tiles in files.items()]
    else:
        store = SplitCache.of(cache, reader.classes)
        parts = [_on_disk(split, tiles, reader, size, report, store) for split, tiles in files.items()]
    finder = scene_finder(folder, None)
    parts = [replace(part, scenes=scenes_of(part.tiles, finder)) for part in parts]
    return assemble(name, reader.classes, parts, scenes_known=finder is not None)


def read_table(folder: Path) -> tuple[str, MaskReader]:
    """The data set's name and how to read its masks: by `classes.json`, else by the ARAS400k colours."""
    path = folder / "classes.json"
    if not path.exists():
        return folder.resolve().name, MaskReader(table=path)
    name, classes = read_classes(path)
    return name, MaskReader(classes, declared=True, table=path)


def list_tiles(folder: Path, split: str) -> list[TileFiles]:
    """The tiles of a split by name. Raises `BenchError` where the split is missing or empty, an image has no mask
    or a mask no image."""
    images, masks = files_by_stem(folder / split / "images"), files_by_stem(folder / split / "masks")
    for complaint in unmatched(images, masks, f"{folder / split}"):
        raise BenchError(complaint)
    if not images:
        raise BenchError(f"{folder / split / 'images'} holds no tile; put {' or '.join(SUFFIXES[:2])} files in it.")
    return [TileFiles(stem, images[stem], masks[stem]) for stem in sorted(images)]


def files_by_stem(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem, hidden files left out. Raises `BenchError` where the folder is missing
    or two files share a stem."""
    if not folder.is_dir():
        raise BenchError(f"{folder} does not exist; tiles lie in {{train,val,test}}/{{images,masks}}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise BenchError(f"{path} and {found[path.stem].name} share one name; remove one of them.")
        found[path.stem] = path
    return found


def unmatched(images: Mapping[str, Path], masks: Mapping[str, Path], where: str) -> list[str]:
    """A sentence if images have no mask, and one if masks have no image, naming the first few."""
    sentences = []
    for has, lacks, one, other in ((images, masks, "image", "mask"), (masks, images, "mask", "image")):
        alone = sorted(set(has) - set(lacks))
        if alone:
            few = ", ".join(has[stem].name for stem in alone[:3]) + (", ..." if len(alone) > 3 else "")
            sentences.append(
                f"{where} has {len(alone)} {one}{'s' * (len(alone) > 1)} without {other}: {few}; add the {other} "
                f"under the same name or remove the {one}."
            )
    return sentences


def read_tile(tile: TileFiles, reader: MaskReader, size: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W, 3) and mask uint8 (H, W) of a tile. Raises `BenchError`, naming the file, where they
    differ in size, or from `size`."""
    image, mask = read_image(tile.image), reader.read(tile.mask)
    if image.shape[:2] != mask.shape:
        raise BenchError(
            f"{tile.mask} is {_wh(mask.shape)} pixels but its image is {_wh(image.shape)}; both must be of one size."
        )
    if size is not None and mask.shape != size:
        raise BenchError(
            f"{tile.image} is {_wh(mask.shape)} pixels but the first tile is {_wh(size)}; tiles must all be of one "
            "size: cut them with `lale-bench data tile`."
        )
    return image, mask


def _wh(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _decoded(tiles: list[TileFiles], reader: MaskReader, size: tuple[int, ...]) -> Iterator[tuple]:
    """(image, mask, digest) of each tile in order, decoded by a few threads, never far ahead of the reader."""

    def decode(tile: TileFiles) -> tuple[np.ndarray, np.ndarray, bytes]:
        image, mask = read_tile(tile, reader, size)
        return image, mask, tile_digest(image, mask)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(tiles), 64 * THREADS):
            yield from pool.map(decode, tiles[start : start + 64 * THREADS])


def _fill(
    images: np.ndarray,
    masks: np.ndarray,
    tiles: list[TileFiles],
    reader: MaskReader,
    report: TileReport,
) -> str:
    """Decode `tiles` into the arrays; the split's digest."""
    digests = []
    for i, (image, mask, digest) in enumerate(_decoded(tiles, reader, masks.shape[1:])):
        images[i], masks[i] = image, mask
        digests.append(digest)
        report()
    return split_digest((tile.name for tile in tiles), digests)


def _in_memory(
    split: str, tiles: list[TileFiles], reader: MaskReader, size: tuple[int, ...], report: TileReport
) -> Split:
    images = np.empty((len(tiles), *size, 3), np.uint8)
    masks = np.empty((len(tiles), *size), np.uint8)
    digest = _fill(images, masks, tiles, reader, report)
    return Split(split, images, masks, tuple(tile.name for tile in tiles), digest)


def _on_disk(
    split: str,
    tiles: list[TileFiles],
    reader: MaskReader,
    size: tuple[int, ...],
    report: TileReport,
    store: SplitCache,
) -> Split:
    """The split memory-mapped from the cache, decoded into it first where it is not there yet."""
    files = [path for tile in tiles for path in (tile.image, tile.mask)]
    digest = store.find(files)
    if digest is None:
        shape = (len(tiles), *size)
        digest = store.write(files, shape, lambda images, masks: _fill(images, masks, tiles, reader, report))
    else:
        report(len(tiles))
    images, masks = store.load(digest)
    return Split(split, images, masks, tuple(tile.name for tile in tiles), digest)
