"""Scenes to read from: GeoTIFFs by windows through rasterio, pictures (PNG, JPEG) as a whole through Pillow."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Shaped

from archs.errors import first_line
from bench.data.pixels import bits_per_channel, require_rasterio
from bench.errors import BenchError

GEO_SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2"})
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
CACHE_BYTES = 48 << 20  # GDAL would take a twentieth of the machine's memory
SAMPLE_BLOCK = 2572, 256, 1024, 768  # left, top, width, height in pixels of the embedded map
WEB_MERCATOR, WEB_MERCATOR_RADIUS = "EPSG:3857", 6_378_137.0  # whose metres are longer than those on the ground
METRES_PER_DEGREE = 111_320.0  # of latitude; of longitude times the cosine of the latitude


@dataclass(frozen=True)
class Georeference:
    """Where a scene lies: rasterio's CRS, affine transform and ground control points (with their CRS), None where the
    file says nothing."""

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, Any] | None = None

    @property
    def known(self) -> bool:
        """Whether a map can say where it lies, be it without a CRS."""
        return self.transform is not None or self.gcps is not None

    def pixel_area(self, height: int, width: int) -> float | None:
        """Square metres of the scene's middle pixel; None where the file does not say."""
        if self.crs is None or self.transform is None:
            return None
        area = abs(self.transform.determinant)
        north = self.transform.d * width / 2 + self.transform.e * height / 2 + self.transform.f
        if self.crs == WEB_MERCATOR:
            return area / float(np.cosh(north / WEB_MERCATOR_RADIUS)) ** 2  # 1 / cosh is the cosine of the latitude
        if self.crs.is_projected:
            return area * self.crs.linear_units_factor[1] ** 2
        if not self.crs.is_geographic:
            return None
        return area * METRES_PER_DEGREE**2 * float(np.cos(np.radians(north)))


class Scene(Protocol):
    """A scene of `bands` x `height` x `width` pixels; `files` are all that it is read from."""

    name: str
    files: tuple[Path, ...]
    bands: int
    height: int
    width: int
    dtype: np.dtype
    place: Georeference

    def read(self, top: int, left: int, height: int, width: int) -> Shaped[np.ndarray, "c h w"]:
        """The pixels of a window that lies inside the scene, in the file's own numbers."""
        ...

    def valid(self, top: int, left: int, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        """Where the window holds data."""
        ...


class RasterScene:
    """A raster that rasterio reads; an alpha band is its mask and no band of the picture, unless `bands` counts it.

    GDAL marks the fourth band of 8 bits as alpha where the writer says nothing, whatever it holds.
    """

    def __init__(self, path: Path, source: Any, bands: int | None = None) -> None:
        from rasterio.enums import MaskFlags

        self.name, self._source = path.name, source
        self.files = tuple(Path(file) for file in source.files)
        alpha = [i for i, role in zip(source.indexes, source.colorinterp, strict=True) if role.name == "alpha"]
        self._alpha_is_band = bool(alpha) and source.count == bands
        self._indexes = [i for i in source.indexes if self._alpha_is_band or i not in alpha]
        self.bands, self.height, self.width = len(self._indexes), source.height, source.width
        self.dtype = np.dtype(source.dtypes[0])
        points, of_points = source.gcps
        placed = source.crs is not None or not source.transform.is_identity
        self.place = Georeference(
            source.crs if placed else None,
            source.transform if placed else None,
            (points, of_points) if points and not placed else None,
        )
        self._whole = all(flags == [MaskFlags.all_valid] for flags in source.mask_flag_enums)

    def read(self, top: int, left: int, height: int, width: int) -> Shaped[np.ndarray, "c h w"]:
        return self._source.read(self._indexes, window=_window(top, left, height, width))

    def valid(self, top: int, left: int, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        if self._whole:
            return np.ones((height, width), bool)
        window = _window(top, left, height, width)
        if self.dtype.kind != "u":  # a hole in one band is one: only counts may hold the value of no data by themselves
            return self._source.read_masks(self._indexes, window=window).all(0)
        if self._alpha_is_band:  # masked by alpha are the other bands; by a no-data value, all
            return self._source.read_masks(self._indexes, window=window).any(0)
        return self._source.dataset_mask(window=window) > 0


class PictureScene:
    """A picture, decoded as a whole and turned as its EXIF orientation says; transparent pixels hold no data."""

    def __init__(
        self,
        name: str,
        pixels: Shaped[np.ndarray, "c h w"],
        valid: Bool[np.ndarray, "h w"],
        place: Georeference = Georeference(),
        files: tuple[Path, ...] = (),
    ) -> None:
        self.name, self._pixels, self._valid, self.place, self.files = name, pixels, valid, place, files
        self.bands, self.height, self.width = pixels.shape
        self.dtype = pixels.dtype

    def read(self, top: int, left: int, height: int, width: int) -> Shaped[np.ndarray, "c h w"]:
        return self._pixels[:, top : top + height, left : left + width]

    def valid(self, top: int, left: int, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        return self._valid[top : top + height, left : left + width]


@contextmanager
def open_scene(path: Path, bands: int | None = None) -> Iterator[Scene]:
    """The scene in a file.

    Args:
        bands: that are wanted: where alpha makes up their number, it is a band and masks nothing.

    Raises:
        BenchError: there is no such file, it is no picture, it is damaged, or rasterio is needed and missing.
    """
    if not path.is_file():
        raise BenchError(f"there is no scene {path}; give a GeoTIFF, a PNG, a JPEG, a folder of them, or a pattern")
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        yield _picture(path, bands)
    elif suffix in GEO_SUFFIXES:
        with _raster(path, bands) as scene:
            yield scene
    else:
        known = ", ".join(sorted(GEO_SUFFIXES | PICTURE_SUFFIXES))
        raise BenchError(f"{path.name} is no scene that can be read; give one of {known}")


def sample_scene(name: str) -> Scene:
    """Europe, North Africa and the Near East out of the embedded map (see `bench.data.world`), in degrees."""
    from bench.data.world import world_picture

    left, top, width, height = SAMPLE_BLOCK
    pixels = world_picture()[top : top + height, left : left + width].transpose(2, 0, 1)
    return PictureScene(name, pixels, np.ones((height, width), bool), _degrees(left, top))


def _degrees(left: int, top: int) -> Georeference:
    """Longitude and latitude of the embedded map; none without rasterio, which maps with coordinates need."""
    if find_spec("rasterio") is None:
        return Georeference()
    from rasterio.crs import CRS
    from rasterio.transform import from_origin

    return Georeference(CRS.from_epsg(4326), from_origin(left / 15 - 180, 90 - top / 15, 1 / 15, 1 / 15))


@contextmanager
def _raster(path: Path, bands: int | None) -> Iterator[Scene]:
    rasterio = require_rasterio()
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        for expected in (rasterio.errors.NotGeoreferencedWarning, rasterio.errors.NodataShadowWarning):
            warnings.simplefilter("ignore", expected)
        try:
            with rasterio.open(path) as source:
                yield RasterScene(path, source, bands)
        except rasterio.errors.RasterioError as error:
            raise BenchError(
                f"{path.name} cannot be read ({first_line(error)}): it is damaged, or no raster"
            ) from error


def _picture(path: Path, bands: int | None) -> PictureScene:
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as opened:
                _refuse_deep_colours(path, opened)
                turned = ImageOps.exif_transpose(opened)
                if "transparency" in turned.info or turned.mode in ("LA", "PA"):
                    turned = turned.convert("RGBA")
                mode = turned.mode
                pixels = np.asarray(turned if mode in ("L", "RGB", "RGBA", "I;16") else turned.convert("RGB"))
        except Image.DecompressionBombError:
            raise BenchError(
                f"{path.name} is too large to be decoded as a whole; save it as a GeoTIFF, which is read by windows"
            ) from None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise BenchError(
                f"{path.name} cannot be read ({first_line(error)}): it is damaged, or no picture"
            ) from error
    planes = np.atleast_3d(pixels).transpose(2, 0, 1)
    if mode == "RGBA" and bands != len(planes):
        return PictureScene(path.name, planes[:3], planes[3] > 0, files=(path,))
    return PictureScene(path.name, planes, np.ones(planes.shape[1:], bool), files=(path,))


def _refuse_deep_colours(path: Path, image: Any) -> None:
    """Pillow would cut them to 8 bits without a word."""
    if image.mode in ("RGB", "RGBA") and (bits := bits_per_channel(image)) > 8:
        raise BenchError(f"{path.name} has {bits} bits a colour, of which 8 could be read: save it as a GeoTIFF")


def _window(top: int, left: int, height: int, width: int) -> Any:
    from rasterio.windows import Window

    return Window(left, top, width, height)
