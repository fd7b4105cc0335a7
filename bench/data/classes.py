"""The class table of a data set: names, display colours, the value of ignored pixels; and `classes.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError

Colour = tuple[int, int, int]

EXAMPLE = (
    '{"dataset": "mine", "ignore_index": 255, "classes": [{"index": 0, "name": "Tree", "rgb": [0, 100, 0]}, '
    '{"index": 1, "name": "Water", "rgb": [0, 0, 255]}]}'
)


@dataclass(frozen=True)
class Classes:
    """Class `i` is called `names[i]` and drawn in `colours[i]` (8-bit RGB).

    `ignore_index` is the mask value of pixels that count in no loss and no score (None: every pixel counts);
    `ignore_colours` are the colours that a colour mask uses for them.

    Raises `BenchError` where the table contradicts itself.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore_index: int | None = 255
    ignore_colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise BenchError(f"The class table {complaint}.")

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def valid_values(self) -> np.ndarray:
        """Which of the 256 mask values are known: bool (256,)."""
        known = np.zeros(256, bool)
        known[: self.num_classes] = True
        if self.ignore_index is not None:
            known[self.ignore_index] = True
        return known

    @property
    def palette(self) -> np.ndarray:
        """Display colour of each of the 256 mask values, uint8 (256, 3); black where there is no class."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: self.num_classes] = self.colours
        return palette

    def to_dict(self) -> dict[str, Any]:
        """The `classes.json` form, less the data set's name."""
        rows = zip(self.names, self.colours, strict=True)
        table: dict[str, Any] = {
            "ignore_index": self.ignore_index,
            "classes": [{"index": i, "name": n, "rgb": list(c)} for i, (n, c) in enumerate(rows)],
        }
        if self.ignore_colours:
            table["ignore_rgb"] = [list(c) for c in self.ignore_colours]
        return table


def _complaints(classes: Classes) -> list[str]:
    """What is wrong with the table, as ends of a sentence."""
    count, ignore = len(classes.names), classes.ignore_index
    found = []
    if not 2 <= count <= 255:
        found.append(f"has {count} classes; 2 to 255 are possible")
    if len(classes.colours) != count:
        found.append(f"has {count} names and {len(classes.colours)} colours; give one colour a name")
    if len(set(classes.names)) < count:
        found.append("gives one name to two classes; names must differ")
    every = classes.colours + classes.ignore_colours
    if len(set(every)) < len(every):
        found.append("gives one colour to two classes; colours must differ")
    if any(len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in every):
        found.append("has a colour that is not three numbers from 0 to 255")
    if ignore is not None and not count <= ignore <= 255:
        found.append(f"has ignore_index {ignore}; it must be null or a value from {count} to 255 that no class has")
    return found


ARAS400K_CLASSES = Classes(
    names=("Tree", "Shrub", "Grass", "Crop", "Built-up", "Barren", "Water"),
    colours=(
        *((0, 100, 0), (255, 182, 193), (154, 205, 50), (255, 215, 0)),
        *((139, 69, 19), (211, 211, 211), (0, 0, 255)),
    ),
)
"""The seven classes of ARAS400k (arXiv 2603.09625), merged by its authors from ESA WorldCover 2021."""


def read_classes(path: Path) -> tuple[str, Classes]:
    """The data set's name and class table from a `classes.json`.

    Raises `BenchError`, naming the file, where it is no JSON, lacks a field or contradicts itself.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read as JSON ({error}); write it like {EXAMPLE}.") from error
    try:
        return str(table.get("dataset", path.parent.name)), parse_classes(table)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(f"{path} is not a class table ({error!r}); write it like {EXAMPLE}.") from error


def parse_classes(table: Mapping[str, Any]) -> Classes:
    """The class table of the `classes.json` form; rows may come in any order but count 0, 1, 2, ..."""
    rows = sorted(table["classes"], key=lambda row: row["index"])
    indices = [row["index"] for row in rows]
    if indices != list(range(len(rows))):
        raise BenchError(f"The class table has the indices {indices}; they must be 0, 1, 2 and so on, without a gap.")
    ignore = table.get("ignore_index", 255)
    return Classes(
        names=tuple(str(row["name"]) for row in rows),
        colours=tuple(_colour(row["rgb"]) for row in rows),
        ignore_index=None if ignore is None else int(ignore),
        ignore_colours=tuple(_colour(c) for c in table.get("ignore_rgb", ())),
    )


def _colour(values: list[int]) -> Colour:
    red, green, blue = (int(v) for v in values)
    return red, green, blue
