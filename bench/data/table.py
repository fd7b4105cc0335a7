"""What the `classes.json` of a data set says: its classes, how its masks and images hold them, and where from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.data.bands import RGB_SPECS, BandSpec
from bench.data.classes import ARAS400K_CLASSES, EXAMPLE, UNLABELLED, Classes, MaskValues, parse_classes, parse_values
from bench.errors import BenchError

PALETTES = ("rgb", "index")


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
    values, classes = parse_values(content), parse_classes(content)
    bands = tuple(map(_band, content.get("bands", ()))) or RGB_SPECS
    if len({band.name for band in bands}) < len(bands):
        raise BenchError("The class table gives one name to two bands; names must differ.")
    if classes.ignore_index is None and any(band.nodata is not None for band in bands):
        classes = replace(classes, ignore_index=UNLABELLED)
    palette = content.get("palette", "rgb")
    if palette not in PALETTES:
        raise BenchError(f'The class table has the palette {palette!r}; "rgb" and "index" are possible.')
    texts = {
        key: str(content[key]) for key in ("scene", "image_suffix", "mask_suffix", "credit", "scope") if key in content
    }
    name = str(content.get("dataset", path.parent.name))
    return Table(path, name, classes, values, declared=True, palette=palette, bands=bands, gsd_m=_gsd(content), **texts)


def _gsd(content: Mapping[str, Any]) -> float | None:
    given = content.get("gsd_m")
    if given is not None and not 0 < float(given) < float("inf"):
        raise BenchError(
            f"The class table has gsd_m {given!r}; give the side of a pixel on the ground in metres, as 0.3."
        )
    return None if given is None else float(given)


def _band(given: str | Mapping[str, Any]) -> BandSpec:
    """A band's name, or its name, `scale` and `nodata`."""
    if isinstance(given, str):
        return BandSpec(given)
    nodata = given.get("nodata")
    return BandSpec(str(given["name"]), float(given.get("scale", 1)), None if nodata is None else float(nodata))
