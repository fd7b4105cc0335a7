"""Scores of confusion matrices pooled over images, and what each scene adds to them.

A pooled F1 is no mean of per-image values, so its spread over scenes is found by leaving each out in turn. F1 and IoU
need only three counts a class: hits, truth, predicted.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int64

from bench.errors import BenchError

Counts = Float[np.ndarray, "... 3 c"]
"""Pixels by class: hit, in the truth, predicted."""
Metric = Callable[[Counts], Float[np.ndarray, "..."]]
Matrices = Int64[np.ndarray, "n c c"]
"""Of one run, one confusion matrix an image: rows truth, columns prediction."""


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
    return average(class_f1(counts))


def macro_iou(counts: Counts) -> Float[np.ndarray, "..."]:
    """Mean IoU over the classes that truth or prediction has: the rule of `bench.training.metrics.scores`."""
    return average(class_iou(counts))


def class_counts(matrices: Int64[np.ndarray, "... c c"]) -> Counts:
    """The three counts a class that F1 and IoU are made of."""
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.stack([hit, matrices.sum(-1), matrices.sum(-2)], axis=-2).astype(np.float64)


def pool_groups(run: Matrices, groups: Sequence[str]) -> Matrices:
    """The matrices added up by group, in order of first appearance.

    Tiles cut from one scene resemble each other: only whole scenes are independent.

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
    counts = counts[:, counts[0, :, 1].sum(axis=-1) > 0]  # a scene without a label tells nothing, nor is it one more
    whole = counts.sum(axis=1, keepdims=True)
    number = counts.shape[1]
    values = number * metric(whole) - (number - 1) * metric(whole - counts)
    return values.mean(axis=0)


def scene_interval(run: Matrices, scenes: Sequence[str], metric: Metric = macro_f1) -> tuple[float, float] | None:
    """95 % interval of one network's score over other scenes, by Student's t of the pseudo-values.

    None with a single scene.
    """
    from scipy import special

    values = scene_values([run], scenes, metric)
    if len(values) < 2:
        return None
    score = float(metric(class_counts(np.asarray(run)).sum(axis=0)))
    half = -special.stdtrit(len(values) - 1, 0.025) * values.std(ddof=1) / np.sqrt(len(values))
    return max(0.0, score - half), min(1.0, score + half)


def average(values: Float[np.ndarray, "... c"]) -> Float[np.ndarray, "..."]:
    """Mean of those that are numbers along the last axis; not a number where none is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(-1), known.sum(-1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
