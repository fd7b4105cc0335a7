"""Looks a folder of tiles over before anything is trained on it, and reports all it finds, not the first thing.

Errors make a data set unusable or its scores worthless: broken files, unknown values, leakage between splits.
Warnings are for a person to judge: repeated tiles, tiles with hardly a label, classes that a split lacks.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.bands import RGB, Band
from bench.data.classes import Classes, Table, read_table
from bench.data.dataset import SPLITS, Progress, TileReport, class_counts, tile_digest
from bench.data.folder import THREADS, TileFiles, files_by_name, open_folder, read_tile, unmatched
from bench.data.masks import MaskReader, Stored, UnknownStored
from bench.data.pixels import FileError
from bench.data.problems import Problem, label_problems
from bench.data.scenes import of_tile, read_manifest, scene_finder, scenes_of, scope_of
from bench.errors import BenchError

NEARLY_ALL = 0.95
"""From this share of ignored pixels on, a tile is nearly empty; of one class, it is one of `one_class`."""
UNSEEN = ("missing", "unmatched", "unreadable", "unknown")
"""Problems that leave labels unseen: which classes are where cannot be said then."""
MOST = 5
"""Names and values that one sentence lists."""


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
    """What `check_folder` found. `ok` when nothing of it is an error; then `bands` are those of the training tiles.
    `scope` says what scores on the test split hold for."""

    name: str
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]
    size: tuple[int, int] | None  # (H, W) of the tiles
    bands: tuple[Band, ...] = RGB
    scope: str = ""

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat row a split: split, tiles, ignored, one_class, and the share of each class."""
        return [
            {**(own := {"split": s.name, "tiles": s.tiles, "ignored": s.ignored, "one_class": s.one_class}),
             **{f"class {name}" if name in own else name: share for name, share in s.shares.items()}}
            for s in self.splits
        ]  # fmt: skip

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
    kind: tuple[tuple[int, int], str]  # (H, W) and type

    @property
    def place(self) -> str:
        return f"{self.split}/{self.name}"


def check_folder(folder: Path, progress: Progress | None = None) -> DataReport:
    """Decode every tile of a tile folder and report. Raises `BenchError` only where there is no folder, or its
    `classes.json` cannot be read."""
    if not folder.is_dir():
        raise BenchError(f"{folder} is no folder; give one that holds {{train,val,test}}/{{images,masks}}.")
    table = read_table(folder / "classes.json")
    found: list[Problem] = []
    files = {split: _list(folder, split, table, found) for split in _splits(folder)}
    report = TileReport(progress, sum(map(len, files.values())), f"checking {table.name}")
    tiles = list(_read(files, MaskReader(table), found, report))
    _check_kinds(tiles, found)
    _check_repeats(tiles, found)
    _check_empty(tiles, found)
    scenes = _check_scenes(folder, tiles, table, found)
    by_split = {split: _counts([t for t in tiles if t.split == split], table.classes) for split in files}
    if not any(problem.kind in UNSEEN for problem in found):
        found += label_problems(table.classes, {split: by_split[split] for split in SPLITS})
    splits = tuple(_summary(split, counts, table.classes) for split, counts in by_split.items())
    size, dtype = tiles[0].kind if tiles else (None, "")
    checked = DataReport(table.name, splits, tuple(dict.fromkeys(found)), size, scope=table.scope or scope_of(scenes))
    if not checked.ok or (len(table.bands) == len(RGB) and dtype == "uint8"):
        return checked
    return replace(checked, bands=open_folder(folder, ("train",)).bands)


def _splits(folder: Path) -> list[str]:
    """The three splits, and any further folder that holds images and masks."""
    extra = (path.name for path in sorted(folder.iterdir()) if (path / "images").is_dir() and (path / "masks").is_dir())
    return [*SPLITS, *(name for name in extra if name not in SPLITS)]


def _list(folder: Path, split: str, table: Table, found: list[Problem]) -> list[TileFiles]:
    """The tiles of a split that have both files."""
    try:
        images = files_by_name(folder / split / "images", table.image_suffix)
        masks = files_by_name(folder / split / "masks", table.mask_suffix)
    except BenchError as error:
        found.append(Problem("error", "missing", str(error)))
        return []
    complaints = unmatched(images, masks, str(folder / split))
    found += [Problem("error", "unmatched", complaint) for complaint in complaints]
    both = sorted(set(images) & set(masks))
    if not both and not complaints:
        found.append(Problem("error", "missing", f"{folder / split} holds no tile; every split needs at least one."))
    return [TileFiles(name, images[name], masks[name]) for name in both]


def _read(
    files: Mapping[str, list[TileFiles]], reader: MaskReader, found: list[Problem], report: TileReport
) -> Iterator[_Tile]:
    """The readable tiles; a problem for each fault of the others, with all files that have it."""

    def look(place: tuple[str, TileFiles]) -> _Tile | FileError:
        split, tile = place
        try:
            image, mask = read_tile(tile, reader, None)
        except FileError as error:
            return error
        counts = class_counts(np.bincount(mask.ravel(), minlength=256)[None], reader.table.classes)[0]
        return _Tile(split, tile.name, counts, tile_digest(image, mask[:0]), (mask.shape, str(image.dtype)))

    faults: list[FileError] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for seen in pool.map(look, [(split, tile) for split, listed in files.items() for tile in listed]):
            report()
            if isinstance(seen, FileError):
                faults.append(seen)
            else:
                yield seen
    unknown = [fault for fault in faults if isinstance(fault, UnknownStored)]
    _tell_faults([fault for fault in faults if fault not in unknown], found)
    for numbers in (True, False):
        _tell_unknown([f for f in unknown if isinstance(next(iter(f.pixels)), int) == numbers], reader, found)


def _tell_faults(faults: Iterable[FileError], found: list[Problem]) -> None:
    """One sentence for each fault, however many files have it."""
    alike: dict[str, list[FileError]] = defaultdict(list)
    for fault in faults:
        alike[fault.reason].append(fault)
    for reason, group in alike.items():
        if len(group) == 1:
            found.append(Problem("error", "unreadable", str(group[0])))
        else:
            names = _few(fault.path.name for fault in group)
            found.append(
                Problem("error", "unreadable", f"{len(group)} files in {_common(group)} ({names}): each {reason}")
            )


def _common(faults: list[FileError]) -> Path:
    """The nearest folder that all files lie in."""
    first, *others = (fault.path.parent for fault in faults)
    return next(place for place in (first, *first.parents) if all(other.is_relative_to(place) for other in others))


def _tell_unknown(faults: list[UnknownStored], reader: MaskReader, found: list[Problem]) -> None:
    """One sentence for all values (or colours) that the class table lacks, with the most frequent of them."""
    if len(faults) < 2:
        return _tell_faults(faults, found)
    pixels: Counter[Stored] = Counter()
    masks: Counter[Stored] = Counter()
    for fault in faults:
        pixels.update(fault.pixels)
        masks.update(dict.fromkeys(fault.pixels, 1))
    each = [
        f"{stored} on {count:,} pixels of {masks[stored]:,} masks (nearest: {reader.nearest(stored)})"
        for stored, count in pixels.most_common(MOST)
    ]
    kind = "value" if isinstance(next(iter(pixels)), int) else "colour"
    which = f"{len(pixels)} {kind}s that are" if len(pixels) > 1 else f"a {kind} that is"
    more = f" and {len(pixels) - MOST} more" if len(pixels) > MOST else ""
    found.append(
        Problem(
            "error",
            "unknown",
            f"{len(faults):,} masks hold {which} not in {reader.table.path}, {pixels.total():,} "
            f"pixels in all: {', '.join(each)}{more}. The first is {faults[0].path}, which {faults[0].reason}",
        )
    )
    return None


def _check_kinds(tiles: list[_Tile], found: list[Problem]) -> None:
    kinds = Counter(tile.kind for tile in tiles)
    for (size, dtype), count in kinds.most_common()[1:]:
        few = _few(t.place for t in tiles if t.kind == (size, dtype))
        found.append(
            Problem(
                "error",
                "size",
                f"{count} tile(s) are {size[1]}x{size[0]} pixels of {dtype}, unlike the others: {few}; cut them "
                "alike with `lale-bench data tile`.",
            )
        )


def _check_repeats(tiles: list[_Tile], found: list[Problem]) -> None:
    """Images whose pixels are equal: between splits a leak, if they have labels there; within one a repetition."""
    alike: dict[bytes, list[_Tile]] = defaultdict(list)
    for tile in tiles:
        alike[tile.image_digest].append(tile)
    for group in alike.values():
        labelled = [tile for tile in group if tile.counts[:-1].any()]  # others teach and score nothing
        if len({tile.split for tile in labelled}) > 1:
            names = _few(tile.place for tile in labelled)
            found.append(Problem("error", "leak", f"The same image lies in several splits: {names}."))
        elif len({tile.split for tile in group}) < len(group):
            names = _few(tile.place for tile in group)
            found.append(Problem("warning", "repeated", f"{len(group)} tiles have the same image: {names}."))


def _check_empty(tiles: list[_Tile], found: list[Problem]) -> None:
    for split in sorted({tile.split for tile in tiles}):
        empty = [t.name for t in tiles if t.split == split and t.counts[-1] >= NEARLY_ALL * t.counts.sum()]
        if empty:
            text = f"{len(empty)} tile(s) of {split} have at least {NEARLY_ALL:.0%} ignored pixels: {_few(empty)}."
            found.append(Problem("warning", "empty", text))


def _check_scenes(
    folder: Path, tiles: list[_Tile], table: Table, found: list[Problem]
) -> Mapping[str, Sequence[str]] | None:
    """Source images that feed two splits, tiles that the manifest does not list, and a rule that does not fit; the
    scenes of each split's tiles, where they are known."""
    try:
        rows, finder = read_manifest(folder), scene_finder(folder, table.scene)
        scenes = {s: scenes_of(s, [t.name for t in tiles if t.split == s], finder) for s in {t.split for t in tiles}}
    except BenchError as error:
        found.append(Problem("error", "manifest", str(error)))
        return None
    unlisted = [t.place for t in tiles if rows and of_tile(rows, t.split, t.name) is None]
    if unlisted:
        found.append(
            Problem("warning", "manifest", f"manifest.csv does not list {len(unlisted)} tile(s): {_few(unlisted)}.")
        )
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for tile in tiles:
        row = of_tile(rows, tile.split, tile.name)
        if row is not None and (source := row.get("source_image")):
            splits[source].setdefault(tile.split, tile.place)
    for source, where in splits.items():
        if len(where) > 1:
            found.append(
                Problem(
                    "error", "leak", f"The source image {source} has tiles in several splits: {_few(where.values())}."
                )
            )
    return None if finder is None else scenes


def _counts(tiles: list[_Tile], classes: Classes) -> np.ndarray:
    """Pixels of each class, last the ignored ones, of each tile: (N, C + 1)."""
    return np.array([tile.counts for tile in tiles], np.int64).reshape(-1, classes.num_classes + 1)


def _summary(split: str, counts: np.ndarray, classes: Classes) -> SplitReport:
    *classed, ignored = (counts.sum(0) / max(1, counts.sum())).tolist()
    one_class = int((counts[:, :-1].max(1, initial=0) >= NEARLY_ALL * counts.sum(1)).sum())
    return SplitReport(split, len(counts), dict(zip(classes.names, classed, strict=True)), ignored, one_class)


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:MOST]) + (f" and {len(listed) - MOST} more" if len(listed) > MOST else "")
