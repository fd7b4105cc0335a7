"""A model without its numbers: a deep copy on the meta device."""

import copy

import torch
from torch import Tensor, nn


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode whose parameters, buffers and tensor attributes have shapes but no values.

    The model is left untouched, no weight is copied, and tied tensors stay tied.
    """
    replaced = {id(tensor): _without_values(tensor) for tensor in _tensors(model)}
    return copy.deepcopy(model, replaced).eval()


def _tensors(model: nn.Module) -> list[Tensor]:
    attributes = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return [*model.parameters(), *model.buffers(), *attributes]


def _without_values(tensor: Tensor) -> Tensor:
    meta = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta
