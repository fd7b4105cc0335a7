"""Accuracy from confusion matrices: integer counts of pixels, one matrix an image, pooled by adding them.

Rows are the truth, columns the prediction. Macro F1 and IoU come from the matrix pooled over all images (the
ARAS400k protocol); the mean of per-image scores is another number and is not offered. Ignored pixels are in no
matrix.

What 0/0 means here, in words: a class that neither truth nor prediction has is left out of every mean, its scores
are not a number, and `Scores.absent` names it. A class that only one of the two has scores 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from bench.errors import BenchError

Labels = UInt8[Tensor, "n h w"] | UInt8[np.ndarray, "n h w"]


@dataclass(frozen=True)
class Scores:
    """What one pooled confusion matrix says; shares in 0..1, arrays with one value a class.

    F1 = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN),
    accuracy = correct pixels / all pixels. Means run over the classes that truth or prediction has.
    """

    macro_f1: float
    macro_iou: float
    accuracy: float
    f1: Float[np.ndarray, " c"]
    """not a number where the class is absent from truth and prediction; the same for `iou`"""
    iou: Float[np.ndarray, " c"]
    precision: Float[np.ndarray, " c"]
    """0 for a class of the truth that is never predicted"""
    recall: Float[np.ndarray, " c"]
    """0 for a predicted class that the truth does not have"""
    support: Int64[np.ndarray, " c"]
    """pixels of the truth"""
    absent: tuple[int, ...]
    """classes that neither truth nor prediction has: left out of the means"""


def scores(matrix: Int64[np.ndarray, "c c"]) -> Scores:
    """The scores of one confusion matrix (rows truth, columns prediction).

    A matrix without any pixel has no score: means and accuracy are then not a number. Raises `BenchError` when the
    matrix is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise BenchError(f"A confusion matrix must be square (classes x classes); this one is {matrix.shape}.")
    hit = np.diagonal(matrix).astype(np.int64)
    truth, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    either = truth + predicted - hit
    f1, iou = _ratio(2 * hit, truth + predicted, either), _ratio(hit, either, either)
    return Scores(
        macro_f1=_mean(f1),
        macro_iou=_mean(iou),
        accuracy=float(hit.sum() / matrix.sum()) if matrix.any() else float("nan"),
        f1=f1,
        iou=iou,
        precision=_ratio(hit, predicted, either),
        recall=_ratio(hit, truth, either),
        support=truth,
        absent=tuple(int(k) for k in np.flatnonzero(either == 0)),
    )


def _ratio(part: np.ndarray, whole: np.ndarray, either: np.ndarray) -> Float[np.ndarray, " c"]:
    """part / whole; 0 where the whole is 0 but the class is somewhere, not a number where it is nowhere."""
    share = part / np.maximum(whole, 1)
    return np.where(either > 0, share, np.nan)


def _mean(values: Float[np.ndarray, " c"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


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
