"""Scores of confusion matrices pooled over images, for many resamples of the images at once.

A pooled F1 is no mean of per-image values, so its spread over images has to be found by resampling: each draw
weights every image by how often it is drawn, adds the matrices up, and scores the sum. F1 and IoU need only three
counts a class (hits, truth, predicted), so a draw is one matrix product.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int64

from bench.errors import BenchError

Counts = Float[np.ndarray, "... 3 c"]
"""Pixels by class: hit, in the truth, predicted."""
Metric = Callable[[Counts], Float[np.ndarray, "..."]]
Matrices = Int64[np.ndarray, "n c c"]
"""Of one run, one confusion matrix an image: rows truth, columns prediction."""

CHUNK = 4_000_000  # weights held at once: 32 MB of float64


def class_f1(counts: Counts) -> Float[np.ndarray, "... c"]:
    """F1 of each class; not a number where neither truth nor prediction has it."""
    hit, truth, predicted = np.moveaxis(counts, -2, 0)
    return _ratio(2 * hit, truth + predicted)


def class_iou(counts: Counts) -> Float[np.ndarray, "... c"]:
    """IoU of each class; not a number where neither truth nor prediction has it."""
    hit, truth, predicted = np.moveaxis(counts, -2, 0)
    return _ratio(hit, truth + predicted - hit)


def macro_f1(counts: Counts) -> Float[np.ndarray, "..."]:
    """Mean F1 over the classes that truth or prediction has: the rule of `bench.training.metrics.scores`."""
    return _mean(class_f1(counts))


def macro_iou(counts: Counts) -> Float[np.ndarray, "..."]:
    """Mean IoU over the classes that truth or prediction has: the rule of `bench.training.metrics.scores`."""
    return _mean(class_iou(counts))


def class_counts(matrices: Int64[np.ndarray, "... c c"]) -> Counts:
    """The three counts a class that F1 and IoU are made of."""
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.stack([hit, matrices.sum(-1), matrices.sum(-2)], axis=-2).astype(np.float64)


def stack_runs(runs: Sequence[Matrices]) -> Float[np.ndarray, "s n 3 c"]:
    """The counts of several runs over the same images.

    Raises:
        BenchError: there is no run or but one image, the runs differ in images or classes, or a run's matrices hold
            no pixel.
    """
    if not runs:
        raise BenchError("there is no run to judge: give the confusion matrices of at least one seed")
    shapes = {tuple(run.shape) for run in runs}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 3 or shape[1] != shape[2]:
        raise BenchError(f"runs must be (images, classes, classes) over the same images: given {sorted(shapes)}")
    if shape[0] < 2:
        raise BenchError(f"an interval over images needs at least 2 of them: given {shape[0]}")
    if not all(run.any() for run in runs):
        raise BenchError("a run's confusion matrices hold no pixel: the test split has only ignored pixels")
    return np.stack([class_counts(np.asarray(run)) for run in runs])


def resampled(
    counts: Float[np.ndarray, "s n 3 c"], metric: Metric, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws s k"]:
    """The metric of each run on resampled images, all runs of a draw on the same ones.

    Args:
        counts: of every run and image.
        metric: from pooled counts (..., 3, c) to (..., k).
        draws: how many resamples of n images with replacement.
        rng: where the draws come from.
    """
    runs, images, kinds, classes = counts.shape
    by_image = np.moveaxis(counts, 1, 0).reshape(images, -1)  # (n, s * 3 * c)
    pooled = np.concatenate([weights @ by_image for weights in _weights(images, draws, rng)])
    return metric(pooled.reshape(draws, runs, kinds, classes))


def pool_groups(run: Matrices, groups: Sequence[str]) -> Matrices:
    """The matrices added up by group, in order of first appearance.

    Tiles cut from one image resemble each other: where that image's name is known, resampling images instead of
    tiles keeps the interval from being too narrow.

    Raises:
        BenchError: there are not as many groups as images.
    """
    if len(groups) != len(run):
        raise BenchError(f"every image has one group: given {len(groups)} groups of {len(run)} images")
    names = list(dict.fromkeys(groups))
    index = np.array([names.index(group) for group in groups])
    pooled = np.zeros((len(names), *run.shape[1:]), dtype=run.dtype)
    np.add.at(pooled, index, run)
    return pooled


def scene_values(runs: Sequence[Matrices], scenes: Sequence[str], metric: Metric = macro_f1) -> Float[np.ndarray, " j"]:
    """What each scene adds to the mean score of a network: the jackknife's pseudo-values.

    A pooled score is no mean over scenes; its pseudo-values J * score - (J - 1) * score without the scene behave as if
    it were, so that their spread tells how the score would vary over other scenes.

    Args:
        runs: of every seed one confusion matrix an image.
        scenes: of every image, the scene that it was cut from.
        metric: of the pooled counts.

    Source: J. W. Tukey, Bias and confidence in not quite large samples, Ann. Math. Statist. 29, 1958.
    """
    counts = np.stack([class_counts(pool_groups(np.asarray(run), scenes)) for run in runs])
    whole = counts.sum(axis=1, keepdims=True)
    number = counts.shape[1]
    values = number * metric(whole) - (number - 1) * metric(whole - counts)
    return values.mean(axis=0)


def _weights(images: int, draws: int, rng: np.random.Generator) -> Iterator[Float[np.ndarray, "d n"]]:
    """How often each image is in each draw, some draws at a time so that memory stays small."""
    at_once = max(1, CHUNK // images)
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        drawn = rng.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _mean(values: Float[np.ndarray, "... c"]) -> Float[np.ndarray, "..."]:
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(-1), known.sum(-1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
