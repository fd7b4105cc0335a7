"""How large a model's weights are on disk."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
    """Serialise the state of `model` once in each type and measure. A tensor under several names is stored once."""
    parameters = sum(p.numel() * 4 for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    files = {name: _file_bytes(model, dtype) for name, dtype in DTYPES.items()}
    return Storage(files, (parameters + buffers) / 2**20)


def _file_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    from safetensors.torch import save

    return len(save({name: _stored(tensor, dtype) for name, tensor in _distinct(model).items()}))


def _distinct(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with each tensor under its first name only."""
    first: dict[tuple, str] = {}
    state = model.state_dict()
    for name, tensor in state.items():
        first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,), name)
    return {name: state[name] for name in first.values()}


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kept = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return kept.clone(memory_format=torch.contiguous_format)  # a tensor of its own, as safetensors wants it
