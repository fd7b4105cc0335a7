"""What an importer is: where a published data set keeps its images and masks, how its masks are read, and its terms."""

import filecmp
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.data.classes import Classes, MaskValues, Table
from bench.data.dataset import SPLITS
from bench.data.masks import MaskReader
from bench.data.pixels import FileError, read_stored_mask
from bench.errors import BenchError, DataWarning

Parts = Mapping[str, str]
"""The named groups of a path's match."""


@dataclass(frozen=True)
class Found:
    """An image and its mask; tiles of one scene stay together, in one of `splits` (one where the authors fixed it)."""

    name: str
    scene: str
    image: Path
    mask: Path
    splits: tuple[str, ...] = SPLITS


@dataclass(frozen=True)
class Download:
    """A file that the authors offer: its address and its MD5 sum, in hexadecimal digits."""

    url: str
    md5: str


@dataclass(frozen=True)
class Importer:
    """One data set as its authors publish it.

    Attributes:
        kind: its name on the command line.
        title: its name in print, with the paper.
        layout: the files that are looked for, in words.
        find: from all files of the source, the pairs of image and mask.
        reader: reads the masks; its class table is that of the imported set.
        values: what the masks store, and what becomes of it, in words.
        licence: one sentence.
        credit: the line that captions owe the authors.
        size: side of a tile in pixels; None where the authors publish tiles.
        gsd_m: side of a pixel on the ground in metres; None where the authors give several, or none.
        downloads: what `data get` fetches, where the authors offer a plain download.
    """

    kind: str
    title: str
    layout: str
    find: Callable[[Sequence[Path]], list[Found]]
    reader: MaskReader
    values: str
    licence: str
    credit: str
    size: int | None = 256
    gsd_m: float | None = None
    downloads: tuple[Download, ...] = ()


def paired(
    files: Sequence[Path], image: str, mask: str, *, withheld: bool = False, partial: bool = False
) -> list[tuple[Parts, Path, Path]]:
    """The named groups of the pattern, image and mask of every pair whose groups agree.

    Args:
        files: all files of a source.
        image: pattern of the end of an image's path, with forward slashes; its named groups say which image it is.
        mask: the same for masks, with the same groups.
        withheld: whether the authors publish images without masks, which are then left out.
        partial: whether they publish masks without images, which are then left out with a warning.

    Raises:
        BenchError: a mask has no image, an image has no mask, or two files that differ are the same image or mask.
    """
    images, masks = _matching(files, image), _matching(files, mask)
    alone = [masks[key] for key in masks.keys() - images.keys()]
    if partial and alone and images:
        warnings.warn(
            f"{len(alone)} of {len(masks)} masks have no image in the source and are left out, as {min(alone).name}",
            DataWarning,
            stacklevel=2,
        )
        alone = []
    alone += [] if withheld else [images[key] for key in images.keys() - masks.keys()]
    if alone:
        few = ", ".join(str(path) for path in sorted(alone)[:3]) + (", ..." if len(alone) > 3 else "")
        raise BenchError(
            f"{len(alone)} file(s) lack the image or mask that belongs to them: {few}; unpack the source again, or "
            "remove them."
        )
    return [(dict(key), images[key], masks[key]) for key in sorted(images.keys() & masks.keys())]


def _matching(files: Sequence[Path], pattern: str) -> dict[tuple[tuple[str, str], ...], Path]:
    found: dict[tuple[tuple[str, str], ...], Path] = {}
    for path in files:
        if match := re.search(rf"(?:^|/){pattern}$", path.as_posix(), re.IGNORECASE):
            key = tuple(match.groupdict().items())
            if key in found and not filecmp.cmp(path, found[key], shallow=False):
                raise BenchError(f"{path} and {found[key]} are two files of one tile; keep one of them in the source.")
            found.setdefault(key, path)
    return found


IMPOSSIBLE = 0.01
"""Share of a mask that may be of no class after rounding: edges, where two colours were mixed."""


def exact(classes: Classes) -> MaskReader:
    """Reads masks in exactly the classes' colours, or of class indices."""
    return MaskReader(Table.of(classes))


def from_one(classes: Classes) -> MaskReader:
    """Reads masks that count classes 1, 2, ... and store 0 where there is no label."""
    values = MaskValues(tuple((i + 1,) for i in range(classes.num_classes)), ignored=(0,))
    return MaskReader(replace(Table.of(classes), values=values, palette="index"))


def rounded(classes: Classes) -> MaskReader:
    """Reads colour masks whose channels were 0 or 255 before they were compressed."""
    return _Rounded(Table.of(classes))


@dataclass(frozen=True)
class _Rounded(MaskReader):
    """Each channel counts as 0, or from 128 on as 255; mixed colours of edges are of no class, and ignored."""

    def read(self, path: Path) -> np.ndarray:
        """Class indices, uint8 (H, W). Raises `FileError` where more than `IMPOSSIBLE` of a mask is of no class."""
        stored = read_stored_mask(path)
        if stored.ndim != 3:
            raise FileError(path, "is no colour mask; masks of this set are RGB in the colours of its classes.")
        rounded = np.where(stored >= 128, 255, 0).astype(np.uint8)
        strange = self._positions(rounded) < 0
        if strange.mean() > IMPOSSIBLE:
            found = f"{100 * strange.mean():.1f} % of its pixels"
            raise FileError(path, f"is in other colours than this set's: {found} are of no class; get it again.")
        ignored = self.table.classes.ignore_index
        assert ignored is not None, "colour masks of published sets have an ignore index"
        return np.where(strange, ignored, self.labels(rounded)).astype(np.uint8)
