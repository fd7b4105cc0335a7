"""Accuracy from confusion matrices: integer counts of pixels, one matrix an image, pooled by adding them.

Rows are the truth, columns the prediction. Macro F1 and IoU come from the matrix pooled over all images (the
ARAS400k protocol); the mean of per-image scores is another number and is not offered. Ignored pixels are in no
matrix.

What 0/0 means here, in words: a class that neither truth nor prediction has is left out of every mean, its scores
are not a number. A class that only one of the two has scores 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from bench.errors import BenchError
from bench.stats.pooled import class_counts, class_f1, class_iou, macro_f1, macro_iou

Labels = UInt8[Tensor, "n h w"] | UInt8[np.ndarray, "n h w"]


@dataclass(frozen=True)
class Scores:
    """What one pooled confusion matrix says; shares in 0..1, arrays with one value a class.

    F1 = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), accuracy = correct pixels / all pixels. Means run over the
    classes that truth or prediction has; F1 and IoU of the others are not a number.
    """

    macro_f1: float
    macro_iou: float
    accuracy: float
    f1: Float[np.ndarray, " c"]
    iou: Float[np.ndarray, " c"]


def scores(matrix: Int64[np.ndarray, "c c"]) -> Scores:
    """The scores of one confusion matrix (rows truth, columns prediction).

    A matrix without any pixel has no score: means and accuracy are then not a number. Raises `BenchError` when the
    matrix is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise BenchError(f"A confusion matrix must be square (classes x classes); this one is {matrix.shape}.")
    counts = class_counts(matrix)
    accuracy = float(np.trace(matrix) / matrix.sum()) if matrix.any() else float("nan")
    return Scores(float(macro_f1(counts)), float(macro_iou(counts)), accuracy, class_f1(counts), class_iou(counts))


def confusion(
    pred: Labels, truth: Labels, num_classes: int, ignore_index: int | None = None
) -> Int64[np.ndarray, "n c c"]:
    """Count pixels by (truth, prediction), one matrix an image; ignored pixels are in none.

    Arrays or tensors of (N, H, W); tensors are counted where they lie. Raises `BenchError` for shapes that differ
    and for a value that is no class.
    """
    pred, truth = _as_tensor(pred), _as_tensor(truth)
    _check_shapes(pred, truth)
    valid = torch.ones_like(truth, dtype=torch.bool) if ignore_index is None else truth != ignore_index
    return _count(pred, truth, valid, num_classes)


def boundary_confusion(
    pred: Labels, truth: Labels, num_classes: int, ignore_index: int | None = None, share: float = 0.02
) -> Int64[np.ndarray, "n c c"]:
    """`confusion` over the pixels near a boundary of the truth only: `boundary_band`."""
    pred, truth = _as_tensor(pred), _as_tensor(truth)
    _check_shapes(pred, truth)
    return _count(pred, truth, boundary_band(truth, ignore_index, share), num_classes)


def boundary_band(
    truth: UInt8[Tensor, "n h w"], ignore_index: int | None = None, share: float = 0.02
) -> Bool[Tensor, "n h w"]:
    """Pixels with a pixel of another class within d = round(share * image diagonal), at least 1, of them.

    Width and distance (the larger of the row and the column difference) are those of Boundary IoU (Cheng et al.,
    2021). The band is drawn around the truth alone, so that every network is judged on the same pixels. An
    ignored pixel makes no boundary, since nobody knows what lies there, and nor does the edge of the tile; an
    ignored pixel is itself never in the band.
    """
    valid = torch.ones_like(truth, dtype=torch.bool) if ignore_index is None else truth != ignore_index
    height, width = truth.shape[1:]
    reach = max(1, round(share * float(np.hypot(height, width))))
    # Two classes are within reach exactly where the largest class index around differs from the smallest.
    largest = torch.where(valid, truth, 0)
    smallest = torch.where(valid, 255 - truth, 0)  # the smallest index is 255 less the largest of these
    around = _window_max(torch.stack([largest, smallest], dim=1), reach)
    return valid & (around[:, 0] != 255 - around[:, 1])


def _window_max(maps: UInt8[Tensor, "n c h w"], reach: int) -> UInt8[Tensor, "n c h w"]:
    """The maximum over a window of 2 reach + 1, one axis after the other."""
    maps = maps if maps.device.type == "cpu" else maps.half()  # GPUs pool no bytes; a half holds 0..255 exactly
    side = 2 * reach + 1
    rows = functional.max_pool2d(maps, (side, 1), stride=1, padding=(reach, 0))
    return functional.max_pool2d(rows, (1, side), stride=1, padding=(0, reach)).to(torch.uint8)


def _as_tensor(labels: Labels) -> UInt8[Tensor, "n h w"]:
    return labels if isinstance(labels, Tensor) else torch.tensor(labels)


def _check_shapes(pred: Tensor, truth: Tensor) -> None:
    if pred.ndim != 3 or pred.shape != truth.shape:
        raise BenchError(
            f"Prediction and truth must both be (images, height, width); "
            f"they are {tuple(pred.shape)} and {tuple(truth.shape)}."
        )


def _count(
    pred: UInt8[Tensor, "n h w"], truth: UInt8[Tensor, "n h w"], counted: Bool[Tensor, "n h w"], classes: int
) -> Int64[np.ndarray, "n c c"]:
    images = len(truth)
    _check_values(pred, truth, counted, classes)
    cell = truth.long() * classes + pred + _image_offset(images, classes, truth.device)
    spill = images * classes * classes  # one bin beyond the last for what is not counted
    cell = torch.where(counted, cell, spill).reshape(-1)
    bins = torch.bincount(cell, minlength=spill + 1)[:spill]
    return bins.view(images, classes, classes).cpu().numpy()


def _image_offset(images: int, classes: int, device: torch.device) -> Int64[Tensor, "n 1 1"]:
    return torch.arange(images, device=device).view(-1, 1, 1) * (classes * classes)


def _check_values(pred: Tensor, truth: Tensor, counted: Tensor, classes: int) -> None:
    for name, labels in (("prediction", pred), ("truth", truth)):
        largest = int(torch.where(counted, labels, 0).max()) if labels.numel() else 0
        if largest >= classes:
            raise BenchError(f"The {name} holds value {largest}, but the classes are 0 to {classes - 1}.")
