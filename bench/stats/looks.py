"""Adding trainings until verdicts are settled, without more errors than one look makes; and what settling would cost.

Up to four looks are planned, at half again as many seeds each (3, 5, 8, 12), and a verdict stands once it is reached.
Each look spends its part of the 5 %, in proportion to the seeds that it adds (K. K. G. Lan, D. L. DeMets, Discrete
sequential boundaries for clinical trials, Biometrika 70, 1983). The parts are simply added up: bounds that count on
the looks' correlation, as for a single comparison, made 5.3 % errors with 18 variants, since it is another comparison
that errs at each look.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from bench.stats.model import ALPHA, Layout

LOOKS = 4
BASE_TIMES = (1.0, 1.5, 2.0, 3.0, 4.0)  # as many seeds of the base as of the others: what is tried
MOST_EXTRA = 4
MOST_SEEDS = 100
POWER_QUANTILE = 0.84  # of the normal distribution at 80 %


def look_seeds(first: int, looks: int = LOOKS) -> tuple[int, ...]:
    """Seeds a variant at each look.

    Example:
        >>> look_seeds(3)
        (3, 5, 8, 12)
    """
    seeds = [first]
    while len(seeds) < looks:
        seeds.append(math.ceil(1.5 * seeds[-1]))
    return tuple(seeds)


def look_levels(seeds: Sequence[int], alpha: float = ALPHA) -> tuple[float, ...]:
    """The level of each look's intervals; they add up to alpha.

    Args:
        seeds: a variant at each look, as `look_seeds` plans them.
        alpha: of all looks together.

    Example:
        >>> [round(level, 4) for level in look_levels((3, 5, 8, 12))]
        [0.0125, 0.0083, 0.0125, 0.0167]
    """
    return tuple(float(alpha * share) for share in np.diff(np.array(seeds) / seeds[-1], prepend=0))


def grown(
    present: Bool[np.ndarray, "v s"], open_pairs: Sequence[tuple[int, int]], target: int, gamma: float
) -> Bool[np.ndarray, "v t"]:
    """Which trainings a study has after the next round: only what is open gets more, the base where it helps.

    Args:
        present: the trainings of now, seeds in the order in which they are trained.
        open_pairs: variant and base of every comparison that is undecided.
        target: seeds of every open variant.
        gamma: the seeds' variance relative to the rest's; the larger, the less unpaired trainings of the base help.
    """
    wide = np.zeros((len(present), max(present.shape[1], MOST_EXTRA * target)), dtype=bool)
    wide[:, : present.shape[1]] = present
    for row in {index for pair in open_pairs for index in pair}:
        wide[row, :target] = True
    for base in {base for _, base in open_pairs}:
        own = [pair for pair in open_pairs if pair[1] == base]
        choices = [_with_base(wide, base, math.ceil(times * target)) for times in BASE_TIMES]
        costs = [choice.sum() * mean_variance(choice, own, gamma) for choice in choices]
        wide = choices[int(np.argmin(costs))]
    return wide[:, : int(np.flatnonzero(wide.any(axis=0))[-1]) + 1]


def mean_variance(present: Bool[np.ndarray, "v s"], pairs: Sequence[tuple[int, int]], gamma: float) -> float:
    """Mean variance of comparisons, where the rest's variance is 1 and the seeds' gamma."""
    contrasts = np.zeros((len(pairs), len(present)))
    for row, (variant, base) in zip(contrasts, pairs, strict=True):
        row[variant], row[base] = 1, -1
    solved = np.linalg.solve(Layout(present).information(gamma), contrasts.T)
    return float(np.einsum("cv,vc->c", contrasts, solved).mean())


def seeds_to_settle(
    effect: float,
    variance: float,
    fixed: float,
    delta: float,
    *,
    seeds: int,
    critical: float,
    comparisons: int,
) -> int | None:
    """Seeds of both networks at which a true difference of that size gets its verdict with a power of 80 %.

    Args:
        effect: the difference, as it was seen.
        variance: of a single training's difference: the rest's of the variant and of the base.
        fixed: variance that no training takes away: that of the scenes, for other scenes.
        delta: differences up to which two networks count as equivalent.
        seeds: there are now.
        critical: standard errors that an interval reaches to either side now.
        comparisons: of the study.

    Returns:
        None where not even a hundred seeds would do: the difference is next to nothing, or is delta, or the test
        scenes are too few.
    """
    from scipy import special

    room = max(abs(effect), delta - abs(effect))
    known = -float(special.ndtri(ALPHA / (2 * comparisons)))  # the critical value with all variances known
    for more in range(seeds, MOST_SEEDS + 1):
        reach = known + max(0.0, critical - known) * seeds / more + POWER_QUANTILE
        if reach * math.sqrt(variance / more + fixed) <= room:
            return more
    return None


def _with_base(present: Bool[np.ndarray, "v s"], base: int, seeds: int) -> Bool[np.ndarray, "v s"]:
    more = present.copy()
    more[base, :seeds] = True
    return more
