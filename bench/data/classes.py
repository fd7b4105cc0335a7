"""The classes of a data set: names, display colours, the value of unlabelled pixels, and how masks say them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import BenchError

Colour = tuple[int, int, int]

UNLABELLED = 255
NO_CLASS: Colour = (214, 219, 225)
"""The value of pixels without a label in decoded masks, unless the class table names another."""

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
    ignore_index: int | None = UNLABELLED
    ignore_colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise BenchError(f"The class table {complaint}.")

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """Display colour of each of the 256 mask values, uint8 (256, 3); grey where there is no class."""
        palette = np.full((256, 3), NO_CLASS, np.uint8)
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
    every = classes.colours + classes.ignore_colours
    rules = {
        f"has {count} classes; 2 to 255 are possible": 2 <= count <= 255,
        f"has {count} names and {len(classes.colours)} colours; give one colour a name": len(classes.colours) == count,
        "gives one name to two classes; names must differ": len(set(classes.names)) == count,
        "gives one colour to two classes; colours must differ": len(set(every)) == len(every),
        "has a colour that is not three numbers from 0 to 255": all(
            len(c) == 3 and all(0 <= v <= 255 for v in c) for c in every
        ),
        f"has ignore_index {ignore}; it must be null or a value from {count} to 255 that no class has": (
            ignore is None or count <= ignore <= 255
        ),
    }
    return [complaint for complaint, holds in rules.items() if not holds]


ARAS400K_CLASSES = Classes(
    names=("Tree", "Shrub", "Grass", "Crop", "Built-up", "Barren", "Water"),
    colours=(
        *((0, 100, 0), (255, 182, 193), (154, 205, 50), (255, 215, 0)),
        *((139, 69, 19), (211, 211, 211), (0, 0, 255)),
    ),
)
"""The seven classes of ARAS400k (arXiv 2603.09625), merged by its authors from ESA WorldCover 2021."""


@dataclass(frozen=True)
class MaskValues:
    """How masks that hold numbers say their classes: `classes[i]` are the values of class i, `ignored` those of
    pixels without a label."""

    classes: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = ()

    @classmethod
    def of(cls, classes: Classes) -> "MaskValues":
        """Each class under its own index, as `data tile` writes masks."""
        ignored = () if classes.ignore_index is None else (classes.ignore_index,)
        return cls(tuple((i,) for i in range(classes.num_classes)), ignored)


def parse_classes(table: Mapping[str, Any]) -> Classes:
    """The class table of the `classes.json` form. Rows may come in any order; they count 0, 1, 2, ... in `index`,
    or have none and count as they stand."""
    rows = _rows(table)
    ignored = _ignored(table)
    return Classes(
        names=tuple(str(row["name"]) for row in rows),
        colours=tuple(_colour(row["rgb"]) for row in rows),
        ignore_index=_ignore_index(ignored, len(rows), any("value" in row for row in rows)),
        ignore_colours=tuple(_colour(colour) for colour in _listed(table.get("ignore_rgb", ()), of=list)),
    )


def parse_values(table: Mapping[str, Any]) -> MaskValues:
    """Which mask values mean what: `value` of each row (a number or several; default: its index), and the number or
    numbers of `ignore_index`; without that field no value is ignored.

    Raises `BenchError` where one value means two things.
    """
    rows = _rows(table)
    values = tuple(tuple(map(int, _listed(row.get("value", i)))) for i, row in enumerate(rows))
    ignored = _ignored(table) or ()
    owners: dict[int, str] = {}
    named = [
        *((str(row["name"]), own) for row, own in zip(rows, values, strict=True)),
        ("pixels without label", ignored),
    ]
    for owner, own in named:
        for value in own:
            if value in owners:
                raise BenchError(
                    f"The class table gives the mask value {value} to {owners[value]} and to {owner}; name the values "
                    'that the masks hold, as "value": 1 in the row of a class and "ignore_index": 0 for no label.'
                )
            owners[value] = owner
    return MaskValues(values, ignored)


def _rows(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = list(table["classes"])
    if not any("index" in row for row in rows):
        return rows
    rows.sort(key=lambda row: row["index"])
    indices = [row["index"] for row in rows]
    if indices != list(range(len(rows))):
        raise BenchError(
            f"The class table has the indices {indices}; they must be 0, 1, 2 and so on, without a gap. Where the "
            f'masks hold other numbers, name them in each row, as {{"index": 0, "value": {indices[0]}, "name": ...}}.'
        )
    return rows


def _ignored(table: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The mask values without label; None where the table says null, none where it says nothing."""
    given = table.get("ignore_index", ())
    return None if given is None else tuple(map(int, _listed(given)))


def _ignore_index(ignored: tuple[int, ...] | None, count: int, coded: bool) -> int | None:
    """The value of unlabelled pixels once masks are read: what the table says, or 255 where that is several numbers,
    none, or one that a class has after its masks are read."""
    if ignored is None:
        return None
    if len(ignored) == 1 and (not coded or count <= ignored[0] <= UNLABELLED):
        return ignored[0]
    return UNLABELLED


def _listed(values: Any, of: type = int) -> list[Any]:
    """`values` as a list: a number alone, or a colour alone where colours are meant, is a list of one."""
    if isinstance(values, (list, tuple)) and not (of is list and values and not isinstance(values[0], (list, tuple))):
        return list(values)
    return [values]


def _colour(values: list[int]) -> Colour:
    red, green, blue = (int(v) for v in values)
    return red, green, blue
