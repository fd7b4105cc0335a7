"""Layers as a ledger: which tensors each stores, its multiply-accumulates, what it writes; nothing is built.

The formulas of each layer stand here once; a family's closed form only says which layers it has, and where. Layers
add up to blocks, and a block's sums are kept: a search prices the same blocks over and over in other combinations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np

BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "F64": 8, "I64": 8}
"""Bytes an element by safetensors' name of the type, in the order in which safetensors ranks the types."""
_RANKS = {name: -i for i, name in enumerate(BYTES)}
_POWERS = 10 ** np.arange(1, 19)


class Tensor(NamedTuple):
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


class Run(NamedTuple):
    """Tensors of one rank that lie in a file one behind the other: bytes of each, letters of their header entries
    beside their places in the file."""

    rank: int
    first: str
    last: str
    sizes: np.ndarray
    letters: int


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
    tensors = sorted((tensor for layer in layers for tensor in layer.tensors), key=lambda tensor: tensor.place)
    return Block(
        sum(tensor.elements for tensor in tensors if tensor.learned),
        sum(layer.macs for layer in layers),
        sum(layer.written for layer in layers),
        sum(layer.folds for layer in layers),
        tuple(_run(rank, list(own)) for rank, own in groupby(tensors, key=lambda tensor: tensor.place[0])),
    )


def _run(rank: int, tensors: Sequence[Tensor]) -> Run:
    sizes = np.array([tensor.elements * BYTES[tensor.dtype] for tensor in tensors], dtype=np.int64)
    return Run(rank, tensors[0].name, tensors[-1].name, sizes, sum(_letters(tensor) for tensor in tensors))


def file_bytes(blocks: Iterable[Block]) -> int:
    """Size in bytes of the safetensors file of blocks, worked out from names, shapes and types alone.

    Eight bytes, a JSON header padded to a multiple of eight, the tensors. The header spells each tensor's place, so
    the order counts: wide types first, then by name. The format: https://github.com/huggingface/safetensors.

    Raises:
        ValueError: the names of two blocks interleave, so that they cannot be laid one behind the other.
    """
    runs = sorted([run for one in blocks for run in one.runs], key=itemgetter(0, 1))
    if not runs:
        return 8 + 8  # an empty header, padded
    for run, after in pairwise(runs):
        if run.rank == after.rank and run.last >= after.first:
            raise ValueError(f"blocks overlap at {after.first}: a closed form must not split a module between blocks")
    ends = np.concatenate([run.sizes for run in runs]).cumsum()
    # Each end is the next tensor's start, and the first starts at 0, which is one letter.
    digits = np.searchsorted(_POWERS, ends, side="right") + 1
    places = 1 + 2 * int(digits.sum()) - int(digits[-1])
    text = 2 + sum([run.letters for run in runs]) + len(ends) - 1 + places
    return 8 + text + (-text) % 8 + int(ends[-1])


def _letters(tensor: Tensor) -> int:
    entry = {tensor.name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (0, 0)}}
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    return len(text) - len("{}") - len("00")


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
