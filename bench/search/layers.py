"""Layers as a ledger: which tensors each stores and how many multiply-accumulates it does; nothing is built.

The formulas of each layer stand here once; a family's closed form only says which layers it has, and where.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Tensor(NamedTuple):
    """A stored tensor: qualified name, shape, safetensors' name of its type, whether it is a parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "F32"
    learned: bool = True

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Layer(NamedTuple):
    """The tensors of a layer and the exact plain MACs of one forward pass of one image."""

    tensors: tuple[Tensor, ...]
    macs: int = 0


def conv(name: str, inputs: int, outputs: int, kernel: int, pixels: int, groups: int = 1) -> Layer:
    """A convolution with bias that writes `pixels` positions: every weight meets each of them."""
    shape = (outputs, inputs // groups, kernel, kernel)
    return Layer((Tensor(f"{name}.weight", shape), Tensor(f"{name}.bias", (outputs,))), math.prod(shape) * pixels)


def attention(width: int, pixels: int) -> Layer:
    """The two products of self-attention over all pairs of positions; the number of heads does not matter."""
    return Layer((), 2 * pixels**2 * width)


def norm(name: str, kind: str, width: int) -> Layer:
    """A norm of `archs.layers.NORMS`; no MACs."""
    weight, bias = Tensor(f"{name}.weight", (width,)), Tensor(f"{name}.bias", (width,))
    if kind == "rmsnorm":
        return Layer((weight,))
    if kind != "batchnorm":
        return Layer((weight, bias))
    mean = Tensor(f"{name}.running_mean", (width,), learned=False)
    variance = Tensor(f"{name}.running_var", (width,), learned=False)
    return Layer((weight, bias, mean, variance, Tensor(f"{name}.num_batches_tracked", (), "I64", learned=False)))


def act(name: str, kind: str) -> Layer:
    """An activation of `archs.layers.ACTIVATIONS`; no MACs."""
    return Layer((Tensor(f"{name}.scale", (1,)), Tensor(f"{name}.shift", (1,))) if kind == "starrelu" else ())
