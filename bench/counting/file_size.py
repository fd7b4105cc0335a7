"""The size of a safetensors file, worked out from names, shapes and types alone: nothing is serialised.

Eight bytes, a JSON header padded to a multiple of eight, the tensors. The header spells each tensor's place, so the
order counts: wide types first, then by name. The format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch

TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
"""Types by safetensors' name, in the order in which safetensors ranks them."""
BYTES = {name: dtype.itemsize for name, dtype in TYPES.items()}
_RANKS = {name: -i for i, name in enumerate(TYPES)}
_POWERS = 10 ** np.arange(1, 19)


class StoredTensor(NamedTuple):
    """A stored tensor: qualified name, shape, safetensors' name of its type, whether it is a parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "F32"
    learned: bool = True

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def place(self) -> tuple[int, str]:
        """Tensors lie in a file in this order: wide types first, then by name."""
        return _RANKS[self.dtype], self.name


class Run(NamedTuple):
    """Tensors of one rank that lie in a file one behind the other: bytes of each, letters of their header entries
    beside their places in the file."""

    rank: int
    first: str
    last: str
    sizes: np.ndarray
    letters: int


def runs_of(tensors: Iterable[StoredTensor]) -> tuple[Run, ...]:
    """The tensors in the order of a file, one run a type."""
    placed = sorted(tensors, key=lambda tensor: tensor.place)
    return tuple(_run(rank, list(own)) for rank, own in groupby(placed, key=lambda tensor: tensor.place[0]))


def _run(rank: int, tensors: Sequence[StoredTensor]) -> Run:
    sizes = np.array([tensor.elements * BYTES[tensor.dtype] for tensor in tensors], dtype=np.int64)
    return Run(rank, tensors[0].name, tensors[-1].name, sizes, sum(_letters(tensor) for tensor in tensors))


def _letters(tensor: StoredTensor) -> int:
    entry = {tensor.name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (0, 0)}}
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    return len(text) - len("{}") - len("00")


def file_bytes(runs: Iterable[Run]) -> int:
    """Size in bytes of the safetensors file that holds the tensors of all runs.

    Raises:
        ValueError: the names of two runs interleave, so that they cannot be laid one behind the other.
    """
    runs = sorted(runs, key=itemgetter(0, 1))
    if not runs:
        return 8 + 8  # an empty header, padded
    for run, after in pairwise(runs):
        if run.rank == after.rank and run.last >= after.first:
            raise ValueError(f"runs overlap at {after.first}: a closed form must not split a module between blocks")
    ends = np.concatenate([run.sizes for run in runs]).cumsum()
    # Each end is the next tensor's start, and the first starts at 0, which is one letter.
    digits = np.searchsorted(_POWERS, ends, side="right") + 1
    places = 1 + 2 * int(digits.sum()) - int(digits[-1])
    text = 2 + sum([run.letters for run in runs]) + len(ends) - 1 + places
    return 8 + text + (-text) % 8 + int(ends[-1])
