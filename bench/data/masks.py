"""From a stored mask (class indices or class colours) to class indices, refusing what the class table lacks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.data.classes import ARAS400K_CLASSES, EXAMPLE, Classes
from bench.data.pixels import read_stored_mask
from bench.errors import BenchError


@dataclass(frozen=True)
class MaskReader:
    """Reads masks by `classes`. Without a class table of its own (`declared` False) a data set may hold masks in
    the ARAS400k colours, and nothing else: bare indices do not say what they mean."""

    classes: Classes = ARAS400K_CLASSES
    declared: bool = False
    table: Path = Path("classes.json")  # where the class table is, or would be looked for

    def read(self, path: Path) -> np.ndarray:
        """The mask as class indices, uint8 (H, W), ignored pixels as `classes.ignore_index`.

        Raises `BenchError`, naming the file and the value or colour, for what the table lacks.
        """
        stored = read_stored_mask(path)
        unknown = self.unknown(stored)
        if not unknown:
            return self.labels(stored)
        if stored.ndim == 2 and not self.declared:
            raise BenchError(
                f"{path} holds class indices, but there is no {self.table} to say what they mean; write it, like "
                f"{EXAMPLE}."
            )
        kind, known = ("value", self._values) if stored.ndim == 2 else ("colour", self._colours)
        where = self.table if self.declared else "the ARAS400k table (there is no classes.json)"
        raise BenchError(
            f"{path} holds the {kind} {unknown[0]}, which is not in {where}; {known} are possible: correct the mask "
            "or the class table."
        )

    def unknown(self, stored: np.ndarray) -> list[int | tuple[int, ...]]:
        """Values (or colours) of a stored mask that the table lacks, the most frequent first."""
        if stored.ndim == 2:
            counts = np.bincount(stored.ravel(), minlength=256)
            bad = np.flatnonzero((counts > 0) & ~(self.classes.valid_values & self.declared))
            return [int(v) for v in bad[np.argsort(-counts[bad], kind="stable")]]
        codes = _codes(stored)
        bad, counts = np.unique(codes[self._positions(codes) < 0], return_counts=True)
        return [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in bad[np.argsort(-counts, kind="stable")]]

    def labels(self, stored: np.ndarray) -> np.ndarray:
        """Class indices of a stored mask without unknown values: uint8 (H, W)."""
        if stored.ndim == 2:
            return stored
        values, _ = self._table
        return values[self._positions(_codes(stored))]

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Mask values and their colours as 24-bit codes, by code."""
        colours = np.array(self.classes.colours + self.classes.ignore_colours, np.uint8)
        codes = _codes(colours)
        values = np.arange(len(colours))
        values[self.classes.num_classes :] = self.classes.ignore_index or 0
        order = np.argsort(codes)
        return values[order].astype(np.uint8), codes[order]

    def _positions(self, codes: np.ndarray) -> np.ndarray:
        """Where each code stands in the table; -1 where it does not."""
        _, known = self._table
        at = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.where(known[at] == codes, at, -1)

    @property
    def _values(self) -> str:
        ignore = self.classes.ignore_index
        return f"0 to {self.classes.num_classes - 1}" + ("" if ignore is None else f" and {ignore} (ignored)")

    @property
    def _colours(self) -> str:
        return ", ".join(f"{n} {c}" for n, c in zip(self.classes.names, self.classes.colours, strict=True))


def _codes(colours: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 as 24-bit codes (...), int32."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
