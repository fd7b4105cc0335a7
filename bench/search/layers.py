"""Layers as a ledger: which tensors each stores, its multiply-accumulates, what it writes; nothing is built.

The formulas of each layer stand here once; a family's closed form only says which layers it has, and where. Layers
add up to blocks, and a block's sums are kept: a search prices the same blocks over and over in other combinations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from bench.counting import file_size
from bench.counting.file_size import Run
from bench.counting.file_size import StoredTensor as Tensor


class Layer(NamedTuple):
    """A layer in one forward pass of one image.

    Attributes:
        tensors: what it stores.
        macs: exact plain MACs.
        written: elements written by its operators that are not views.
        folds: of its MACs, those that `archs.deploy` folds away.
    """

    tensors: tuple[Tensor, ...] = ()
    macs: int = 0
    written: int = 0
    folds: int = 0


class Block(NamedTuple):
    """The sums over some layers: trainable elements, MACs, elements written, MACs that fold away, stored tensors."""

    params: int
    macs: int
    written: int
    folds: int
    runs: tuple[Run, ...]


def block(layers: Iterable[Layer]) -> Block:
    """Add up layers."""
    layers = list(layers)
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    return Block(
        sum(tensor.elements for tensor in tensors if tensor.learned),
        sum(layer.macs for layer in layers),
        sum(layer.written for layer in layers),
        sum(layer.folds for layer in layers),
        file_size.runs_of(tensors),
    )


def file_bytes(blocks: Iterable[Block]) -> int:
    """Size in bytes of the safetensors file of blocks.

    Raises:
        ValueError: the names of two blocks interleave, so that they cannot be laid one behind the other.
    """
    return file_size.file_bytes(run for one in blocks for run in one.runs)


def conv(name: str, inputs: int, outputs: int, kernel: int, pixels: int, groups: int = 1) -> Layer:
    """A convolution with bias that writes `pixels` positions: every weight meets each of them."""
    shape = (outputs, inputs // groups, kernel, kernel)
    tensors = (Tensor(f"{name}.weight", shape), Tensor(f"{name}.bias", (outputs,)))
    return Layer(tensors, math.prod(shape) * pixels, outputs * pixels)


def attention(width: int, heads: int, pixels: int, mode: str) -> Layer:
    """The two products of self-attention over all pairs of positions; the number of heads changes no MACs.

    "explicit" writes the scaled queries, the weights before and after the softmax, and the result; "fused" the result
    alone. Several heads over several positions are copied once more to lie as a map.
    """
    maps, weights = (2, 2) if mode == "explicit" else (1, 0)
    copied = heads > 1 and pixels > 1
    return Layer((), 2 * pixels**2 * width, (maps + copied) * width * pixels + weights * heads * pixels**2)


def norm(name: str, kind: str, width: int, pixels: int) -> Layer:
    """A norm of `archs.layers.NORMS`; no MACs."""
    weight, bias = Tensor(f"{name}.weight", (width,)), Tensor(f"{name}.bias", (width,))
    if kind == "rmsnorm":  # square, mean, plus epsilon, inverse root, and two products
        return Layer((weight,), written=3 * (width + 1) * pixels)
    if kind == "layernorm":  # with mean and deviation of each position
        return Layer((weight, bias), written=(width + 2) * pixels)
    if kind == "groupnorm":  # with mean and deviation of each group; see `archs.layers`
        return Layer((weight, bias), written=width * pixels + 2 * (width // math.gcd(width, 16)))
    mean = Tensor(f"{name}.running_mean", (width,), learned=False)
    variance = Tensor(f"{name}.running_var", (width,), learned=False)
    steps = Tensor(f"{name}.num_batches_tracked", (), "I64", learned=False)
    return Layer((weight, bias, mean, variance, steps), written=width * pixels)


def act(name: str, kind: str, width: int, pixels: int) -> Layer:
    """An activation of `archs.layers.ACTIVATIONS`; no MACs."""
    if kind != "starrelu":
        return Layer(written=width * pixels)
    return Layer((Tensor(f"{name}.scale", (1,)), Tensor(f"{name}.shift", (1,))), written=4 * width * pixels)


def passing(elements: int, times: int = 1) -> Layer:
    """A step without weights or MACs that writes so many elements, so many times: a sum, a resize, a concatenation."""
    return Layer(written=elements * times)
