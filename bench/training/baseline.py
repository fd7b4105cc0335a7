"""What a network must beat: guessing the commonest class, and judging every pixel by its colour alone.

A data set on which colour alone does well says nothing about architectures, so studies print these figures beside
the trained ones.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from bench.data.bands import Band
from bench.data.dataset import DataSet, Split
from bench.training.metrics import confusion

BITS = 5
"""Bits kept of each of three bands: 32768 cells."""
_COARSE_BITS = 3
"""A cell that training never met is judged by the coarse cell around it, and that one by the commonest class."""
_BANDS = 3
"""Of more bands the first three count: cells of six would hold a pixel each."""


def majority_baseline(data: DataSet, fitted: str = "train", scored: str = "test") -> Int64[np.ndarray, "c c"]:
    """Confusion matrix (rows truth, columns prediction) on `scored` of guessing `fitted`'s commonest class."""
    commonest = int(data[fitted].values[:, : data.classes.num_classes].sum(0).argmax())
    truth = data[scored].masks
    return _confusion(data, np.full(truth.shape, commonest, np.uint8), truth)


def colour_baseline(data: DataSet, fitted: str = "train", scored: str = "test") -> Int64[np.ndarray, "c c"]:
    """Confusion matrix (rows truth, columns prediction) on `scored` of a colour table: each cell of the cube of the
    first three bands, 5 bits each over the band's range, is the class that it most often was in `fitted`. Of all
    classifiers that see one pixel's colour at this resolution none is more often right on `fitted`."""
    table = colour_table(data, data[fitted])
    scored_split = data[scored]
    guesses = np.stack([table[_cells(_bytes(image, data.bands), BITS)] for image in scored_split.images])
    return _confusion(data, guesses, scored_split.masks)


def colour_table(data: DataSet, split: Split) -> np.ndarray:
    """The commonest class of each colour cell, uint8 (32768,)."""
    classes = data.classes.num_classes
    counts = np.zeros((1 << 3 * BITS) * classes, np.int64)
    for image, mask in zip(split.images, split.masks, strict=True):
        keep = mask < classes
        codes = _cells(_bytes(image, data.bands), BITS)[keep].astype(np.int64) * classes + mask[keep]
        counts += np.bincount(codes, minlength=len(counts))
    fine = counts.reshape(-1, classes)
    coarse_of = _coarse_cells()
    coarse = np.zeros((1 << 3 * _COARSE_BITS, classes), np.int64)
    np.add.at(coarse, coarse_of, fine)
    total = fine.sum(0)
    filled = np.where(fine.any(1, keepdims=True), fine, coarse[coarse_of])
    return np.where(filled.any(1, keepdims=True), filled, total).argmax(1).astype(np.uint8)


def _bytes(image: np.ndarray, bands: Sequence[Band]) -> np.ndarray:
    """The first three bands of an image (H, W, B) as bytes over each band's range; missing ones are 0."""
    chosen = image[..., :_BANDS]
    if image.dtype != np.uint8:
        low, high = np.array([(band.low, band.high) for band in bands[:_BANDS]]).T
        chosen = ((chosen - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return np.pad(chosen, ((0, 0), (0, 0), (0, _BANDS - chosen.shape[-1])))


def _cells(image: np.ndarray, bits: int) -> np.ndarray:
    """Cell of each pixel of an image (H, W, 3) in the colour cube of `bits` a channel: int32 (H, W)."""
    kept = (image >> (8 - bits)).astype(np.int32)
    return kept[..., 0] << 2 * bits | kept[..., 1] << bits | kept[..., 2]


def _coarse_cells() -> np.ndarray:
    """The coarse cell of each fine cell, int32 (32768,)."""
    levels = np.arange(1 << BITS, dtype=np.uint8) << (8 - BITS)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1)
    return _cells(cube, _COARSE_BITS).ravel()


def _confusion(data: DataSet, guesses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    matrices = confusion(guesses, truth, data.classes.num_classes, data.classes.ignore_index)
    return matrices.sum(axis=0)
