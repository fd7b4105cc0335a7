"""Which tiles a step sees, and every other chance in training, from (seed, step) alone.

Nothing here depends on the network, so variants trained with one seed see the same tiles in the same order,
augmented alike; and nothing is carried from step to step, so a resumed run goes on as if never stopped.
"""

import hashlib
import random
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


def derive_seed(seed: int, purpose: str, number: int = 0) -> int:
    """A seed of its own for each purpose and number (63 bits, by BLAKE2b: near seeds share nothing)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`; on the CPU, so that every device sees the same draws."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, number))


def seed_everything(seed: int) -> None:
    """Set the global generators of Python, numpy and torch (all devices): before a network is built."""
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)  # noqa: NPY002 - libraries draw from the global state
    torch.manual_seed(derive_seed(seed, "torch"))


def batch_indices(seed: int, step: int, batch: int, count: int) -> Int64[Tensor, " batch"]:
    """Indices of the tiles of step `step` (from 0): the next `batch` of an endless row of shuffled epochs.

    Every epoch holds each of the `count` tiles once; a batch may span two epochs, so none is ever short.
    """
    first = step * batch
    epochs = range(first // count, (first + batch - 1) // count + 1)
    row = torch.cat([_permutation(seed, epoch, count) for epoch in epochs])
    start = first - epochs[0] * count
    return row[start : start + batch]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> Int64[Tensor, " count"]:
    return torch.randperm(count, generator=generator(seed, "order", epoch))
