"""Augmentation of a whole uint8 batch on the device, with a handful of tensor operations.

Crop, flips and turns only say from where each output pixel is read. They are composed into one index map, and one
gather moves image and mask together: a mask cannot come apart from its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from bench.errors import BenchError
from bench.training.recipe import Recipe

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of values in 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)


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


def move(
    images: UInt8[Tensor, "n h w 3"], masks: UInt8[Tensor, "n h w"], draws: Draws
) -> tuple[UInt8[Tensor, "n i j 3"], UInt8[Tensor, "n i j"]]:
    """Crop, flip and turn images and masks alike, by one index map."""
    count, height, width = masks.shape
    first = torch.arange(0, masks.numel(), height * width, device=masks.device).view(count, 1, 1)
    index = source_index(draws, width) + first
    return images.reshape(-1, images.shape[-1])[index], masks.reshape(-1)[index]


def relight(images: UInt8[Tensor, "n h w 3"], draws: Draws) -> Float[Tensor, "n h w 3"]:
    """Contrast, then brightness, kept within the range of a byte.

    x' = clip(contrast * x + brightness * 255, 0, 255), one contrast and one brightness a tile.
    """
    contrast, brightness = draws.contrast.view(-1, 1, 1, 1), draws.brightness.view(-1, 1, 1, 1)
    return (images.float() * contrast + brightness * 255).clamp_(0, 255)


def normalise(images: UInt8[Tensor, "n h w 3"] | Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Values in 0..255 to values in 0..1 less the ImageNet mean, over its deviation; channels-last memory."""
    scale, shift = _imagenet(images.device)
    return (images.float() * scale - shift).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (1 / (255 * std)).to(device), (mean / std).to(device)


def augment(
    images: UInt8[Tensor, "n h w 3"], masks: UInt8[Tensor, "n h w"], recipe: Recipe, rng: torch.Generator
) -> tuple[Float[Tensor, "n 3 i j"], UInt8[Tensor, "n i j"]]:
    """One training batch: image batch (channels-last memory) and masks, all chance drawn from `rng`."""
    draws = draw(recipe, len(images), images.shape[1], images.shape[2], rng, images.device)
    images, masks = move(images, masks, draws)
    return normalise(relight(images, draws)), masks
