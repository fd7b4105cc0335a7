"""The size of a safetensors file, worked out from names, shapes and types alone: nothing is serialised.

Eight bytes, a JSON header padded to a multiple of eight, the tensors. The header spells each tensor's place, so the
order counts: wide types first, then by name. The format: https://github.com/huggingface/safetensors.
"""

import json
import math
from collections.abc import Iterable
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


def _letters(tensor: StoredTensor) -> int:
    entry = {tensor.name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (0, 0)}}
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    return len(text) - len("{}") - len("00")


def file_bytes(tensors: Iterable[StoredTensor]) -> int:
    """Size in bytes of the safetensors file that holds these tensors."""
    placed = sorted(tensors, key=lambda tensor: tensor.place)
    if not placed:
        return 8 + 8  # an empty header, padded
    ends = np.array([tensor.elements * BYTES[tensor.dtype] for tensor in placed], dtype=np.int64).cumsum()
    # Each end is the next tensor's start, and the first starts at 0, which is one letter.
    digits = np.searchsorted(_POWERS, ends, side="right") + 1
    places = 1 + 2 * int(digits.sum()) - int(digits[-1])
    text = 2 + sum(_letters(tensor) for tensor in placed) + len(ends) - 1 + places
    return 8 + text + (-text) % 8 + int(ends[-1])
