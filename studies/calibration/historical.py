"""The methods that the suite's own is held against: its former one, and paired t tests, both with Holm's correction.

The former method took each comparison by itself: the variance of the paired differences between seeds, S - 1 degrees
of freedom, and that of resampled test images as if they were independent, n - 1, put together as Behrens and Fisher
did (two independent Student's t). Of scores that are means over tiles, resampling has a closed form.
"""

import numpy as np
from jaxtyping import Float
from scipy import special

_NODES = np.linspace(-7, 7, 141)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()


def paired_t(scores: Float[np.ndarray, "v s"]) -> Float[np.ndarray, " c"]:
    """Two-sided p of each variant against the first."""
    differences = scores[1:] - scores[0]
    seeds = differences.shape[1]
    error = np.maximum(differences.std(axis=1, ddof=1), 1e-12) / np.sqrt(seeds)
    return 2 * special.stdtr(seeds - 1, -np.abs(differences.mean(axis=1)) / error)


def seeds_and_images(scores: Float[np.ndarray, "v s"], tiles: Float[np.ndarray, "v t"]) -> Float[np.ndarray, " c"]:
    """The former method's p of each variant against the first."""
    differences, images = scores[1:] - scores[0], tiles[1:] - tiles[0]
    seeds, number = differences.shape[1], images.shape[1]
    by_seed = (differences.var(axis=1, ddof=1) / seeds, np.full(len(images), seeds - 1.0))
    by_image = (images.var(axis=1, ddof=1) / number, np.full(len(images), number - 1.0))
    swap = by_seed[0] < by_image[0]
    small = [np.where(swap, a, b)[:, None] for a, b in zip(by_seed, by_image, strict=True)]
    large = [np.where(swap, b, a)[:, None] for a, b in zip(by_seed, by_image, strict=True)]
    offsets = np.sqrt(small[0]) * special.stdtrit(small[1], special.ndtr(_NODES))
    effects = np.abs(differences.mean(axis=1))[:, None]
    beyond = special.stdtr(large[1], (offsets - effects) / np.maximum(np.sqrt(large[0]), 1e-12))
    return np.minimum(1.0, 2 * beyond @ _WEIGHTS)


def holm(ps: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    """Holm's adjusted p values (Scand. J. Statist. 6, 1979)."""
    order = np.argsort(ps)
    stepped = np.maximum.accumulate(ps[order] * np.arange(len(ps), 0, -1))
    adjusted = np.empty_like(ps)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted
