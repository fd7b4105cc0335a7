"""One image file to one uint8 array, exactly, or one sentence that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from bench.errors import BenchError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ACCEPTED = "8-bit RGB PNG, JPEG or TIFF images without alpha"
_TIFF_BITS = 258


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The decoded file. Raises `BenchError` where it is corrupt, truncated or no image."""
    try:
        with Image.open(path) as image:
            image.load()
            yield image
    except FileNotFoundError as error:
        raise BenchError(f"{path} does not exist.") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), "it").rstrip(".")
        raise BenchError(f"{path} is corrupt, truncated or no image ({reason}); restore or remove it.") from error


@contextmanager
def any_size() -> Iterator[None]:
    """Lets images of any size be read, which Pillow else takes for an attack; for one thread."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def bits_per_channel(image: Image.Image) -> int:
    """Bits a channel as stored: Pillow silently reduces 16-bit RGB to 8, and scales 2- and 4-bit grey up."""
    if image.format == "TIFF":
        stored = image.tag_v2.get(_TIFF_BITS, (1,))
        return int(max(stored)) if isinstance(stored, tuple) else int(stored)
    if image.format == "PNG":
        with Path(image.filename).open("rb") as file:
            return file.read(25)[24]  # signature 8, length 4, "IHDR" 4, width 4, height 4, then the bit depth
    return 8


def read_image(path: Path) -> np.ndarray:
    """The RGB image as uint8 (H, W, 3). Raises `BenchError` for other kinds than 8-bit RGB, and broken files."""
    with opened(path) as image:
        bits = bits_per_channel(image)
        if image.mode != "RGB" or bits != 8:
            raise BenchError(f"{path} is a {bits}-bit image of mode {image.mode}; {ACCEPTED} are read: convert it.")
        return np.array(image)


def read_stored_mask(path: Path) -> np.ndarray:
    """The mask as stored: uint8 (H, W) of values, or (H, W, 3) of colours.

    Palette images are read by their colours, since a palette may be in any order. Raises `BenchError` for
    other kinds and broken files.
    """
    with opened(path) as image:
        bits = bits_per_channel(image)
        if image.mode == "P" and "transparency" not in image.info:
            return np.array(image.convert("RGB"))
        if (image.mode, bits) in (("RGB", 8), ("L", 8), ("1", 1)):
            return np.array(image).astype(np.uint8)
        raise BenchError(
            f"{path} is a {bits}-bit mask of mode {image.mode}; 8-bit grey masks of class indices, and 8-bit RGB or "
            "palette masks of class colours are read: convert it without resampling."
        )
