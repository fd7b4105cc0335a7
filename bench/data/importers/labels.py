"""How published masks that are neither class indices from 0 on nor exact colours are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.masks import MaskReader
from bench.data.pixels import read_stored_mask
from bench.errors import BenchError

IMPOSSIBLE = 0.01
"""Share of a mask that may be of no class after rounding: edges, where two colours were mixed."""


@dataclass(frozen=True)
class FromOne(MaskReader):
    """Reads masks that count classes 1, 2, ... and store 0 where there is no label."""

    def read(self, path: Path) -> np.ndarray:
        """Class indices, uint8 (H, W). Raises `BenchError`, naming the file and the value, for another value."""
        stored = read_stored_mask(path)
        count = self.classes.num_classes
        if stored.ndim != 2:
            raise BenchError(f"{path} is a mask in colours; masks of this set store 0 (no label) and 1 to {count}.")
        if stored.max(initial=0) > count:
            raise BenchError(f"{path} holds the value {stored.max()}; 0 (no label) and 1 to {count} are possible.")
        return np.where(stored == 0, self.classes.ignore_index, stored.astype(int) - 1).astype(np.uint8)


@dataclass(frozen=True)
class Rounded(MaskReader):
    """Reads colour masks that lost their exact colours to compression: each channel is 0 or 255, from 128 on 255."""

    def read(self, path: Path) -> np.ndarray:
        """Class indices, uint8 (H, W); mixed colours of edges are ignored.

        Raises `BenchError`, naming the file, where more than `IMPOSSIBLE` of a mask is of no class.
        """
        stored = read_stored_mask(path)
        if stored.ndim != 3:
            raise BenchError(f"{path} is no colour mask; masks of this set are RGB, in the colours {self._colours}.")
        rounded = np.where(stored >= 128, 255, 0).astype(np.uint8)
        known = np.array(self.classes.colours + self.classes.ignore_colours)
        strange = ~(rounded[..., None, :] == known).all(-1).any(-1)
        if strange.mean() > IMPOSSIBLE:
            share = f"{100 * strange.mean():.1f} %"
            raise BenchError(f"{path}: {share} of its pixels are of no class's colour; {self._colours} are possible.")
        rounded[strange] = self.classes.colours[0]
        return np.where(strange, self.classes.ignore_index, self.labels(rounded)).astype(np.uint8)
