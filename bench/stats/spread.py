"""Two sources of chance: the seeds that were trained and the images that were tested on.

A bootstrap over three seeds is known to be too narrow: its variance is 2/3 of the true one, and it knows nothing of
Student's t (in `tests/test_stats.py` it finds a difference between equal networks more than 20 times in 100 where it
should 5 times). So the two sources are estimated apart, each as it can be:

    seeds    variance of the score (or paired difference) between seeds, divided by the seeds; S - 1 degrees of
             freedom. It holds the seeds' own spread and whatever images do to each seed by itself.
    images   what all seeds share of the spread over images: the covariance between different seeds of their scores
             on the same resampled images (a bootstrap of the images' confusion matrices); n - 1 degrees of freedom.
             The rest of that spread differs from seed to seed, so the first line has it already.

They are put together as Behrens and Fisher did for two variances with their own degrees of freedom: the mean errs by

    sqrt(seeds) * T(S - 1) + sqrt(images) * T(n - 1)        two independent Student's t

Its tails give p and its quantiles the interval. The usual short cut, one t with Welch's and Satterthwaite's degrees
of freedom, errs on the wrong side with three seeds, and most where Holm's correction looks: at p = 0.002 it finds up
to nine times too many differences. The form used here finds at most as many as it says, and fewer where both
sources weigh alike (two or three in 100 instead of five, with three seeds).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

ALPHA = 0.05  # 95 % intervals, and the p below which something counts as found
POWER = 0.80  # that `seeds_needed` asks for
MOST_SEEDS = 1000
_NODES = np.linspace(-7, 7, 141)  # normal quantiles at which a t is looked at: p is good to 0.0001


@dataclass(frozen=True)
class Spread:
    """Where the chance in a mean over seeds comes from.

    Attributes:
        seed_variance: of one seed's value; 0 stands for unknown with a single seed.
        image_variance: of the mean of infinitely many seeds, from the choice of images.
        seeds: how many were trained.
        images: how many were tested on.
    """

    seed_variance: float
    image_variance: float
    seeds: int
    images: int

    @property
    def error(self) -> float:
        """Standard error of the mean over seeds."""
        return math.sqrt(self.seed_variance / self.seeds + self.image_variance)

    def p_value(self, effect: float) -> float:
        """Two-sided p of a mean that far from 0, if it were 0 in truth."""
        from scipy import special

        if self.error == 0:
            return 0.0 if effect else 1.0
        freedom, scale, offsets, weights = self._mixture
        beyond = special.stdtr(freedom, -(abs(effect) - offsets) / scale)
        return float(min(1.0, 2 * weights @ beyond))

    @cached_property
    def half_width(self) -> float:
        """Half of the 95 % interval: where `p_value` is 0.05."""
        from scipy import optimize

        if self.error == 0:
            return 0.0
        near = self._near_half_width
        return float(optimize.brentq(lambda half: self.p_value(half) - ALPHA, near / 2, near * 2, rtol=1e-6))

    def power(self, effect: float) -> float:
        """About the chance that a true effect of that size gives a p below 0.05: near 80 % good to some 3 %."""
        from scipy import special

        if self.error == 0:
            return 1.0 if effect else 0.0
        missed = special.nctdtr(self._freedom, abs(effect) / self.error, self._near_half_width / self.error)
        return float(1 - missed) if np.isfinite(missed) else 1.0  # the series gives out only far beyond any doubt

    def seeds_needed(self, effect: float) -> int | None:
        """The fewest seeds, at least 2, that would settle a true effect of that size with a power of 80 %.

        None where not even 1000 would: the effect is next to nothing, or the test images are too few for it. The
        answer is as rough as the variance between the seeds there are: of three, it may be off by a factor of two
        and more.
        """
        if self._with(MOST_SEEDS).power(effect) < POWER:
            return None
        low, high = 1, MOST_SEEDS  # high is enough, low is not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._with(middle).power(effect) >= POWER else (middle, high)
        return high

    def _with(self, seeds: int) -> "Spread":
        return Spread(self.seed_variance, self.image_variance, seeds, self.images)

    @cached_property
    def _mixture(self) -> tuple[int, float, np.ndarray, np.ndarray]:
        """The larger source's degrees of freedom and scale, and values of the smaller one with their weights."""
        from scipy import special

        (small, small_freedom), (large, large_freedom) = sorted(self._sources)
        weights = np.exp(-(_NODES**2) / 2)
        smaller = special.stdtrit(small_freedom, special.ndtr(_NODES))
        return large_freedom, math.sqrt(large), math.sqrt(small) * smaller, weights / weights.sum()

    @property
    def _near_half_width(self) -> float:
        """`half_width` within a few percent, in no time: each source's own interval, added as squares."""
        from scipy import special

        return math.sqrt(sum(variance * special.stdtrit(f, ALPHA / 2) ** 2 for variance, f in self._sources))

    @property
    def _sources(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """Variance of the mean and degrees of freedom of both sources."""
        return (self.seed_variance / self.seeds, max(1, self.seeds - 1)), (self.image_variance, self.images - 1)

    @property
    def _freedom(self) -> float:
        """Welch's and Satterthwaite's degrees of freedom of the standard error."""
        return self.error**4 / sum(variance**2 / freedom for variance, freedom in self._sources)


def spread_of(values: Float[np.ndarray, " s"], draws: Float[np.ndarray, "b s"], images: int) -> Spread | None:
    """The spread of a mean over seeds, from each seed's value and what resampling the images does to it.

    With a single seed the seeds' variance is not known and counts as 0: what is left is the images' alone.

    Args:
        values: each seed's value on the images as they are.
        draws: each seed's value on resampled images, one row a resample, all seeds on the same images.
        images: how many there are.

    Returns:
        None for values that are not numbers, as the F1 of a class that is nowhere.
    """
    known = draws[np.isfinite(draws).all(axis=1)]  # a rare class is absent from some resamples
    if not np.isfinite(values).all() or len(known) < 2:
        return None
    seeds = len(values)
    covariance = np.atleast_2d(np.cov(known, rowvar=False)) * images / (images - 1)
    if seeds == 1:
        return Spread(0.0, float(covariance[0, 0]), seeds, images)
    shared = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    return Spread(float(values.var(ddof=1)), max(0.0, float(shared)), seeds, images)
