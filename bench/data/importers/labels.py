"""How published masks are read: numbers that count from 1, and colours that compression has changed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.data.classes import Classes, MaskValues
from bench.data.masks import MaskReader
from bench.data.pixels import FileError, read_stored_mask
from bench.data.table import Table

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
