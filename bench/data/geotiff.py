"""TIFF files that Pillow cannot give whole (more bands than four, 16 bits and more, floats), through rasterio."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from bench.errors import BenchError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT = 258, 259, 262, 277, 338, 339
_RGB, _CMYK = 2, 5


def needs_rasterio(path: Path) -> bool:
    """Whether the file is a TIFF whose bands or depth Pillow would refuse, or cut without a word."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[:4] not in MAGIC:
                return False
            directory = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8) if head[2] == ord("+") else head)
            file.seek(directory.next)
            directory.load(file)
            tags = dict(directory)
            return not _is_plain(tags)
    except Exception:  # a damaged head: Pillow says what is wrong with it
        return False


def _is_plain(tags: dict[int, Any]) -> bool:
    """8-bit grey, palette, RGB with or without alpha, CMYK; or one bit; in a compression that Pillow knows."""
    if tags.get(_COMPRESSION, 1) not in TiffImagePlugin.COMPRESSION_INFO:
        return False
    bits, samples = set(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
    if bits == {1} and samples == 1:
        return True
    alpha = samples == 4 and tags.get(_PHOTOMETRIC) == _RGB and tags.get(_EXTRA) == (2,)
    plain = samples in (1, 3) or alpha or tags.get(_PHOTOMETRIC) == _CMYK
    return plain and bits == {8} and set(tags.get(_FORMAT, (1,))) == {1}


def read_raster(path: Path) -> np.ndarray:
    """All bands of a TIFF as stored: (H, W, B).

    Raises `BenchError` where rasterio is not installed, and rasterio's own `RasterioError` for a broken file.
    """
    with _without_notes().open(path, driver="GTiff") as source:
        return np.ascontiguousarray(np.moveaxis(source.read(), 0, -1))


def write_raster(path: Path, pixels: np.ndarray, names: tuple[str, ...]) -> None:
    """Write (H, W, B) losslessly, with the bands' names. Raises `BenchError` where rasterio is not installed."""
    height, width, bands = pixels.shape
    with _without_notes().open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype, compress="deflate"
    ) as target:
        target.write(np.moveaxis(pixels, -1, 0))
        target.descriptions = names


def require_rasterio() -> Any:
    """The package rasterio.

    Raises:
        BenchError: it is not installed.
    """
    try:
        import rasterio
        import rasterio.errors
    except ImportError:
        raise BenchError(
            "GeoTIFF, and TIFF of many bands or of more than 8 bits, need rasterio, which is not installed: "
            "pip install 'lale-bench[geo]'"
        ) from None
    return rasterio


def _without_notes() -> Any:
    rasterio = require_rasterio()
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)  # a tile needs no place
    return rasterio
