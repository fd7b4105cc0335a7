"""Networks without their numbers: copies on the meta device, and what its operators return.

Whoever follows a forward pass by its shapes alone (the exact count, the data flow of the deployed form) goes through
here.
"""

import copy
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MOST_REMEMBERED = 50_000  # results, of about a kilobyte each; a network has some thousand operators


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode whose parameters, buffers and tensor attributes have shapes but no values.

    The model is left untouched, no weight is copied, and tied tensors stay tied.
    """
    replaced = {id(tensor): _without_values(tensor) for tensor in _held(model)}
    return copy.deepcopy(model, replaced).eval()


def build_on_meta(config: Any, num_classes: int, in_channels: int) -> nn.Module:
    """The network of a config without values, where it can be built so; some read a tensor's values as they are built,
    and keep theirs."""
    try:
        with torch.device("meta"):
            return config.build(num_classes, in_channels)
    except (RuntimeError, NotImplementedError):
        return config.build(num_classes, in_channels)


def images_for(
    model: nn.Module, size: tuple[int, int], in_channels: int, batch: int = 1, device: str = "meta"
) -> Tensor:
    """Empty images `(batch, in_channels, *size)` of the floating-point type that the model's parameters have."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.zeros(batch, in_channels, *size, dtype=dtype, device=device)


def _held(model: nn.Module) -> list[Tensor]:
    attributes = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return [*model.parameters(), *model.buffers(), *attributes]


def _without_values(tensor: Tensor) -> Tensor:
    meta = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta


@dataclass(frozen=True)
class _Shape:
    """All there is to know of a tensor on the meta device that shares its memory with no other."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


_remembered: dict[Hashable, _Shape | tuple[_Shape, ...]] = {}


def result_on_meta(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What the operator `func` returns for arguments on the meta device.

    PyTorch finds the shape of many results there by hundreds of operators in Python. What a result follows from
    (shapes, strides, types, numbers) recurs from block to block and from network to network, so it is remembered;
    operators that write in place or return another look at an argument's memory always run.
    """
    if func.is_view or func._schema.is_mutable:
        return func(*args, **kwargs)
    try:
        key = (func, torch.get_default_dtype(), _key(args), _key(kwargs))
    except TypeError:  # an argument of another kind, as a generator of random numbers
        return func(*args, **kwargs)
    known = _remembered.get(key)
    if known is None:
        out = func(*args, **kwargs)
        _remember(key, (args, kwargs), out)
        return out
    return known.tensor() if isinstance(known, _Shape) else tuple(shape.tensor() for shape in known)


class OnMeta(TorchDispatchMode):
    """While it lasts, operators on the meta device are answered by `result_on_meta`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return result_on_meta(func, args, kwargs or {})


def _key(value: Any) -> Hashable:
    """`value` as something that is equal wherever the result on the meta device is.

    Raises:
        TypeError: it is of a kind that is not known to be plain.
    """
    kind = type(value)
    if kind in (int, float, bool):
        return kind, value  # 1, 1.0 and True are equal but do not make the same type of result
    if value is None or kind in (str, torch.dtype, torch.device, torch.layout, torch.memory_format):
        return value
    if kind in (tuple, list):
        return tuple(map(_key, value))
    if kind is dict:
        return tuple((name, _key(value[name])) for name in sorted(value))
    if kind in (Tensor, nn.Parameter) and value.is_meta and value.layout is torch.strided:
        return value.shape, value.stride(), value.storage_offset(), value.dtype
    raise TypeError(f"{kind.__name__} is not plain")


def _remember(key: Hashable, arguments: Any, out: Any) -> None:
    """Keep the result's shapes if new tensors of these are all that the operator makes."""
    results = out if type(out) is tuple else (out,)
    if not all(type(result) is Tensor and result.is_meta for result in results):
        return
    taken = {_memory(leaf) for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)}
    own = {_memory(result) for result in results}
    shapes = tuple(_Shape(tuple(result.shape), result.stride(), result.dtype) for result in results)
    if len(own) < len(results) or own & taken or not all(map(_is_whole, results, shapes)):
        return
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    _remembered[key] = shapes if type(out) is tuple else shapes[0]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _is_whole(tensor: Tensor, shape: _Shape) -> bool:
    """Whether the tensor takes the memory that a new one of its shape would."""
    return tensor.untyped_storage().nbytes() == shape.tensor().untyped_storage().nbytes()
