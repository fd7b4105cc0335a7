"""The bands of a data set's images: their names, and the mean, deviation and range that training works with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

RANGE_SHARES = (0.001, 0.999)
"""Quantiles that bound a band's range: a few saturated or broken pixels must not decide it."""
SAMPLE = 1 << 21
"""Pixels, evenly spread over the training tiles, from which a range is taken."""


@dataclass(frozen=True)
class BandSpec:
    """What a class table says of a band: `scale` times a stored value is the physical one (1e-4 for reflectance in
    ten thousandths); `nodata` is the stored value of pixels that were not observed."""

    name: str
    scale: float = 1.0
    nodata: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Its row in a `classes.json`. Tiles hold no such pixel any more, but scenes that are mapped later may."""
        nodata = {} if self.nodata is None else {"nodata": self.nodata}
        return {"name": self.name, "scale": self.scale, **nodata}


@dataclass(frozen=True)
class Band:
    """One band. `low` and `high` bound its range in stored values; `mean` and `deviation` are those of the training
    tiles in shares of that range, of `(x - low) / (high - low)`, as ImageNet's are quoted.

    A network sees `((x - low) / (high - low) - mean) / deviation`; brightness and contrast work in `low` to `high`.
    `scale` and `nodata` are as in `BandSpec`.
    """

    name: str
    mean: float
    deviation: float
    low: float
    high: float
    scale: float = 1.0
    nodata: float | None = None

    @property
    def spec(self) -> BandSpec:
        """What it was declared as."""
        return BandSpec(self.name, self.scale, self.nodata)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


RGB = (
    Band("red", 0.485, 0.229, 0, 255),
    Band("green", 0.456, 0.224, 0, 255),
    Band("blue", 0.406, 0.225, 0, 255),
)
"""Three bands of 8 bits are normalised as ImageNet is, whatever the tiles, since pretrained weights expect that."""
RGB_NAMES = tuple(band.name for band in RGB)
RGB_SPECS = tuple(band.spec for band in RGB)


def scaled(pixels: Shaped[np.ndarray, "n c h w"], bands: Sequence[Band]) -> Float32[np.ndarray, "n c h w"]:
    """What a network takes of pixels in the numbers of the file."""
    figures = np.array([(b.low, b.high - b.low, b.mean, b.deviation) for b in bands]).T
    low, span, mean, deviation = (row.astype(np.float32).reshape(-1, 1, 1) for row in figures)
    found = pixels.astype(np.float32)
    found *= 1 / (span * deviation)
    found -= low / (span * deviation) + mean / deviation
    return found


def is_rgb(images: np.ndarray) -> bool:
    """Whether images (N, H, W, B) are three bands of 8 bits."""
    return images.shape[-1] == 3 and images.dtype == np.uint8


def takes_rgb(bands: Sequence[Band]) -> bool:
    """Whether the bands are those of 8-bit RGB, whatever they are called."""
    return [(b.mean, b.deviation, b.low, b.high) for b in bands] == [(b.mean, b.deviation, b.low, b.high) for b in RGB]


def rgb_bands(specs: Sequence[BandSpec]) -> tuple[Band, ...]:
    """Three bands of 8 bits, under the names that the class table gives them."""
    return tuple(replace(band, **asdict(spec)) for band, spec in zip(RGB, specs, strict=True))


def measure_bands(
    images: np.ndarray, masks: np.ndarray, num_classes: int, specs: Sequence[BandSpec]
) -> tuple[Band, ...]:
    """The bands of training images (N, H, W, B), of which the pixels count that `masks` (N, H, W) give a class.

    Three bands of uint8 are `RGB`, whatever their names. Others of uint8 range over 0 to 255, the rest over the
    quantiles `RANGE_SHARES`; sums are taken in double precision, a tile at a time.
    """
    if is_rgb(images):
        return rgb_bands(specs)
    low, high = _ranges(images, masks, num_classes)
    count, totals, squares = 0, np.zeros(len(specs)), np.zeros(len(specs))
    for image, mask in zip(images, masks, strict=True):
        shares = (image[mask < num_classes].astype(np.float64) - low) / (high - low)
        count += len(shares)
        totals += shares.sum(0)
        squares += (shares**2).sum(0)
    mean = totals / max(1, count)
    deviation = np.sqrt(np.maximum(squares / max(1, count) - mean**2, 0))
    deviation[deviation < 1e-6] = 1.0  # a constant band says nothing, and must not be divided by nothing
    figures = zip(mean.tolist(), deviation.tolist(), low.tolist(), high.tolist(), strict=True)
    return tuple(
        Band(spec.name, m, d, lo, hi, spec.scale, spec.nodata)
        for spec, (m, d, lo, hi) in zip(specs, figures, strict=True)
    )


def _ranges(images: np.ndarray, masks: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each band, float64 (B,)."""
    bands = images.shape[-1]
    step = max(1, images[..., 0].size // SAMPLE)
    if images.dtype == np.uint8:
        return np.zeros(bands), np.full(bands, 255.0)
    sample = np.concatenate([image[mask < num_classes][::step] for image, mask in zip(images, masks, strict=True)])
    if not len(sample):
        return np.zeros(bands), np.ones(bands)
    low, high = np.quantile(sample.astype(np.float64), RANGE_SHARES, axis=0)
    return low, np.where(high > low, high, low + 1)


def pictures(images: np.ndarray, bands: Sequence[Band]) -> UInt8[np.ndarray, "n h w 3"]:
    """Images (N, H, W, B) as people look at them: the bands red, green and blue (any case), else the first three,
    else the first as grey, each stretched over its range."""
    names = [band.name.lower() for band in bands]
    shown = [names.index(name) for name in RGB_NAMES] if set(RGB_NAMES) <= set(names) else [0, 1, 2]
    shown = shown if len(bands) > 2 else [0, 0, 0]
    low, high = (np.array([getattr(bands[i], end) for i in shown]) for end in ("low", "high"))
    return ((images[..., shown] - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)
