"""Medians of repeated measurements, with intervals that assume no distribution."""

from dataclasses import dataclass
from functools import lru_cache
from statistics import median


@dataclass(frozen=True)
class Median:
    """A median and the interval that holds it with 95 % confidence (order statistics, no normal distribution)."""

    value: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width as a share of the median."""
        return (self.high - self.low) / 2 / self.value


def median_interval(values: list[float], confidence: float = 0.95) -> Median:
    """The median of a sample with the narrowest pair of order statistics around it that has the confidence.

    Distribution-free: the number of values under the true median is binomial(n, 1/2). With too few values for the
    confidence, the smallest and the largest.
    """
    ordered = sorted(values)
    depth = _depth(len(ordered), confidence)
    return Median(median(ordered), ordered[depth], ordered[-1 - depth])


@lru_cache(maxsize=1024)
def _depth(n: int, confidence: float) -> int:
    """How many values lie outside at either end: the most of which both tails together hold the rest."""
    from scipy import special

    tail = (1 - confidence) / 2
    depth = int(special.bdtrik(tail, n, 0.5)) + 1 if n > 1 else 0  # one more than the real-valued solution's floor
    while depth > 0 and special.bdtr(depth, n, 0.5) > tail:
        depth -= 1
    return min(depth, (n - 1) // 2)
