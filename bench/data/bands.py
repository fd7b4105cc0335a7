"""The bands of a data set's images: their names, and the mean, deviation and range that training works with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RANGE_SHARES = (0.001, 0.999)
"""Quantiles that bound a band's range: a few saturated or broken pixels must not decide it."""
SAMPLE = 1 << 21
"""Pixels, evenly spread over the training tiles, from which a range is taken."""


@dataclass(frozen=True)
class Band:
    """One band. `low` and `high` bound its range in stored values; `mean` and `deviation` are those of the training
    tiles in shares of that range, of `(x - low) / (high - low)`, as ImageNet's are quoted.

    A network sees `((x - low) / (high - low) - mean) / deviation`; brightness and contrast work in `low` to `high`.
    `scale` times a stored value is the physical one (1e-4 for reflectance stored in ten thousandths), and `nodata`
    the stored value of pixels that were not observed: such pixels are filled and ignored when tiles are read.
    """

    name: str
    mean: float
    deviation: float
    low: float
    high: float
    scale: float = 1.0
    nodata: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


RGB = (
    Band("red", 0.485, 0.229, 0, 255),
    Band("green", 0.456, 0.224, 0, 255),
    Band("blue", 0.406, 0.225, 0, 255),
)
"""Three bands of 8 bits are normalised as ImageNet is, whatever the tiles, since pretrained weights expect that."""


def is_rgb(images: np.ndarray) -> bool:
    """Whether images (N, H, W, B) are three bands of 8 bits."""
    return images.shape[-1] == 3 and images.dtype == np.uint8


def measure_bands(images: np.ndarray, names: Sequence[str]) -> tuple[Band, ...]:
    """The bands of training images (N, H, W, B) of any dtype: uint8 ranges over 0 to 255, others over the quantiles
    `RANGE_SHARES`. Mean and deviation are of every pixel, summed in double precision, a tile at a time."""
    count, totals, squares = 0, np.zeros(len(names)), np.zeros(len(names))
    low, high = _ranges(images)
    for image in images:
        shares = (image.reshape(-1, len(names)).astype(np.float64) - low) / (high - low)
        count += len(shares)
        totals += shares.sum(0)
        squares += (shares**2).sum(0)
    mean = totals / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation < 1e-6] = 1.0  # a constant band says nothing, and must not be divided by nothing
    figures = zip(names, mean.tolist(), deviation.tolist(), low.tolist(), high.tolist(), strict=True)
    return tuple(Band(*band) for band in figures)


def _ranges(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each band, float64 (B,)."""
    bands = images.shape[-1]
    if images.dtype == np.uint8:
        return np.zeros(bands), np.full(bands, 255.0)
    step = max(1, images[..., 0].size // SAMPLE)
    sample = np.concatenate([image.reshape(-1, bands)[::step] for image in images])
    low, high = np.quantile(sample.astype(np.float64), RANGE_SHARES, axis=0)
    return low, np.where(high > low, high, low + 1)
