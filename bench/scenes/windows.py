"""Where the windows of a scene lie, and which pixels each answers for.

Along an axis, windows of one side overlap by at least `overlap` pixels. Neighbours share a strip of `blend` pixels in
the middle of their overlap, over which the weight of one falls linearly as that of the other rises; outside it one
window alone answers. What is nearer to a window's border than half of (overlap - blend) is not used, since a network
sees less of the scene there.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float32

from bench.errors import BenchError

STRIDE = 32
"""Origins are multiples of it: what the networks of the suite downsample by, so that every window meets the same grid
as the whole image would."""
LARGEST, MOST_OVERLAP = 512, 64  # pixels, where nothing is said
PIXELS_A_BATCH = 1 << 18  # what keeps the memory of a batch far below a GiB


@dataclass(frozen=True)
class Span:
    """One window along one axis, in pixels of the scene.

    Attributes:
        origin: where the window begins.
        low, high: it answers for [low, high).
        rise, fall: pixels at the beginning and end of [low, high) that it shares with its neighbours.
    """

    origin: int
    low: int
    high: int
    rise: int
    fall: int

    @property
    def inside(self) -> slice:
        """[low, high) as a part of the window."""
        return slice(self.low - self.origin, self.high - self.origin)

    @cached_property
    def weights(self) -> Float32[np.ndarray, " n"]:
        """Of the pixels in [low, high): 1 but where they are shared, where neighbours add up to 1."""
        weights = np.ones(self.high - self.low, np.float32)
        if self.rise:
            weights[: self.rise] = (np.arange(self.rise, dtype=np.float32) + 0.5) / self.rise
        if self.fall:
            weights[len(weights) - self.fall :] = 1 - (np.arange(self.fall, dtype=np.float32) + 0.5) / self.fall
        return weights


@dataclass(frozen=True)
class Grid:
    """All windows of a scene: `rows` x `columns`, each of `side` (height, width) pixels."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    side: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def tiling(
    height: int,
    width: int,
    tile_size: tuple[int, ...] | None,
    fixed: tuple[int, int] | None = None,
    window: int | None = None,
    overlap: int | None = None,
    blend: int | None = None,
    minimum: int = 1,
) -> Grid:
    """The windows of a scene for a network trained on tiles of `tile_size`, of that side where `window` is not given.

    `minimum`: side of the smallest image that the network takes.

    Raises:
        BenchError: sides that do not fit together.
    """
    own = max(tile_size or (LARGEST,)) // STRIDE * STRIDE
    window = window or min(max(own, 2 * STRIDE), LARGEST)
    side = min(fixed or (window, window))
    overlap = max(0, min(side // 4, MOST_OVERLAP, side - STRIDE)) if overlap is None else overlap
    return grid(height, width, window, overlap, overlap // 2 if blend is None else blend, fixed, minimum)


def largest_batch(side: tuple[int, int]) -> int:
    """Windows of (height, width) pixels that a call takes, where nothing is said."""
    return max(1, PIXELS_A_BATCH // (side[0] * side[1]))


def grid(
    height: int,
    width: int,
    window: int,
    overlap: int,
    blend: int,
    fixed: tuple[int, int] | None = None,
    minimum: int = 1,
) -> Grid:
    """The windows of a scene of `height` x `width` pixels.

    Args:
        height, width: of the scene.
        window: side of a window, a multiple of `STRIDE`; a scene that is smaller has a window of its own size.
        overlap: of neighbouring windows, at least.
        blend: pixels over which neighbours are blended, at most `overlap`.
        fixed: (height, width) of the only image that the network takes, in place of `window`.
        minimum: side of the smallest image that it takes.

    Raises:
        BenchError: sides that do not fit together.
    """
    if not 0 <= blend <= overlap:
        raise BenchError(f"the blend is {blend} px and the overlap {overlap} px: give 0 <= blend <= overlap")
    sides = fixed or (window, window)
    if fixed is None and (window < STRIDE or window % STRIDE):
        raise BenchError(f"the window is {window} px: give a multiple of {STRIDE}")
    if overlap > min(sides) // 2:
        raise BenchError(f"an overlap of {overlap} px is over half of the window ({min(sides)} px): give a smaller one")
    if fixed is None:
        least = _up(minimum)
        sides = max(min(window, _up(height)), least), max(min(window, _up(width)), least)
    for length, side in zip((height, width), sides, strict=True):
        if length > side and side - overlap < STRIDE:
            raise BenchError(
                f"windows of {side} px that overlap by {overlap} px lie closer than {STRIDE} px: give a smaller "
                "overlap, or a larger window"
            )
    rows, columns = (spans(length, side, overlap, blend) for length, side in zip((height, width), sides, strict=True))
    return Grid(rows, columns, sides)


def spans(length: int, side: int, overlap: int, blend: int) -> tuple[Span, ...]:
    """The windows along an axis of `length` pixels; the last one ends at most `STRIDE` - 1 px beyond it."""
    origins = _origins(length, side, overlap)
    blend = min([blend, *np.diff(origins).tolist()])  # or a pixel would lie in the blends of both neighbours
    middles = [(after + before + side) // 2 for before, after in pairwise(origins)]
    starts = [0, *(middle - blend // 2 for middle in middles)]
    ends = [*(middle - blend // 2 + blend for middle in middles), length]
    last = len(origins) - 1
    return tuple(
        Span(origin, low, high, blend if i else 0, blend if i < last else 0)
        for i, (origin, low, high) in enumerate(zip(origins, starts, ends, strict=True))
    )


def _origins(length: int, side: int, overlap: int) -> list[int]:
    """Evenly spread, as few as the overlap allows, each a multiple of the stride."""
    last = _up(max(0, length - side)) // STRIDE
    step = max(1, (side - overlap) // STRIDE)
    gaps = -(-last // step)
    return [last * i // gaps * STRIDE for i in range(gaps + 1)] if gaps else [0]


def _up(pixels: int) -> int:
    """The next multiple of the stride."""
    return -(-pixels // STRIDE) * STRIDE
