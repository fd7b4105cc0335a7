"""One image file to one array, exactly, or one sentence that names the file.

Photographs that carry an EXIF orientation are turned as viewers turn them, images and masks alike. TIFF files that
Pillow cannot give whole (more bands than four, 16 bits and more, floats) are read by rasterio."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from bench.errors import BenchError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PLAIN_KINDS = {1: (1, 3), 3: (2, 6), 4: (2, 5)}
"""What samples a pixel may mean (photometric interpretation: 1 grey, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr) for Pillow to
give them as they are stored: it inverts grey of which 0 is white, and gives up on three bands of grey."""
_WEBP = 50001
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT = 258, 259, 262, 277, 338, 339
_RGB, _CMYK = 2, 5


def needs_rasterio(path: Path) -> bool:
    """Whether the file is a TIFF whose bands or depth Pillow would refuse, or cut without a word."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[:4] not in MAGIC:
                return False
            large = ord("+") in head[2:4]
            directory = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8) if large else head)
            file.seek(directory.next)
            directory.load(file)
            tags = dict(directory)
            return not _is_plain(tags)
    except Exception:  # a damaged head: Pillow says what is wrong with it
        return False


def _is_plain(tags: dict[int, Any]) -> bool:
    """8-bit grey, palette, RGB with or without alpha, CMYK; or one bit; in a compression that Pillow knows."""
    if tags.get(_COMPRESSION, 1) not in TiffImagePlugin.COMPRESSION_INFO or tags.get(_COMPRESSION) == _WEBP:
        return False
    bits, samples = set(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
    if tags.get(_PHOTOMETRIC) not in PLAIN_KINDS.get(samples, ()):
        return False
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


SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
IMAGE_TYPES = (np.uint8, np.uint16, np.float32)
_TIFF_BITS = 258
_LOSSY = ("JPEG", "MPO")


class FileError(BenchError):
    """What is wrong with one file: `reason` is the sentence without the name that it begins with, so that files with
    one fault can be told of together."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path, self.reason = path, reason


class _PillowLimit:
    """Lifts Pillow's limit on pixels, for orthophotos are no attack, while any thread is reading."""

    def __init__(self) -> None:
        self.lock, self.readers, self.limit = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self.lock:
            if not self.readers:
                self.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self.readers += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.readers -= 1
            if not self.readers:
                Image.MAX_IMAGE_PIXELS = self.limit


_any_size = _PillowLimit()


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The decoded file, of any size, as stored. Raises `FileError` where it is corrupt, truncated or no image."""
    with broken_files_named(path), _any_size, Image.open(path) as image:
        image.load()
        yield image


@contextmanager
def broken_files_named(path: Path) -> Iterator[None]:
    """Turns what libraries raise for broken files into a sentence that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(path, "does not exist.") from error
    except PermissionError as error:
        raise FileError(path, "may not be read; allow it (chmod +r), or leave it out.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = str(error).replace(str(path), "it").rstrip(".")
        raise FileError(path, f"is corrupt, truncated or no image ({reason}); restore or remove it.") from error


def bits_per_channel(image: Any) -> int:
    """Bits a channel as stored: Pillow silently reduces 16-bit RGB to 8, and scales 2- and 4-bit grey up."""
    if image.format == "TIFF":
        stored = image.tag_v2.get(_TIFF_BITS, (1,))
        return int(max(stored)) if isinstance(stored, tuple) else int(stored)
    if image.format == "PNG":
        with Path(image.filename).open("rb") as file:
            return file.read(25)[24]  # signature 8, length 4, "IHDR" 4, width 4, height 4, then the bit depth
    return 8


def read_image(path: Path, bands: int = 3, table: str = "classes.json") -> np.ndarray:
    """The image as (H, W, `bands`) of uint8, uint16 or float32; an alpha channel that is full throughout is left out.

    Raises `FileError` for another number of bands, other types, and broken files; `table` is where bands are named.
    """
    pixels = _tiff_bands(path) if needs_rasterio(path) else _pillow_bands(path)
    pixels = _without_alpha(pixels, bands)
    if pixels.shape[-1] != bands:
        raise FileError(
            path,
            f"has {pixels.shape[-1]} band{'s' * (pixels.shape[-1] > 1)} of {pixels.dtype}, but {bands} are expected "
            f"({'8-bit RGB' if bands == 3 else f'as {table} names them'}); name every band in {table}, as "
            '"bands": ["red", "green", "blue", "nir"], or remove what is too much.',
        )
    return pixels


def _pillow_bands(path: Path) -> np.ndarray:
    with opened(path) as image:
        bits = bits_per_channel(image)
        turned = ImageOps.exif_transpose(image)
        if (image.mode in ("RGB", "RGBA", "L", "LA") and bits == 8) or image.mode.startswith("I;16"):
            pixels = np.asarray(turned)
            pixels = pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)
            return pixels if pixels.ndim == 3 else pixels[..., None]
        raise FileError(
            path,
            f"is a {bits}-bit image of mode {image.mode}; 8-bit RGB PNG, JPEG or TIFF images, 16-bit grey ones, and "
            "TIFFs of 8 and 16 bits or float32 with any number of bands are read: convert it.",
        )


def _tiff_bands(path: Path) -> np.ndarray:
    pixels = _raster(path)
    if pixels.dtype == np.int16:
        return pixels.astype(np.float32)
    if pixels.dtype not in IMAGE_TYPES:
        raise FileError(path, f"holds {pixels.dtype}; uint8, uint16, int16 and float32 are read: convert it.")
    return pixels


def _raster(path: Path) -> np.ndarray:
    with broken_files_named(path):
        return read_raster(path)


def _without_alpha(pixels: np.ndarray, bands: int) -> np.ndarray:
    """Without the last of two or four bands of 8 bits, where that is one too many and says nothing but "opaque"."""
    if pixels.dtype == np.uint8 and pixels.shape[-1] in (2, 4) and pixels.shape[-1] == bands + 1:
        return pixels[..., :-1] if (pixels[..., -1] == 255).all() else pixels
    return pixels


def read_stored_mask(path: Path, by_index: bool = False) -> np.ndarray:
    """The mask as stored: integers (H, W), or uint8 colours (H, W, 3).

    Palette images are read by their colours, since a palette may be in any order, unless `by_index`. Raises
    `FileError` for other kinds, for JPEG, which blurs labels, and for broken files.
    """
    pixels = _tiff_mask(path) if needs_rasterio(path) else _pillow_mask(path, by_index)
    for count in (3, 1):
        pixels = pixels if pixels.ndim == 2 else _without_alpha(pixels, count)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        raise _no_mask(path, "a mask with transparency")
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def _pillow_mask(path: Path, by_index: bool) -> np.ndarray:
    with opened(path) as image:
        if image.format in _LOSSY or image.info.get("compression") == "jpeg":
            raise FileError(
                path,
                "is a JPEG, which changes labels along every edge; take the masks from before they were saved as "
                "JPEG, as PNG or TIFF.",
            )
        bits = bits_per_channel(image)
        turned = ImageOps.exif_transpose(image)
        if image.mode == "P":
            return np.asarray(turned if by_index else turned.convert("RGBA"))
        if image.mode == "L" and bits in (2, 4):
            return np.asarray(turned) // (255 // (2**bits - 1))
        if image.mode == "1" or (bits == 8 and image.mode in ("RGB", "RGBA", "L", "LA")):
            return np.asarray(turned).astype(np.uint8)
        if image.mode == "I" or image.mode.startswith("I;16"):
            return np.asarray(turned).astype(np.int32)
        raise _no_mask(path, f"a {bits}-bit mask of mode {image.mode}")


def _tiff_mask(path: Path) -> np.ndarray:
    pixels = _raster(path)
    colours = pixels.dtype == np.uint8 and pixels.shape[-1] in (2, 3, 4)
    if not colours and (pixels.shape[-1] > 1 or not np.issubdtype(pixels.dtype, np.integer)):
        raise _no_mask(path, f"a mask of {pixels.shape[-1]} bands of {pixels.dtype}")
    return pixels


def _no_mask(path: Path, found: str) -> FileError:
    return FileError(
        path,
        f"is {found}; grey masks of whole numbers, and 8-bit RGB or palette masks of class colours without "
        "transparency are read: convert it without resampling.",
    )
