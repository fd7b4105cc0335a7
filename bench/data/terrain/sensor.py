"""From colours on the ground to an 8-bit image: light, haze, optics, gain and noise."""

import numpy as np
from scipy import ndimage

from bench.data.terrain.noise import smooth
from bench.data.terrain.style import Style

HAZE = np.array([0.62, 0.66, 0.72], np.float32)


def expose(rng: np.random.Generator, style: Style, colours: np.ndarray) -> np.ndarray:
    """Colours float32 (3, S, S) to the image uint8 (S, S, 3)."""
    size = colours.shape[-1]
    light = np.float32(rng.uniform(0.85, 1.15)) + np.float32(0.06) * smooth(rng, size, 150)
    if rng.random() < 0.12:
        light *= 1 - np.float32(0.45) * (1.2 * smooth(rng, size, 60)).clip(0, 1)  # the shadow of clouds
    thick = np.float32(style.haze) * (1 + np.float32(0.3) * smooth(rng, size, 100))
    seen = colours * light * (1 - thick) + HAZE[:, None, None] * thick
    seen = ndimage.gaussian_filter(seen, (0, style.blur, style.blur), truncate=2.5)
    seen = seen * style.gain[:, None, None]
    seen += np.float32(style.noise) * rng.standard_normal(seen.shape, np.float32)
    return np.moveaxis((seen * 255 + np.float32(0.5)).clip(0, 255), 0, -1).astype(np.uint8)
