"""How large a model's weights are on disk, as a safetensors file, worked out without serialising anything.

Such a file is eight bytes, a JSON header padded to a multiple of eight, and the tensors, wide types first, then by
name. The format: https://github.com/huggingface/safetensors.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import BenchError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}
"""safetensors' names of the types, in the order in which it ranks them."""
_RANKS = {dtype: -rank for rank, dtype in enumerate(TYPES)}


@dataclass(frozen=True)
class Storage:
    """What the weights take on disk.

    `file_bytes`: the safetensors file with floating-point tensors in each type, integers as they are.
    `paper_mib`: float32 bytes of the parameters plus bytes of the buffers, in MiB, no file around them: the rule
    behind the "MB" of the LALE paper's tables.
    """

    file_bytes: dict[str, int]
    paper_mib: float

    @property
    def file_mib(self) -> dict[str, float]:
        """`file_bytes` in MiB (2^20 bytes)."""
        return {name: size / 2**20 for name, size in self.file_bytes.items()}


def measure_storage(model: nn.Module) -> Storage:
    """The size of the state's safetensors file in each type, exact, without writing one; works on any device.

    A tensor under several names is stored once.

    Raises:
        BenchError: a tensor is of a type that safetensors cannot store.
    """
    parameters = sum(p.numel() * 4 for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    files = {name: file_bytes(model, dtype) for name, dtype in DTYPES.items()}
    return Storage(files, (parameters + buffers) / 2**20)


def file_bytes(model: nn.Module, dtype: torch.dtype | None = None) -> int:
    """Size in bytes of the safetensors file of a model's state.

    Args:
        dtype: of floating-point tensors; `None` takes each as it is.

    Raises:
        BenchError: a tensor is of a type that safetensors cannot store.
    """
    typed = [(_stored_type(name, tensor, dtype), name, tensor) for name, tensor in _distinct(model)]
    header, end = {}, 0
    for kept, name, tensor in sorted(typed, key=lambda entry: (_RANKS[entry[0]], entry[1])):
        start, end = end, end + tensor.numel() * kept.itemsize
        header[name] = {"dtype": TYPES[kept], "shape": tuple(tensor.shape), "data_offsets": (start, end)}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + text + -text % 8 + end


def _distinct(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The state, each tensor under its first name only."""
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride())
        if place not in seen:
            yield name, tensor
        if tensor.numel():
            seen.add(place)


def _stored_type(name: str, tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    kept = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    if kept not in TYPES:
        raise BenchError(f"{name} is of type {kept}, which a safetensors file cannot hold: convert it first")
    return kept
