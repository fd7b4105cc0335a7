"""Looks a folder of tiles over before anything is trained on it, and reports all it finds, not the first thing.

Errors make a data set unusable or its scores worthless: broken files, unknown values, leakage between splits.
Warnings are for a person to judge: repeated tiles, tiles with hardly a label.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.classes import Classes
from bench.data.dataset import SPLITS, Progress, TileReport, tile_digest
from bench.data.folder import THREADS, TileFiles, files_by_stem, read_table, read_tile, unmatched
from bench.data.masks import MaskReader
from bench.data.problems import Problem, Severity
from bench.errors import BenchError

NEARLY_ALL = 0.95
"""From this share of ignored pixels on, a tile is nearly empty; of one class, it is one of `one_class`."""


@dataclass(frozen=True)
class SplitReport:
    """One split: readable `tiles`, `shares` of all their pixels by class name, the `ignored` share, and how many
    tiles show nearly one class only."""

    name: str
    tiles: int
    shares: Mapping[str, float]
    ignored: float
    one_class: int


@dataclass(frozen=True)
class DataReport:
    """What `check_folder` found. `ok` when nothing of it is an error."""

    name: str
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]
    size: tuple[int, int] | None  # (H, W) of the tiles

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat row a split: split, tiles, ignored, one_class, and the share of each class."""
        return [
            {"split": s.name, "tiles": s.tiles, "ignored": s.ignored, "one_class": s.one_class, **s.shares}
            for s in self.splits
        ]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True)
class _Tile:
    """What is kept of one tile after a look at it."""

    split: str
    name: str
    counts: np.ndarray  # pixels of each class, and last the ignored ones: (C + 1,)
    image_digest: bytes
    size: tuple[int, int]


def check_folder(folder: Path, progress: Progress | None = None) -> DataReport:
    """Decode every tile of a tile folder and report. Raises `BenchError` only where there is no folder, or its
    `classes.json` cannot be read."""
    if not folder.is_dir():
        raise BenchError(f"{folder} is no folder; give one that holds {{train,val,test}}/{{images,masks}}.")
    name, reader = read_table(folder)
    found = _Findings()
    files = {split: _list(folder, split, found) for split in _splits(folder)}
    report = TileReport(progress, sum(map(len, files.values())), f"checking {name}")
    tiles = [tile for split, listed in files.items() for tile in _read(split, listed, reader, found, report)]
    _check_sizes(tiles, found)
    _check_repeats(tiles, found)
    _check_empty(tiles, found)
    _check_manifest(folder, tiles, found)
    splits = tuple(_summary(split, [t for t in tiles if t.split == split], reader.classes) for split in files)
    return DataReport(name, splits, tuple(found.problems), tiles[0].size if tiles else None)


@dataclass
class _Findings:
    problems: list[Problem] = field(default_factory=list)

    def add(self, severity: Severity, kind: str, text: str) -> None:
        self.problems.append(Problem(severity, kind, text))


def _splits(folder: Path) -> list[str]:
    """The three splits, and any further folder that holds images and masks."""
    extra = (path.name for path in sorted(folder.iterdir()) if (path / "images").is_dir() and (path / "masks").is_dir())
    return [*SPLITS, *(name for name in extra if name not in SPLITS)]


def _list(folder: Path, split: str, found: _Findings) -> list[TileFiles]:
    """The tiles of a split that have both files."""
    try:
        images, masks = files_by_stem(folder / split / "images"), files_by_stem(folder / split / "masks")
    except BenchError as error:
        found.add("error", "missing", str(error))
        return []
    for complaint in unmatched(images, masks, str(folder / split)):
        found.add("error", "unmatched", complaint)
    both = sorted(set(images) & set(masks))
    if not both:
        found.add("error", "missing", f"{folder / split} holds no tile; every split needs at least one.")
    return [TileFiles(stem, images[stem], masks[stem]) for stem in both]


def _read(
    split: str, tiles: Iterable[TileFiles], reader: MaskReader, found: _Findings, report: TileReport
) -> Iterator[_Tile]:
    """The readable tiles; a problem for each other one."""

    def look(tile: TileFiles) -> _Tile | BenchError:
        try:
            image, mask = read_tile(tile, reader, None)
        except BenchError as error:
            return error
        digest = tile_digest(image, mask[:0])
        counts = np.bincount(mask.ravel(), minlength=256)[: reader.classes.num_classes]
        return _Tile(split, tile.name, np.append(counts, mask.size - counts.sum()), digest, mask.shape)

    with ThreadPoolExecutor(THREADS) as pool:
        for seen in pool.map(look, tiles):
            report()
            if isinstance(seen, BenchError):
                found.add("error", "unreadable", str(seen))
            else:
                yield seen


def _check_sizes(tiles: list[_Tile], found: _Findings) -> None:
    sizes = Counter(tile.size for tile in tiles)
    for size, count in sizes.most_common()[1:]:
        few = _few(f"{t.split}/{t.name}" for t in tiles if t.size == size)
        found.add("error", "size", f"{count} tile(s) are {size[1]}x{size[0]} pixels, unlike the others: {few}.")


def _check_repeats(tiles: list[_Tile], found: _Findings) -> None:
    """Images whose pixels are equal: between splits a leak, within one a repetition."""
    alike: dict[bytes, list[_Tile]] = defaultdict(list)
    for tile in tiles:
        alike[tile.image_digest].append(tile)
    for group in alike.values():
        names = _few(f"{t.split}/{t.name}" for t in group)
        if len({tile.split for tile in group}) > 1:
            found.add("error", "leak", f"The same image lies in several splits: {names}.")
        elif len(group) > 1:
            found.add("warning", "repeated", f"{len(group)} tiles of one split have the same image: {names}.")


def _check_empty(tiles: list[_Tile], found: _Findings) -> None:
    for split in sorted({tile.split for tile in tiles}):
        empty = [t.name for t in tiles if t.split == split and t.counts[-1] >= NEARLY_ALL * t.counts.sum()]
        if empty:
            text = f"{len(empty)} tile(s) of {split} have at least {NEARLY_ALL:.0%} ignored pixels: {_few(empty)}."
            found.add("warning", "empty", text)


def _check_manifest(folder: Path, tiles: list[_Tile], found: _Findings) -> None:
    """Source images that feed two splits, and tiles whose place the manifest does not tell."""
    path = folder / "manifest.csv"
    if not path.exists():
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            sources = {row["name"]: row["source_image"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error, OSError) as error:
        found.add("error", "manifest", f"{path} has no readable columns name and source_image ({error!r}).")
        return
    unlisted = [f"{t.split}/{t.name}" for t in tiles if t.name not in sources]
    if unlisted:
        found.add(
            "warning", "manifest", f"{path.name} lists no source image for {len(unlisted)} tile(s): {_few(unlisted)}."
        )
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for tile in tiles:
        if tile.name in sources:
            splits[sources[tile.name]].setdefault(tile.split, tile.name)
    for source, where in splits.items():
        if len(where) > 1:
            names = _few(f"{split}/{name}" for split, name in where.items())
            found.add("error", "leak", f"The source image {source} has tiles in several splits: {names}.")


def _summary(split: str, tiles: list[_Tile], classes: Classes) -> SplitReport:
    counts = np.array([tile.counts for tile in tiles], np.int64).reshape(-1, classes.num_classes + 1)
    *classed, ignored = (counts.sum(0) / max(1, counts.sum())).tolist()
    one_class = int((counts[:, :-1].max(1, initial=0) >= NEARLY_ALL * counts.sum(1)).sum())
    return SplitReport(split, len(tiles), dict(zip(classes.names, classed, strict=True)), ignored, one_class)


def _few(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
