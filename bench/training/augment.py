"""Augmentation of a whole batch of stored pixels on the device, with a handful of tensor operations.

Crop, flips and turns only say from where each output pixel is read. They are composed into one index map, and one
gather moves image and mask together: a mask cannot come apart from its image.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64, UInt8, UInt16
from torch import Tensor

from bench.data.bands import RGB, Band
from bench.errors import BenchError
from bench.training.recipe import Recipe

Stored = UInt8[Tensor, "n h w b"] | UInt16[Tensor, "n h w b"] | Float[Tensor, "n h w b"]


@dataclass(frozen=True)
class Draws:
    """What chance decided for each tile of a batch."""

    top: Int64[Tensor, " n"]
    left: Int64[Tensor, " n"]
    flip_rows: Bool[Tensor, " n"]
    flip_columns: Bool[Tensor, " n"]
    turned: Bool[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    brightness: Float[Tensor, " n"]
    height: int
    width: int


def draw(
    recipe: Recipe, count: int, height: int, width: int, rng: torch.Generator, device: torch.device | str = "cpu"
) -> Draws:
    """Draw crop, flips, turn, contrast and brightness of `count` tiles of `height` x `width` pixels.

    A turn by k quarters, k uniform in 0..3, happens with probability `quarter_turn`; where the output is not
    square only half turns can be, so k is 0 or 2. The number of draws does not depend on the recipe's strengths:
    recipes that differ in one strength differ in nothing else. The numbers come from `rng` on the CPU and cross to
    the device once, so that every device draws the same. Raises `BenchError` when the crop does not fit.
    """
    tall, wide = _output_size(recipe, height, width)
    chance = torch.rand((9, count), generator=rng).to(device)
    quarters = (chance[0] * 4).long() * (chance[1] < recipe.quarter_turn)
    if tall != wide:
        quarters = quarters // 2 * 2
    half = quarters >= 2  # a half turn is both flips; an odd quarter is a transposition and one flip
    touched = chance[6] < recipe.brightness_contrast
    return Draws(
        top=(chance[2] * (height - tall + 1)).long(),
        left=(chance[3] * (width - wide + 1)).long(),
        flip_rows=(chance[4] < recipe.flip_vertical) ^ half ^ (quarters % 2 == 1),
        flip_columns=(chance[5] < recipe.flip_horizontal) ^ half,
        turned=quarters % 2 == 1,
        contrast=1 + touched * recipe.contrast_limit * (2 * chance[8] - 1),
        brightness=touched * recipe.brightness_limit * (2 * chance[7] - 1),
        height=tall,
        width=wide,
    )


def _output_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    if recipe.crop is None:
        return height, width
    if recipe.crop > min(height, width):
        raise BenchError(
            f"Recipe field crop is {recipe.crop} px, which does not fit tiles of {height} x {width} px; "
            f"choose at most {min(height, width)}, or None for whole tiles."
        )
    return recipe.crop, recipe.crop


def source_index(draws: Draws, columns: int) -> Int64[Tensor, "n h w"]:
    """For each output pixel the place it is read from, as row * columns + column of its own tile."""
    row = _axis(draws.height, draws.flip_rows) + draws.top[:, None]  # (N, h)
    column = _axis(draws.width, draws.flip_columns) + draws.left[:, None]  # (N, w)
    straight = row[:, :, None] * columns + column[:, None, :]
    if draws.height != draws.width:  # `draw` turns none of these
        return straight
    return torch.where(draws.turned[:, None, None], straight.transpose(1, 2), straight)


def _axis(length: int, flipped: Bool[Tensor, " n"]) -> Int64[Tensor, "n length"]:
    forward = torch.arange(length, device=flipped.device)
    return torch.where(flipped[:, None], forward.flip(0), forward)


def move(images: Stored, masks: UInt8[Tensor, "n h w"], draws: Draws) -> tuple[Stored, UInt8[Tensor, "n i j"]]:
    """Crop, flip and turn images and masks alike, by one index map."""
    count, height, width = masks.shape
    first = torch.arange(0, masks.numel(), height * width, device=masks.device).view(count, 1, 1)
    index = source_index(draws, width) + first
    return gathered(images.reshape(-1, images.shape[-1]), index), masks.reshape(-1)[index]


def gathered(images: Tensor, index: Tensor) -> Tensor:
    """`images[index]`, on every device: CUDA gathers no uint16, so that those bits are moved as int16."""
    return images.view(torch.int16)[index].view(torch.uint16) if images.dtype == torch.uint16 else images[index]


def relight(images: Stored, draws: Draws, bands: tuple[Band, ...] = RGB) -> Float[Tensor, "n h w b"]:
    """Contrast, then brightness, of each band within its own range; the result in stored values less the band's low.

    With u = x - low: u' = clip(contrast * u + brightness * (high - low), 0, high - low), one contrast and one
    brightness a tile. The ranges of bands of more than 8 bits leave out their rarest values: there the clip lets a
    value go as far as the batch's own.
    """
    contrast, brightness = draws.contrast.view(-1, 1, 1, 1), draws.brightness.view(-1, 1, 1, 1)
    span = _figures(bands, images.device).span
    above = _above_low(images, bands)
    lowest, highest = torch.zeros_like(span), span
    if images.dtype != torch.uint8:
        lowest, highest = above.amin((0, 1, 2)).clamp_max(0), torch.maximum(span, above.amax((0, 1, 2)))
    return (above * contrast + brightness * span).clamp_(lowest, highest)


def normalise(images: Stored, bands: tuple[Band, ...] = RGB) -> Float[Tensor, "n b h w"]:
    """What a network sees of stored pixels: `((x - low) / (high - low) - mean) / deviation`, channels-last memory."""
    return _normalise_above(_above_low(images, bands), bands)


def _above_low(images: Stored, bands: tuple[Band, ...]) -> Float[Tensor, "n h w b"]:
    values = images.float()
    return values - _figures(bands, images.device).low if any(band.low for band in bands) else values


def _normalise_above(above: Float[Tensor, "n h w b"], bands: tuple[Band, ...]) -> Float[Tensor, "n b h w"]:
    figures = _figures(bands, above.device)
    return (above * figures.scale - figures.shift).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Figures:
    """Of each band, float32 (B,): see `normalise`; `scale` and `shift` make it one product and one difference."""

    low: Tensor
    span: Tensor
    scale: Tensor
    shift: Tensor


@lru_cache(maxsize=8)
def _figures(bands: tuple[Band, ...], device: torch.device) -> _Figures:
    rows = [(band.low, band.high - band.low, band.mean, band.deviation) for band in bands]
    low, span, mean, deviation = torch.tensor(rows).T
    return _Figures(*(value.contiguous().to(device) for value in (low, span, 1 / (span * deviation), mean / deviation)))


def augment(
    images: Stored,
    masks: UInt8[Tensor, "n h w"],
    recipe: Recipe,
    rng: torch.Generator,
    bands: tuple[Band, ...] = RGB,
) -> tuple[Float[Tensor, "n b i j"], UInt8[Tensor, "n i j"]]:
    """One training batch: image batch (channels-last memory) and masks, all chance drawn from `rng`."""
    draws = draw(recipe, len(images), images.shape[1], images.shape[2], rng, images.device)
    images, masks = move(images, masks, draws)
    return _normalise_above(relight(images, draws, bands), bands), masks
