"""Which tiles a step sees, every other chance in training, and where the tiles lie meanwhile.

All chances come from (seed, step) alone. Nothing here depends on the network, so variants trained with one seed see the
same tiles in the same order, augmented alike; and nothing is carried from step to step, so a resumed run goes on as if
never stopped. Tiles lie whole on the device if they fit, else they are read by batch."""

import hashlib
import random
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from bench.data.bands import RGB, Band
from bench.data.dataset import Split
from bench.training.augment import Stored, gathered


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


Batch = tuple[Stored, UInt8[Tensor, "n h w"]]


class HeldTiles:
    """A whole split on the device: a batch is one gather, and nothing crosses to the device while training."""

    def __init__(self, split: Split, device: torch.device, bands: tuple[Band, ...] = RGB) -> None:
        self.bands = bands
        self.images = torch.tensor(np.asarray(split.images), device=device)
        self.masks = torch.tensor(np.asarray(split.masks), device=device)
        self.size = (self.masks.shape[1], self.masks.shape[2])

    def __len__(self) -> int:
        return len(self.masks)

    def take(self, index: Int64[Tensor, " n"]) -> Batch:
        index = index.to(self.masks.device)
        return gathered(self.images, index), self.masks[index]


class HostTiles:
    """A split left where it is, in memory or in a mapped file: each batch copies its own tiles to the device."""

    def __init__(self, split: Split, device: torch.device, bands: tuple[Band, ...] = RGB) -> None:
        self.split, self.device, self.bands = split, device, bands
        self.size = (split.masks.shape[1], split.masks.shape[2])

    def __len__(self) -> int:
        return len(self.split.masks)

    def take(self, index: Int64[Tensor, " n"]) -> Batch:
        rows = index.numpy()
        return self._copy(self.split.images[rows]), self._copy(self.split.masks[rows])

    def _copy(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


Tiles = HeldTiles | HostTiles
"""Images as stored and masks as uint8, decoded once, given by index as tensors on the device; `size` is (height, width)
in pixels."""


def place_tiles(split: Split, device: torch.device, bands: tuple[Band, ...] = RGB) -> Tiles:
    """On a GPU the split moves there if it takes at most half of the free memory; else it stays where it is."""
    if device.type != "cuda":
        return HostTiles(split, device, bands)
    free, _ = torch.cuda.mem_get_info(device)
    fits = split.images.nbytes + split.masks.nbytes <= free // 2
    return HeldTiles(split, device, bands) if fits else HostTiles(split, device, bands)
