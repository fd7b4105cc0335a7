"""Which scene each tile was cut from: tiles of one scene are alike, so splits, folds and intervals go by scenes.

Told by, in this order: the rule `"scene"` of classes.json (a regular expression on tile names; its first group, else
its match, is the scene), the column `scene` of manifest.csv, its column `source_image` (as `data tile` writes it).
Where the source images lie in several folders, parts of one scene lie in one of them: the folder is the scene.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import BenchError

Place = tuple[str, str]
"""A tile's split and name."""
SceneOf = Callable[[str, str], str]
K = TypeVar("K")
T = TypeVar("T")


def read_manifest(folder: Path) -> dict[Place, dict[str, str]]:
    """The rows of `manifest.csv` by split and name of their tile; empty where there is none. A row without a split
    (the file need not have that column) is of the tiles of that name in any split, and has the split "".

    Raises:
        BenchError: it has no column `name`, cannot be read, or says two things of one tile.
    """
    path = folder / "manifest.csv"
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [_stripped(row) for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise BenchError(f"{path} cannot be read as comma-separated text ({error}).") from error
    found: dict[Place, dict[str, str]] = {}
    for row in rows:
        if "name" not in row:
            raise BenchError(f"{path} has no column name; its first line names the columns: name,scene.")
        place = row.get("split", ""), row["name"]
        if found.setdefault(place, row) != row:
            raise BenchError(f"{path} says two things of the tile {row['name']}; keep one row of it.")
    return found


def _stripped(row: Mapping[str | None, Any]) -> dict[str, str]:
    """A row without the spaces around its columns' names and values, and without what is beyond its columns."""
    return {key.strip(): (value or "").strip() for key, value in row.items() if key is not None}


def of_tile(told: Mapping[Place, T], split: str, tile: str) -> T | None:
    """What a manifest says of a tile of a split: its row, else the only one of that name, since a tile that was moved
    to another split is of its scene still."""
    for place in ((split, tile), ("", tile)):
        if place in told:
            return told[place]
    rows = [said for (_, name), said in told.items() if name == tile]
    return rows[0] if len(rows) == 1 else None


def scene_finder(folder: Path, rule: str | None) -> SceneOf | None:
    """The function from a tile's split and name to its scene; None where nothing tells the scenes. It raises
    `BenchError` for a tile that the rule does not fit, or that the manifest leaves out."""
    if rule is not None:
        by_name = by_rule(rule, folder / "classes.json")
        return lambda split, tile: by_name(tile)
    rows = read_manifest(folder)
    for told in (_column(rows, "scene"), by_folder(_column(rows, "source_image"))):
        if told:
            return partial(_told, folder / "manifest.csv", told)
    return None


def _told(manifest: Path, told: Mapping[Place, str], split: str, tile: str) -> str:
    scene = of_tile(told, split, tile)
    if scene is None:
        raise BenchError(
            f"{manifest} names no scene of the tile {split}/{tile}; add its row, or remove the file: then each tile "
            "counts as a scene of its own."
        )
    return scene


def _column(rows: Mapping[Place, Mapping[str, str]], column: str) -> dict[Place, str]:
    return {place: row[column] for place, row in rows.items() if row.get(column)}


def by_folder(sources: Mapping[K, str]) -> Mapping[K, str]:
    """The scene of each key, from its source image: the folder where they lie in several, else the image itself."""
    folders = {tile: source.replace("\\", "/").rpartition("/")[0] for tile, source in sources.items()}
    return folders if all(folders.values()) and len(set(folders.values())) > 1 else sources


def by_rule(rule: str, table: Path) -> Callable[[str], str]:
    """The rule of a class table as a function; it raises `BenchError` for a name that the rule does not fit."""
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise BenchError(f'{table}: the rule "scene" is {rule!r}, which is no regular expression ({error}).') from None

    def scene(tile: str) -> str:
        found = pattern.search(tile)
        if found is None:
            raise BenchError(f'{table}: the rule "scene" ({rule}) does not fit the tile {tile}; every tile needs one.')
        name = found.group(1) if pattern.groups else found.group()
        if not name:
            raise BenchError(
                f'{table}: the rule "scene" ({rule}) finds no scene in the tile {tile}; every tile needs one.'
            )
        return name

    return scene


def scenes_of(split: str, tiles: Sequence[str], finder: SceneOf | None) -> tuple[str, ...]:
    """The scene of each tile of a split: its own name where nothing tells it."""
    return tuple(tiles) if finder is None else tuple(finder(split, tile) for tile in tiles)


def scope_of(scenes: Mapping[str, Sequence[str]] | None) -> str:
    """What a score on the test split holds for, by the scenes of the splits' tiles (None where they are not known)."""
    if scenes is None:
        return (
            "Which tiles come from one scene is not known: each tile counts as a scene of its own, and intervals are "
            "too narrow where tiles are neighbours."
        )
    if "train" not in scenes:
        return "The training tiles were not opened: scores hold for these test images."
    test, train = set(scenes.get("test", ())), set(scenes.get("train", ()))
    if shared := len(test & train):
        return (
            f"{shared} of the {len(test)} test scenes are in train too: scores hold for these test images, not for new "
            "scenes."
        )
    if len(test) == 1:
        return "All test tiles come from one scene: scores hold for these test images, not for new scenes."
    return f"None of the {len(test)} test scenes is in train: scores hold for new scenes like these."
