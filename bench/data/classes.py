"""What the `classes.json` of a data set says: its classes, with names, display colours and the value of unlabelled
pixels, how its masks and images hold them, and where from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from archs.registry import nearest
from bench.data.bands import RGB_SPECS, BandSpec
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
        "has colours of pixels without label and no ignore_index; it must be a value, as 255": (
            ignore is not None or not classes.ignore_colours
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
    colours = tuple(_colour(colour) for colour in _listed(table.get("ignore_rgb", ()), of=list))
    return Classes(
        names=tuple(str(row["name"]) for row in rows),
        colours=tuple(_colour(row["rgb"]) for row in rows),
        ignore_index=_ignore_index(
            () if ignored is None and colours else ignored, len(rows), any("value" in row for row in rows)
        ),
        ignore_colours=colours,
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
    none, one that a class has after its masks are read, or one that a byte does not hold."""
    if ignored is None:
        return None
    if len(ignored) == 1 and 0 <= ignored[0] <= UNLABELLED and (not coded or ignored[0] >= count):
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


PALETTES = ("rgb", "index")
TEXTS = ("scene", "image_suffix", "mask_suffix", "credit", "scope")
NOTES = ("licence", "mask_values")  # what importers write for people
FIELDS = ("dataset", "classes", "ignore_index", "ignore_rgb", "palette", "bands", "gsd_m", *TEXTS, *NOTES)
ROW_FIELDS = ("index", "name", "rgb", "value")
BAND_FIELDS = ("name", "scale", "nodata")


@dataclass(frozen=True)
class Table:
    """One `classes.json`; `path` is where it is, or would be looked for. Where there is none (`declared` False) masks
    may hold the ARAS400k colours, and nothing else: bare numbers do not say what they mean.

    `palette` says whether palette masks mean the colours (`rgb`) or the numbers (`index`) of their palette. Names
    of images and masks are equal once `image_suffix` and `mask_suffix` are cut off. `scene` is a regular expression
    that finds the scene in a tile's name. `gsd_m` is the side of a pixel on the ground in metres, None where that is
    not known.
    """

    path: Path
    name: str
    classes: Classes = ARAS400K_CLASSES
    values: MaskValues = field(default_factory=lambda: MaskValues.of(ARAS400K_CLASSES))
    declared: bool = False
    palette: str = "rgb"
    bands: tuple[BandSpec, ...] = RGB_SPECS
    scene: str | None = None
    image_suffix: str = ""
    mask_suffix: str = ""
    credit: str = ""
    scope: str = ""
    gsd_m: float | None = None

    @classmethod
    def of(cls, classes: Classes) -> "Table":
        """A table in memory: each class under its own index and colour."""
        return cls(Path("the given class table"), "", classes, MaskValues.of(classes), declared=True)

    def to_dict(self) -> dict[str, Any]:
        """The `classes.json` of decoded tiles: masks of class indices, pixels without data filled and unlabelled."""
        said = {key: getattr(self, key) for key in ("credit", "scope", "gsd_m") if getattr(self, key)}
        bands = {} if self.bands == RGB_SPECS else {"bands": [band.to_dict() for band in self.bands]}
        return {"dataset": self.name, **self.classes.to_dict(), **said, **bands}

    @property
    def content(self) -> str:
        """All that decides how files are decoded, as one text."""
        return repr((self.classes, self.values, self.declared, self.palette, self.bands))


def read_table(path: Path) -> Table:
    """The table in the file `path`, or that of a data set without one.

    Raises `BenchError`, naming the file, where it is no JSON, lacks a field or contradicts itself.
    """
    if not path.exists():
        return Table(path, path.resolve().parent.name)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read as JSON ({error}); write it like {EXAMPLE}.") from error
    try:
        return _parse(path, content)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(f"{path} is not a class table ({error!r}); write it like {EXAMPLE}.") from error


def _parse(path: Path, content: Mapping[str, Any]) -> Table:
    _refuse_unknown(content, FIELDS, "class table")
    for row in content["classes"]:
        _refuse_unknown(row, ROW_FIELDS, "row of a class in the class table")
    values, classes = parse_values(content), parse_classes(content)
    bands = tuple(map(_band, _bands(content))) or RGB_SPECS
    if len({band.name for band in bands}) < len(bands):
        raise BenchError("The class table gives one name to two bands; names must differ.")
    if classes.ignore_index is None and any(band.nodata is not None for band in bands):
        classes = replace(classes, ignore_index=UNLABELLED)
    palette = content.get("palette", "rgb")
    if palette not in PALETTES:
        raise BenchError(f'The class table has the palette {palette!r}; "rgb" and "index" are possible.')
    texts = {key: str(content[key]) for key in TEXTS if content.get(key) is not None}
    name = str(content.get("dataset", path.parent.name))
    return Table(path, name, classes, values, declared=True, palette=palette, bands=bands, gsd_m=_gsd(content), **texts)


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    """A misspelled field that is passed over leaves its default, such as every tile a scene of its own, unseen."""
    for key in given:
        if key not in known and not key.startswith("_"):
            raise BenchError(
                f'The {what} has the field "{key}", which means nothing here{nearest(key, known)}; possible are '
                f"{', '.join(known)}, and fields of your own that begin with an underscore."
            )


def _gsd(content: Mapping[str, Any]) -> float | None:
    given = content.get("gsd_m")
    if given is not None and not 0 < float(given) < float("inf"):
        raise BenchError(
            f"The class table has gsd_m {given!r}; give the side of a pixel on the ground in metres, as 0.3."
        )
    return None if given is None else float(given)


def _bands(content: Mapping[str, Any]) -> list[Any]:
    given = content.get("bands") or []
    if not isinstance(given, list):
        raise BenchError(f'The class table has the bands {given!r}; give a list, as ["red", "green", "blue", "nir"].')
    return given


def _band(given: str | Mapping[str, Any]) -> BandSpec:
    """A band's name, or its name, `scale` and `nodata`."""
    if isinstance(given, str):
        return BandSpec(given)
    _refuse_unknown(given, BAND_FIELDS, "row of a band in the class table")
    nodata = given.get("nodata")
    return BandSpec(str(given["name"]), float(given.get("scale", 1)), None if nodata is None else float(nodata))
