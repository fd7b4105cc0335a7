"""The score of one network over its seeds, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.stats.pooled import Matrices, Metric, macro_f1, resampled, stack_runs
from bench.stats.spread import spread_of

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval, as shares in 0..1.

    Attributes:
        value: mean over the seeds of the score pooled over all images.
        low: lower end; with a single seed the interval speaks of the images alone.
        high: upper end.
        seeds: how many were trained.
        images: how many were tested on.
    """

    value: float
    low: float
    high: float
    seeds: int
    images: int


def f1_interval(runs: Sequence[Matrices], *, metric: Metric = macro_f1, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Macro F1 over seeds and test images; `bench.stats.spread` says how the two are put together.

    Args:
        runs: of every seed one confusion matrix an image, all over the same images.
        metric: `macro_f1` or `macro_iou`.
        draws: resamples of the images.
        seed: of the resampling, so that the same records give the same interval.

    Raises:
        BenchError: no run, a single image, or runs over different images.
    """
    counts = stack_runs(runs)
    values = metric(counts.sum(axis=1))
    images = counts.shape[1]
    spread = spread_of(values, resampled(counts, metric, draws, np.random.default_rng(seed)), images)
    half = spread.half_width if spread else float("nan")
    value = float(values.mean())
    return Interval(value, max(0.0, value - half), min(1.0, value + half), len(runs), images)
