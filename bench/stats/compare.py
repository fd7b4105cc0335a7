"""Differences between two networks, paired over seeds and test images, and what a study may say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bench.errors import BenchError
from bench.stats.interval import DRAWS
from bench.stats.pooled import Matrices, Metric, class_f1, macro_f1, resampled, stack_runs
from bench.stats.spread import ALPHA, Spread, spread_of

Verdict = Literal["better", "worse", "no evidence"]


@dataclass(frozen=True)
class Comparison:
    """How much higher b scores than a, as shares in 0..1 (0.01 is one point of F1).

    Attributes:
        effect: mean over the seeds of score(b) - score(a), each pooled over all images.
        low: lower end of the 95 % interval; not a number with a single seed, which tells nothing of other seeds.
        high: upper end.
        p: two-sided, before any correction; 1 with a single seed.
        seeds: pairs of trainings.
        images: test images.
        seeds_needed: pairs that would settle a true effect of this size with a power of 80 % at p < 0.05; None
            where no number would (next to no effect, or too few test images) or where one seed cannot tell.
        seed_deviation: standard deviation of the difference from seed to seed.
        image_deviation: standard error that the choice of test images leaves, however many seeds are trained.
    """

    effect: float
    low: float
    high: float
    p: float
    seeds: int
    images: int
    seeds_needed: int | None
    seed_deviation: float
    image_deviation: float


def compare(
    a: Sequence[Matrices],
    b: Sequence[Matrices],
    *,
    metric: Metric = macro_f1,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Macro F1 of b minus that of a, with interval and p; `bench.stats.spread` says how they come about.

    Args:
        a: of every seed one confusion matrix an image; the base.
        b: the same seeds in the same order, over the same images.
        metric: `macro_f1` or `macro_iou`.
        draws: resamples of the images.
        seed: of the resampling, so that the same records give the same answer.

    Raises:
        BenchError: the two have not the same number of seeds, or not the same images and classes.
    """
    values, resamples, images = _differences(a, b, metric, draws, seed)
    return _comparison(values, resamples, images)


def class_differences(
    a: Sequence[Matrices], b: Sequence[Matrices], *, draws: int = DRAWS, seed: int = 0
) -> list[Comparison]:
    """`compare` for the F1 of each class; all not a number for a class that a or b cannot be scored on."""
    values, resamples, images = _differences(a, b, class_f1, draws, seed)
    return [_comparison(values[:, k], resamples[:, :, k], images) for k in range(values.shape[1])]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: a study's chance of any false finding stays below 5 %.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979.

    Raises:
        BenchError: a p is not in 0..1.

    Example:
        >>> [round(p, 3) for p in holm([0.04, 0.01, 0.03])]
        [0.06, 0.03, 0.06]
    """
    if not all(0 <= p <= 1 for p in ps):
        raise BenchError(f"p values lie in 0..1: given {list(ps)}")
    adjusted, floor = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        floor = max(floor, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = floor
    return adjusted


def verdict(comparison: Comparison, adjusted_p: float) -> Verdict:
    """Whether b is better or worse than a, by the p that `holm` gave, or whether there is no evidence of either."""
    if not adjusted_p < ALPHA or comparison.effect == 0:
        return "no evidence"
    return "better" if comparison.effect > 0 else "worse"


def _differences(
    a: Sequence[Matrices], b: Sequence[Matrices], metric: Metric, draws: int, seed: int
) -> tuple[Float[np.ndarray, "s ..."], Float[np.ndarray, "draws s ..."], int]:
    """Differences of every pair of seeds, on the images as they are and on resamples that a and b share."""
    if len(a) != len(b):
        raise BenchError(
            f"a comparison is paired by seed: given {len(a)} and {len(b)} runs; compare the seeds both have"
        )
    counts = stack_runs([*a, *b])
    plain = metric(counts.sum(axis=1))
    drawn = resampled(counts, metric, draws, np.random.default_rng(seed))
    pairs = len(a)
    return plain[pairs:] - plain[:pairs], drawn[:, pairs:] - drawn[:, :pairs], counts.shape[1]


def _comparison(values: Float[np.ndarray, " s"], draws: Float[np.ndarray, "b s"], images: int) -> Comparison:
    effect, spread = float(values.mean()), spread_of(values, draws, images)
    if spread is None or spread.seeds == 1:
        return _undecided(effect, spread, len(values), images)
    half = spread.half_width
    return Comparison(
        effect=effect,
        low=effect - half,
        high=effect + half,
        p=spread.p_value(effect),
        seeds=spread.seeds,
        images=images,
        seeds_needed=spread.seeds_needed(effect),
        seed_deviation=float(np.sqrt(spread.seed_variance)),
        image_deviation=float(np.sqrt(spread.image_variance)),
    )


def _undecided(effect: float, spread: Spread | None, seeds: int, images: int) -> Comparison:
    """With one seed, or a class that cannot be scored, there is an effect at most, and no evidence."""
    nan = float("nan")
    deviation = float(np.sqrt(spread.image_variance)) if spread else nan
    return Comparison(effect, nan, nan, 1.0, seeds, images, None, nan, deviation)
