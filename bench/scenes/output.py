"""Maps to write to: rows as they come into a plain file beside the map, the map itself whole or not at all.

A draft holds the rows that are done and a note of how many there are; a run that was killed goes on from there. When
all rows are written the draft becomes a Cloud Optimized GeoTIFF, or a palette PNG.
"""

import hashlib
import importlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from bench.data.pixels import require_rasterio
from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.scenes.source import CACHE_BYTES, Georeference

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

NO_DATA = 255
"""Class index of pixels where the scene holds no data."""
TIFF_SUFFIXES = (".tif", ".tiff")
DIGEST_TAG = "LALE_BENCH"  # of a finished map: what determines it, hashed
SAVE_EVERY = 2.0  # seconds of work that a killed run loses, at most
COPIES = 2.5  # the draft, the map and its overviews, at most


@dataclass(frozen=True)
class Layer:
    """What a file holds: `bands` bytes a pixel, the class index or the probability of each class (255 is 1).

    `colours` by class index are the colour table of a map of classes; `names` describe the bands.
    """

    path: Path
    bands: int
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()


class Draft:
    """Rows of one layer, in a plain file: a line of each band after the other (BIL)."""

    def __init__(self, layer: Layer, height: int, width: int, signature: Mapping[str, Any]) -> None:
        self.layer, self.height, self.width = layer, height, width
        self.signature = json.loads(json.dumps(signature))
        self.path = layer.path.with_name(f".{layer.path.name}.bil")
        self.view = layer.path.with_name(f".{layer.path.name}.vrt")
        self._note = layer.path.with_name(f".{layer.path.name}.json")
        self.rows = self._noted = self._rows_done()
        self._saved = time.monotonic()
        self._file: BinaryIO | None = None

    @property
    def digest(self) -> str:
        """Hash of what determines the map."""
        return hashlib.sha256(json.dumps(self.signature, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def finished(self) -> bool:
        """Whether the map is there already, made of the same scene by the same network in the same way."""
        return self.layer.path.is_file() and _digest_of(self.layer.path) == self.digest

    def write(self, rows: UInt8[np.ndarray, "r b w"]) -> None:
        """Append rows; they count as done once they are saved, which is every `SAVE_EVERY` seconds."""
        file = self.begin()
        file.seek(self.rows * self.layer.bands * self.width)
        file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)
        if time.monotonic() > self._saved + SAVE_EVERY:
            self.save()

    def begin(self) -> BinaryIO:
        """The draft's file, which this process alone writes until `close`.

        Raises:
            BenchError: another process writes it.
        """
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b")
            if not _locked(self._file):
                self.close()
                raise BenchError(
                    f"{self.layer.path} is being made by another process: wait for it, or give another place"
                )
            if not self.rows:  # what another map's draft noted of these rows no longer holds
                self._note.unlink(missing_ok=True)
                self._file.truncate()
        return self._file

    def close(self) -> None:
        """Leave the draft to whoever goes on with it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def save(self) -> None:
        """Note the rows as done, once they are on the disk."""
        if self.rows == self._noted or self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        write_atomically(self._note, json.dumps({"signature": self.signature, "rows": self.rows}).encode())
        self._noted, self._saved = self.rows, time.monotonic()

    def finish(self, place: Georeference) -> None:
        """Turn the draft into the map."""
        if self._file is not None:
            self._file.flush()
        if self.layer.path.suffix.lower() in TIFF_SUFFIXES:
            _write_cog(self, place)
        else:
            _write_png(self)

    def remove(self) -> None:
        """Remove the draft, once there is the map."""
        for path in (self.path, self._note, self.view):
            path.unlink(missing_ok=True)
        self.close()

    def _rows_done(self) -> int:
        """Of an earlier run with the same signature; another one's draft is of no use and is written over."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0
        if note.get("signature") != self.signature:
            return 0
        return min(note["rows"], size // (self.layer.bands * self.width))


def require_room(layers: Sequence[Layer], height: int, width: int) -> None:
    """Refuse before the start what would fill the disk.

    Raises:
        BenchError: there is less room than the drafts and maps may need.
    """
    folder = layers[0].path.parent
    wanted = COPIES * height * width * sum(layer.bands for layer in layers)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise BenchError(
            f"the map of {width} x {height} px needs up to {wanted / 2**30:.1f} GiB beside {layers[0].path.name} and "
            f"there are {free / 2**30:.1f} GiB: make room, or give another place"
        )


def _write_cog(draft: Draft, place: Georeference) -> None:
    rasterio = require_rasterio()
    from rasterio.shutil import copy

    target = draft.layer.path.with_name(f".{draft.layer.path.name}.cog.tif")
    write_atomically(draft.view, _virtual(draft, place).encode())
    averaged = "nearest" if draft.layer.colours else "average"
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        options = {"compress": "DEFLATE", "bigtiff": "IF_SAFER", "overview_resampling": averaged}
        copy(draft.view, target, driver="COG", num_threads="ALL_CPUS", **options)
    beside = target.with_name(f"{target.name}.aux.xml")  # GDAL's, for a CRS that the keys of GeoTIFF cannot hold
    if beside.exists():
        beside.replace(draft.layer.path.with_name(f"{draft.layer.path.name}.aux.xml"))
    target.replace(draft.layer.path)


def _locked(file: BinaryIO) -> bool:
    """Lock a file until it is closed; False where another process holds it. Windows has no such locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _virtual(draft: Draft, place: Georeference) -> str:
    """The draft as a raster of GDAL's virtual format: where its bytes lie, and what the map says of itself."""
    root = ElementTree.Element("VRTDataset", rasterXSize=str(draft.width), rasterYSize=str(draft.height))
    notes = ElementTree.SubElement(root, "Metadata")
    ElementTree.SubElement(notes, "MDI", key=DIGEST_TAG).text = draft.digest
    if place.crs is not None:
        ElementTree.SubElement(root, "SRS").text = place.crs.to_wkt()
    if place.gcps is not None:
        _add_points(root, *place.gcps)
    if place.transform is not None:
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(map(repr, place.transform.to_gdal()))
    for index, name in enumerate(draft.layer.names):
        band = ElementTree.SubElement(
            root, "VRTRasterBand", dataType="Byte", band=str(index + 1), subClass="VRTRawRasterBand"
        )
        where = {"ImageOffset": index * draft.width, "PixelOffset": 1, "LineOffset": draft.layer.bands * draft.width}
        ElementTree.SubElement(band, "SourceFilename", relativeToVRT="1").text = draft.path.name
        for tag, value in {"Description": name, **where}.items():
            ElementTree.SubElement(band, tag).text = str(value)
        if draft.layer.colours:
            _add_colours(band, draft.layer.colours)
    return ElementTree.tostring(root, encoding="unicode")


def _add_points(root: ElementTree.Element, points: Sequence[Any], crs: Any) -> None:
    """Ground control points."""
    told = {"Projection": crs.to_wkt()} if crs is not None else {}
    found = ElementTree.SubElement(root, "GCPList", told)
    for number, point in enumerate(points):
        places = {"Pixel": point.col, "Line": point.row, "X": point.x, "Y": point.y, "Z": point.z or 0.0}
        written = {key: repr(float(value)) for key, value in places.items()}
        ElementTree.SubElement(found, "GCP", {"Id": point.id or str(number), "Info": point.info or "", **written})


def _add_colours(band: ElementTree.Element, colours: Sequence[tuple[int, int, int]]) -> None:
    ElementTree.SubElement(band, "NoDataValue").text = str(NO_DATA)
    ElementTree.SubElement(band, "ColorInterp").text = "Palette"
    table = ElementTree.SubElement(band, "ColorTable")
    for red, green, blue in colours:
        ElementTree.SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4="255")


def _write_png(draft: Draft) -> None:
    from PIL import Image, PngImagePlugin

    pixels = np.memmap(draft.path, np.uint8, "r", shape=(draft.height, draft.layer.bands, draft.width))
    image = Image.fromarray(pixels[:, 0])
    palette = b"".join(bytes(colour) for colour in draft.layer.colours)
    image.putpalette(palette.ljust(768, b"\0"), "RGB")  # Pillow saves a shorter one in fewer bits, which cut NO_DATA
    notes = PngImagePlugin.PngInfo()
    notes.add_text(DIGEST_TAG, draft.digest)
    target = draft.layer.path.with_name(f".{draft.layer.path.name}.png")
    transparency: dict[str, Any] = {"transparency": NO_DATA} if (pixels == NO_DATA).any() else {}
    image.save(target, pnginfo=notes, **transparency)
    target.replace(draft.layer.path)


def _digest_of(path: Path) -> str:
    """What a finished map says of itself; empty for another file."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        rasterio = require_rasterio()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                with rasterio.open(path) as found:
                    return found.tags().get(DIGEST_TAG, "")
            except rasterio.errors.RasterioError:
                return ""
    from PIL import Image

    try:
        with Image.open(path) as found:
            return found.info.get(DIGEST_TAG, "")
    except OSError:
        return ""
