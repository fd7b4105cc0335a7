"""From a stored mask (numbers or class colours) to class indices, refusing what the class table lacks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.data.classes import EXAMPLE, UNLABELLED, Table
from bench.data.pixels import FileError, read_stored_mask

Stored = int | tuple[int, ...]
_BYTES = np.arange(256)[None]


class UnknownStored(FileError):
    """A mask holds values (or colours) that the class table lacks; `pixels` has of each how many."""

    def __init__(self, path: Path, pixels: dict[Stored, int], reason: str) -> None:
        super().__init__(path, reason)
        self.pixels = pixels


@dataclass(frozen=True)
class MaskReader:
    """Reads masks by a class table."""

    table: Table

    def read(self, path: Path) -> np.ndarray:
        """The mask as class indices, uint8 (H, W), pixels without label as the classes' `ignore_index`.

        Raises `FileError`, naming the file and the value or colour, for what the table lacks.
        """
        stored = read_stored_mask(path, by_index=self.table.palette == "index")
        unknown = self.unknown(stored)
        if unknown and stored.ndim == 3 and self._is_grey(stored) and not self.unknown(stored[..., 0]):
            stored, unknown = stored[..., 0], {}
        if unknown:
            raise UnknownStored(path, unknown, self._reason(*next(iter(unknown.items()))))
        return self.labels(stored)

    def unknown(self, stored: np.ndarray) -> dict[Stored, int]:
        """Pixels of each value (or colour) of a stored mask that the table lacks, the most frequent first."""
        if _is_bytes(stored):
            counts = np.bincount(stored.ravel(), minlength=256)
            bad = np.flatnonzero((self._positions(_BYTES)[0] < 0) & (counts > 0))
            counts = counts[bad]
        else:
            bad, counts = np.unique(_codes(stored)[self._positions(stored) < 0], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {_stored(int(bad[i]), stored.ndim == 2): int(counts[i]) for i in order}

    def labels(self, stored: np.ndarray) -> np.ndarray:
        """Class indices of a stored mask without unknown values: uint8 (H, W)."""
        labels = (self._by_value if stored.ndim == 2 else self._by_colour)[0]
        if _is_bytes(stored):  # a look-up in 256 labels takes a ninth of the memory, which counts in an orthophoto
            return labels[self._positions(_BYTES)[0]][stored]
        return labels[self._positions(stored)]

    def nearest(self, stored: Stored) -> str:
        """The class whose value (or colour) is nearest to one that the table lacks, and what it is stored as."""
        if isinstance(stored, int):
            pairs = [(v, name) for name, own in zip(self._names, self.table.values.classes, strict=True) for v in own]
            value, name = min(pairs, key=lambda pair: abs(pair[0] - stored))
            return f"{name}, {value}"
        colours = self.table.classes.colours
        far = [sum((a - b) ** 2 for a, b in zip(colour, stored, strict=True)) for colour in colours]
        return f"{self._names[far.index(min(far))]}, {colours[far.index(min(far))]}"

    @property
    def known(self) -> str:
        """What masks of numbers may hold."""
        values, ignored = self.table.values.classes, self.table.values.ignored
        plain = values == tuple((i,) for i in range(len(values)))
        numbers = f"0 to {len(values) - 1}" if plain else ", ".join(str(v) for own in values for v in own)
        return numbers + (f" and {', '.join(map(str, ignored))} (ignored)" if ignored else "")

    @property
    def _names(self) -> tuple[str, ...]:
        return self.table.classes.names

    @property
    def _unlabelled(self) -> int:
        """Only asked for where a value or colour means no label; a table without `ignore_index` has none such."""
        ignore = self.table.classes.ignore_index
        return UNLABELLED if ignore is None else ignore

    @cached_property
    def _by_value(self) -> tuple[np.ndarray, np.ndarray]:
        """Class indices and the values that stand for them, by value."""
        values = self.table.values
        pairs = [(v, i) for i, own in enumerate(values.classes) for v in own]
        pairs += [(v, self._unlabelled) for v in values.ignored]
        return _sorted(pairs if self.table.declared else [])

    @cached_property
    def _by_colour(self) -> tuple[np.ndarray, np.ndarray]:
        """Class indices and the colours that stand for them, as 24-bit codes, by code."""
        classes = self.table.classes
        colours = np.array(classes.colours + classes.ignore_colours, np.uint8)
        labels = [*range(classes.num_classes), *[self._unlabelled] * len(classes.ignore_colours)]
        return _sorted(list(zip(_codes(colours[None])[0].tolist(), labels, strict=True)))

    def _positions(self, stored: np.ndarray) -> np.ndarray:
        """Where the value (or colour) of each pixel stands in the table; -1 where it does not."""
        known = (self._by_value if stored.ndim == 2 else self._by_colour)[1]
        codes = _codes(stored)
        if not len(known):
            return np.full(codes.shape, -1)
        at = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.where(known[at] == codes, at, -1)

    @staticmethod
    def _is_grey(stored: np.ndarray) -> bool:
        return bool((stored == stored[..., :1]).all())

    def _reason(self, first: Stored, pixels: int) -> str:
        table = self.table
        number = isinstance(first, int)
        if number and not table.declared:
            return f"holds class indices, but there is no {table.path} to say what they mean; write it, like {EXAMPLE}."
        where = table.path if table.declared else "the ARAS400k table (there is no classes.json)"
        known = self.known if number else ", ".join(map("{} {}".format, self._names, table.classes.colours))
        remedy = (
            f'"value": {first} into the row of the class that it means (masks of 0 and 255 often mean background and '
            f'object), or "ignore_index": {first} if it means no label.'
            if number
            else 'its colour into the table, as "rgb" of a class, or as "ignore_rgb" if it means no label.'
        )
        kind = "value" if number else "colour"
        return (
            f"holds the {kind} {first} ({pixels:,} px), which is not in {where}; {known} are possible: correct the "
            f"mask, or write {remedy}"
        )


def _sorted(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    codes, labels = np.array(pairs, np.int64).reshape(-1, 2).T
    order = np.argsort(codes)
    return labels[order].astype(np.uint8), codes[order]


def _is_bytes(stored: np.ndarray) -> bool:
    return stored.ndim == 2 and stored.dtype == np.uint8


def _codes(stored: np.ndarray) -> np.ndarray:
    """Values (H, W) as they are, int64, colours (H, W, 3) as 24-bit codes, int32: (H, W)."""
    if stored.ndim == 2:
        return stored.astype(np.int64)
    wide = stored.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _stored(code: int, number: bool) -> Stored:
    return code if number else (code >> 16, code >> 8 & 255, code & 255)
