"""From a folder of large images and masks to a tile-folder data set: cut, never resampled, split by source image.

The data set appears whole or not at all: it is made beside its place and renamed at the end.
"""

import csv
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.data.classes import Classes, Table, read_table
from bench.data.dataset import SPLITS, Progress, TileReport
from bench.data.folder import TileFiles, files_by_name, read_tile, unmatched
from bench.data.masks import MaskReader
from bench.data.pixels import write_raster
from bench.data.scenes import by_folder, by_rule
from bench.errors import BenchError


@dataclass(frozen=True)
class Cut:
    """How to cut. `size` and `overlap` in pixels (a size of None leaves images whole); `split` the shares of source
    images that go to train, val and test, drawn by `seed`; tiles with more than `max_ignored` of their pixels ignored
    are left out."""

    size: int | None = 256
    overlap: int = 0
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    max_ignored: float = 0.5

    def __post_init__(self) -> None:
        if self.size is None:
            return
        shares = len(self.split) == 3 and min(self.split) >= 0 and abs(sum(self.split) - 1) <= 1e-6
        rules = {
            f"The tile size is {self.size}; it must be at least 1 pixel.": self.size >= 1,
            f"The overlap is {self.overlap} pixels; 0 to {self.size - 1} are possible.": 0 <= self.overlap < self.size,
            f"The split is {self.split}; it must be three shares for train, val, test that add to 1.": shares,
            f"The limit of ignored pixels is {self.max_ignored}; it must be a share from 0 to 1.": (
                0 <= self.max_ignored <= 1
            ),
        }
        for complaint, holds in rules.items():
            if not holds:
                raise BenchError(complaint)


@dataclass(frozen=True)
class Source:
    """A large image and its mask, the split that its tiles go to, and the scene that they belong to."""

    files: TileFiles
    split: str
    scene: str


@dataclass(frozen=True)
class Tiling:
    """What was cut: the folder, tiles and source images a split, tiles left out as mostly ignored, and the share of
    the images' pixels that lie in no tile because a side is no multiple of the step."""

    folder: Path
    tiles: Mapping[str, int]
    sources: Mapping[str, int]
    left_out: int
    uncovered: float

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return {**asdict(self), "folder": str(self.folder)}


def tile_folder(
    images: Path,
    masks: Path,
    out: Path,
    size: int = 256,
    overlap: int = 0,
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    max_ignored: float = 0.5,
    classes: Path | Classes | None = None,
    progress: Progress | None = None,
) -> Tiling:
    """Cut the images and masks of two folders (matched by name) into the data set `out`, as `Cut` says.

    Masks are read by `classes` (a table, or a `classes.json`; default: the one beside the masks, else the ARAS400k
    colours) and written as class indices; images of other bands than 8-bit RGB are written as TIFF. All source images
    of a scene (see `bench.data.scenes`) go to one split. Writes `{train,val,test}/{images,masks}`, `classes.json` and
    `manifest.csv` (name, split, scene, source_image, x, y; x and y are the tile's left and top pixel in its source).

    Raises `BenchError`, naming the file, for what cannot be read, for too few images to fill the splits, for an
    `out` that holds something already, and for a full disk; `out` is then as it was.
    """
    cut = Cut(size, overlap, split, seed, max_ignored)
    reader = MaskReader(_table(masks, classes))
    sources = _sources(images, masks, reader.table)
    scenes = _scenes([files.name for files in sources], reader.table)
    where = assign_splits(sorted(set(scenes.values())), cut.split, cut.seed)
    placed = [Source(files, where[scenes[files.name]], scenes[files.name]) for files in sources]
    return cut_sources(placed, reader, out, cut, replace(reader.table, name=out.name).to_dict(), progress)


def cut_sources(
    sources: Sequence[Source],
    reader: MaskReader,
    out: Path,
    cut: Cut,
    table: Mapping[str, Any],
    progress: Progress | None = None,
) -> Tiling:
    """Cut these sources into the data set `out`, whose `classes.json` is `table`; otherwise as `tile_folder`."""
    report = TileReport(progress, len(sources), f"cutting {table['dataset']}")
    with _whole(out) as draft:
        job = _Job(draft, cut, reader)
        for source in sources:
            job.cut_source(source)
            report()
        job.finish(table)
    counts = _count({source.files.name: source.split for source in sources})
    return Tiling(out, job.count(), counts, job.left_out, 1 - job.covered / max(1, job.pixels))


def assign_splits(names: Sequence[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """A split for each scene: shuffled by a hash of seed and name, then cut by the shares; every split that has a
    share gets at least one. Raises `BenchError` with fewer scenes than that takes."""
    wanted = [share > 0 for share in shares]
    if len(names) < sum(wanted):
        raise BenchError(
            f"There are {len(names)} source images or scenes for {sum(wanted)} splits, and none may be in two (where "
            "images lie in several folders, each folder is one scene); add images, or give a split the share 0."
        )
    counts = [max(round(share * len(names)), int(want)) for share, want in zip(shares, wanted, strict=True)]
    while sum(counts) != len(names):
        grow = 1 if sum(counts) < len(names) else -1
        errors = [grow * (share * len(names) - count) for share, count in zip(shares, counts, strict=True)]
        free = [i for i in range(len(counts)) if wanted[i] and counts[i] + grow >= 1]
        counts[max(free, key=errors.__getitem__)] += grow
    order = sorted(names, key=lambda name: hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest())
    labels = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    return dict(zip(order, labels, strict=True))


def _table(masks: Path, classes: Path | Classes | None) -> Table:
    if isinstance(classes, Classes):
        return Table.of(classes)
    beside = [path for path in (masks / "classes.json", masks.parent / "classes.json") if path.exists()]
    if classes is not None and not classes.is_file():
        raise BenchError(f"There is no class table {classes}; give the path of a classes.json.")
    return read_table(classes or next(iter(beside), masks / "classes.json"))


def _sources(images: Path, masks: Path, table: Table) -> list[TileFiles]:
    found, labels = files_by_name(images, table.image_suffix), files_by_name(masks, table.mask_suffix)
    for complaint in unmatched(found, labels, str(images)):
        raise BenchError(complaint)
    if not found:
        raise BenchError(f"{images} holds no PNG, JPEG or TIFF image; give a folder of images.")
    return [TileFiles(name, found[name], labels[name]) for name in sorted(found)]


def _scenes(names: Sequence[str], table: Table) -> Mapping[str, str]:
    """The scene of each source image: by the table's rule, else the folder of its parts, else itself."""
    if table.scene is not None:
        finder = by_rule(table.scene, table.path)
        return {name: finder(name) for name in names}
    return by_folder({name: name for name in names})


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A draft folder beside `out` that becomes `out` when all went well, and vanishes when not."""
    out = out.absolute()  # "." has no name
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BenchError(f"{out} exists and is not empty; give the name of a new folder.")
    draft = out.with_name(f".{out.name}.draft-{uuid.uuid4().hex[:12]}")
    try:
        draft.mkdir(parents=True)
        yield draft
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise BenchError(f"{out} could not be written ({error.strerror or error}); nothing was kept.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@dataclass
class _Job:
    """One run: writes tiles under `folder` and keeps count."""

    folder: Path
    cut: Cut
    reader: MaskReader
    rows: list[tuple[str, str, str, str, int, int]] = field(default_factory=list)
    left_out: int = 0
    pixels: int = 0
    covered: int = 0

    def cut_source(self, source: Source) -> None:
        """Write the tiles of one source image to its split."""
        image, mask = read_tile(source.files, self.reader, None)
        height, width = mask.shape
        self.pixels += height * width
        if self.cut.size is None:
            self.covered += height * width
            return self._keep(source, source.files.name, 0, 0, image, mask)
        side, step = self.cut.size, self.cut.size - self.cut.overlap
        if min(height, width) < side:
            raise BenchError(
                f"{source.files.image} is {width}x{height} pixels, smaller than a tile of {side}; choose a smaller "
                "size or remove the image."
            )
        tops, lefts = range(0, height - side + 1, step), range(0, width - side + 1, step)
        self.covered += (tops[-1] + side) * (lefts[-1] + side)
        for top in tops:
            for left in lefts:
                part = slice(top, top + side), slice(left, left + side)
                self._keep(source, f"{source.files.name}_x{left:05d}_y{top:05d}", left, top, image[part], mask[part])
        return None

    def _keep(self, source: Source, name: str, left: int, top: int, image: np.ndarray, mask: np.ndarray) -> None:
        ignore = self.reader.table.classes.ignore_index
        if ignore is not None and np.mean(mask == ignore) > self.cut.max_ignored:
            self.left_out += 1
            return
        self._write(self.folder / source.split, name, image, mask)
        self.rows.append((name, source.split, source.scene, source.files.name, left, top))

    def _write(self, folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
        rgb = image.shape[-1] == 3 and image.dtype == np.uint8
        image_path = folder / "images" / f"{name}{'.png' if rgb else '.tif'}"
        mask_path = folder / "masks" / f"{name}.png"
        for path in (image_path, mask_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if rgb:
            Image.fromarray(image).save(image_path)
        else:
            write_raster(image_path, image, tuple(band.name for band in self.reader.table.bands))
        Image.fromarray(mask).save(mask_path)

    def finish(self, table: Mapping[str, Any]) -> None:
        """Write the class table and the manifest. Raises `BenchError` where a split got no tile."""
        for split, share in zip(SPLITS, self.cut.split, strict=True):
            if share > 0 and not self.count()[split]:
                raise BenchError(
                    f"The split {split} would be empty: more than {self.cut.max_ignored:.0%} of every tile is ignored; "
                    "raise that limit, or choose another seed."
                )
        (self.folder / "classes.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        with (self.folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("name", "split", "scene", "source_image", "x", "y"), *sorted(self.rows)])

    def count(self) -> dict[str, int]:
        """Tiles a split."""
        return _count({row[0]: row[1] for row in self.rows})


def _count(where: Mapping[str, str]) -> dict[str, int]:
    splits = list(where.values())
    return {split: splits.count(split) for split in SPLITS}
