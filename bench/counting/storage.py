"""How large a model's weights are on disk."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.counting.file_size import TYPES, StoredTensor, file_bytes
from bench.errors import BenchError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in TYPES.items()}


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
    files = {name: file_bytes(stored_tensors(model, dtype)) for name, dtype in DTYPES.items()}
    return Storage(files, (parameters + buffers) / 2**20)


def stored_tensors(model: nn.Module, dtype: torch.dtype | None = None) -> list[StoredTensor]:
    """The tensors of a model's state, one that has several names once, under its first.

    Args:
        dtype: of floating-point tensors; `None` takes each as it is.

    Raises:
        BenchError: a tensor is of a type that safetensors cannot store.
    """
    return [
        StoredTensor(name, tuple(tensor.shape), _type(name, tensor, dtype), isinstance(tensor, nn.Parameter))
        for name, tensor in _distinct(model)
    ]


def _distinct(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The state, each tensor under its first name only."""
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride())
        if place not in seen:
            yield name, tensor
        if tensor.numel():
            seen.add(place)


def _type(name: str, tensor: Tensor, dtype: torch.dtype | None) -> str:
    kept = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    if kept not in NAMES:
        raise BenchError(f"{name} is of type {kept}, which a safetensors file cannot hold: convert it first")
    return NAMES[kept]
