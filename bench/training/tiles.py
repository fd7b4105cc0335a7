"""Where the tiles of a split lie while a network is trained: whole on the device if they fit, else read by batch."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from bench.data.bands import RGB, Band
from bench.data.dataset import Split
from bench.training.augment import Stored

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
        return self.images[index], self.masks[index]


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
