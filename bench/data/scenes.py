"""Which scene each tile was cut from: tiles of one scene are alike, so splits, folds and intervals go by scenes.

Told by, in this order: the rule `"scene"` of classes.json (a regular expression on tile names; its first group, else
its match, is the scene), the column `scene` of manifest.csv, its column `source_image` (as `data tile` writes it).
Where the source images lie in several folders, parts of one scene lie in one of them: the folder is the scene.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.errors import BenchError

SceneOf = Callable[[str], str]


def read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of `manifest.csv` by tile name; empty where there is none. Raises `BenchError` where it has no
    column `name`, or cannot be read."""
    path = folder / "manifest.csv"
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {row["name"]: row for row in csv.DictReader(file)}
    except KeyError:
        raise BenchError(f"{path} has no column name; its first line names the columns: name,scene.") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise BenchError(f"{path} cannot be read as comma-separated text ({error}).") from error


def scene_finder(folder: Path, rule: str | None) -> SceneOf | None:
    """The function from a tile's name to its scene; None where nothing tells the scenes."""
    if rule is not None:
        return by_rule(rule, folder / "classes.json")
    rows = read_manifest(folder)
    for told in (_column(rows, "scene"), by_folder(_column(rows, "source_image"))):
        if told:
            return lambda tile: told.get(tile, tile)
    return None


def _column(rows: Mapping[str, Mapping[str, str]], column: str) -> dict[str, str]:
    return {tile: row[column] for tile, row in rows.items() if row.get(column)}


def by_folder(sources: Mapping[str, str]) -> Mapping[str, str]:
    """The scene of each key, from its source image: the folder where they lie in several, else the image itself."""
    folders = {tile: source.replace("\\", "/").rpartition("/")[0] for tile, source in sources.items()}
    return folders if all(folders.values()) and len(set(folders.values())) > 1 else sources


def by_rule(rule: str, table: Path) -> SceneOf:
    """The rule of a class table as a function; it raises `BenchError` for a name that the rule does not fit."""
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise BenchError(f'{table}: the rule "scene" is {rule!r}, which is no regular expression ({error}).') from None

    def scene(tile: str) -> str:
        found = pattern.search(tile)
        if found is None:
            raise BenchError(f'{table}: the rule "scene" ({rule}) does not fit the tile {tile}; every tile needs one.')
        return found.group(1) if pattern.groups else found.group()

    return scene


def scenes_of(tiles: Sequence[str], finder: SceneOf | None) -> tuple[str, ...]:
    """The scene of each tile: its own name where nothing tells it."""
    return tuple(tiles) if finder is None else tuple(map(finder, tiles))


def scope_of(scenes: Mapping[str, Sequence[str]] | None) -> str:
    """What a score on the test split holds for, by the scenes of the splits' tiles (None where they are not known)."""
    if scenes is None:
        return (
            "Which tiles come from one scene is not known: each tile counts as a scene of its own, and intervals are "
            "too narrow where tiles are neighbours."
        )
    test, train = set(scenes.get("test", ())), set(scenes.get("train", ()))
    if shared := len(test & train):
        return (
            f"{shared} of the {len(test)} test scenes are in train too: scores hold for these test images, not for new "
            "scenes."
        )
    if len(test) == 1:
        return "All test tiles come from one scene: scores hold for these test images, not for new scenes."
    return f"None of the {len(test)} test scenes is in train: scores hold for new scenes like these."
