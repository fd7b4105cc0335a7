"""From a source as published to a tile folder: its pairs found, whole scenes given splits, images cut."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.data.dataset import SPLITS, Progress, TileReport
from bench.data.folder import TileFiles
from bench.data.folds import divide
from bench.data.importers.archives import source_files
from bench.data.importers.layout import Found, Importer
from bench.data.masks import MaskReader
from bench.data.tiling import Cut, Source, Tiling, cut_sources
from bench.errors import BenchError

SHARES = dict(zip(SPLITS, (0.8, 0.1, 0.1), strict=True))
"""Of the scenes whose split the authors did not fix."""
MAX_IGNORED = 0.99
"""Tiles of which less than a hundredth is labelled are left out; all others count, as in the authors' scores."""


def import_data(
    kind: Importer, source: Path, out: Path, *, size: int | None = None, progress: Progress | None = None
) -> Tiling:
    """Make the tile folder `out` of a published data set.

    Args:
        kind: which one.
        source: the folder or archive as its authors publish it, or a folder of its archives.
        out: the new folder; its `classes.json` has the credit line, the licence and what mask values mean, its
            manifest the scene and source image of every tile.
        size: side of a tile in pixels, where not the importer's own.
        progress: told of every mask that is counted, then of every image that is cut.

    Raises:
        BenchError: for what cannot be read, does not belong together or is not this data set; `out` is then as it was.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-unpacked-", dir=out.parent) as scratch:
        found = _unique(kind.find(source_files(source, Path(scratch))))
        if not found:
            raise BenchError(f"{source} does not look like {kind.title}: it should hold {kind.layout}.")
        _require_splits(kind, found)
        where = _assigned(kind, found, progress)
        sources = [Source(TileFiles(f.name, f.image, f.mask), where[f.name], f.scene) for f in found]
        cut = Cut(size=size or kind.size, max_ignored=MAX_IGNORED)
        table = replace(kind.reader.table, name=kind.kind, credit=kind.credit, gsd_m=kind.gsd_m).to_dict()
        said = {"licence": kind.licence, "mask_values": kind.values}
        return cut_sources(sources, kind.reader, out, cut, table | said, progress)


def _unique(found: Sequence[Found]) -> list[Found]:
    """Names that two tiles share get what the authors put them in: their split, else their scene."""
    uses = Counter(one.name for one in found)
    return [
        one if uses[one.name] == 1 else _renamed(one, one.splits[0] if len(one.splits) == 1 else one.scene)
        for one in found
    ]


def _renamed(one: Found, prefix: str) -> Found:
    name = f"{prefix}_{one.name}"
    return replace(one, name=name, scene=name if one.scene == one.name else one.scene)


def _require_splits(kind: Importer, found: Sequence[Found]) -> None:
    missing = [split for split in SPLITS if not any(split in one.splits for one in found)]
    if missing:
        raise BenchError(f"The source holds nothing for the split {missing[0]} of {kind.title}; add that part of it.")


def _assigned(kind: Importer, found: Sequence[Found], progress: Progress | None) -> dict[str, str]:
    """The split of every image. What the authors left open is drawn by whole scenes, every class spread evenly."""
    groups: dict[tuple[str, ...], list[Found]] = defaultdict(list)
    for one in found:
        groups[one.splits].append(one)
    open_ones = sum(len(group) for splits, group in groups.items() if len(splits) > 1)
    report = TileReport(progress, open_ones, f"counting classes of {kind.kind}")
    where: dict[str, str] = {}
    for splits, group in groups.items():
        if len(splits) == 1:
            where |= {one.name: splits[0] for one in group}
        else:
            where |= _drawn(splits, group, kind.reader, report)
    return where


def _drawn(splits: tuple[str, ...], group: Sequence[Found], reader: MaskReader, report: TileReport) -> dict[str, str]:
    scenes = sorted({one.scene for one in group})
    if len(scenes) < len(splits):
        raise BenchError(
            f"There are {len(scenes)} scenes for the splits {', '.join(splits)}, and no scene may be in two; add some."
        )
    amounts = np.zeros((len(scenes), reader.table.classes.num_classes), int)
    places = {scene: place for place, scene in enumerate(scenes)}
    for one in group:
        values = np.bincount(reader.read(one.mask).ravel(), minlength=256)
        amounts[places[one.scene]] += values[: amounts.shape[1]]
        report()
    shares = np.array([SHARES[split] for split in splits])
    parts = dict(zip(scenes, divide(scenes, amounts, shares / shares.sum()), strict=True))
    return {one.name: splits[parts[one.scene]] for one in group}
