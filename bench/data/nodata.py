"""Pixels that were not observed: which they are, and what stands in their place, in tiles and in scenes alike."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from bench.data.bands import Band, BandSpec


def counts_by_band(dtype: np.dtype) -> bool:
    """Whether a band's no-data value counts by itself; not in unsigned whole numbers, where 0 may be a dark pixel."""
    return dtype.kind != "u"


def unseen(image: Shaped[np.ndarray, "h w b"], bands: Sequence[Band | BandSpec]) -> Bool[np.ndarray, "h w b"] | None:
    """Which values were not observed; None for none.

    In float images a band's no-data value, and what is not finite, counts by itself; in others all bands that name a
    no-data value must hold it.
    """
    nodata = np.array([np.nan if band.nodata is None else band.nodata for band in bands])
    if counts_by_band(image.dtype):
        found = ~np.isfinite(image) | (image == _as_stored(nodata, image.dtype))
    elif np.isnan(nodata).all():
        return None
    else:
        empty = (image == nodata) | np.isnan(nodata)
        found = np.repeat(empty.all(2, keepdims=True), len(bands), 2)
    return found if found.any() else None


def filled(image: Shaped[np.ndarray, "h w b"], missing: Bool[np.ndarray, "h w b"]) -> Shaped[np.ndarray, "h w b"]:
    """A copy with the mean of each band's other pixels (0 without any) where `missing` says so."""
    found = image.copy()
    for band in np.flatnonzero(missing.any((0, 1))):
        gone = missing[..., band]
        seen = image[..., band][~gone]
        found[gone, band] = seen.mean(dtype=np.float64) if len(seen) else 0
    return found


def _as_stored(nodata: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """As the file holds the values: float32 has no -9999.9, only what is nearest to it."""
    with np.errstate(over="ignore"):
        return nodata.astype(dtype)
