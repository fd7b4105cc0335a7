"""Medians of repeated measurements, with intervals that assume no distribution."""

from dataclasses import dataclass
from math import comb
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
    n = len(ordered)
    depth, tail = 0, 0.0
    while depth < (n - 1) // 2:
        tail += comb(n, depth) / 2**n
        if 2 * (tail + comb(n, depth + 1) / 2**n) > 1 - confidence:
            break
        depth += 1
    return Median(median(ordered), ordered[depth], ordered[n - 1 - depth])
