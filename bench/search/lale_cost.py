"""LALE's layers in closed form: what `archs.lale` builds, block by block. A test holds it against the counter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from archs.lale import LALEConfig
from bench.search.layers import Block, Layer, act, attention, block, conv, norm, passing

_KEPT = lru_cache(maxsize=2**16)  # blocks; a whole space has some thousands


class Style(NamedTuple):
    """The fields that all stages of one kind share; those without effect on it are left at 0 and "".

    They are what a block's sums are kept by, so that a change of the attention leaves the ConvMixers' known.
    """

    norm: str
    act: str
    kernel: int
    expansion: int
    mlp: bool = False
    head: int = 0
    attention: str = ""


def lale_blocks(c: LALEConfig, size: tuple[int, int], num_classes: int, in_channels: int) -> list[Block]:
    """Every block of a LALE network for one image of `size`; sides are rounded up at each halving."""
    sides = [_side(size, stride) for stride in (4, 8, 16, 32)]
    pixels = [height * width for height, width in sides]
    mixer = Style(c.norm, c.act, c.mixer_kernel, c.mixer_expansion, mlp=c.mixer_mlp)
    transformer = Style(c.norm, c.act, c.mlp_kernel, c.mlp_expansion, head=c.head_width, attention=c.attention)
    found = [
        _stem(c.stem, c.stem_width if c.stem == "conv3x3" else 0, c.widths[0], c.norm, c.act, size, in_channels),
        _head(len(c.widths), c.decoder_width, c.fusion, c.decoder_norm, c.decoder_act, size, num_classes),
    ]
    for stage, (width, depth) in enumerate(zip(c.widths, c.depths, strict=True)):
        if stage:
            found.append(_down(stage, c.widths[stage - 1], width, c.norm, pixels[stage]))
        style = mixer if stage < c.conv_stages else transformer
        found.append(_stage(stage, width, depth, style, pixels[stage]))
        found.append(_projection(stage, width, c.decoder_width, sides[stage], sides[0]))
    return found


def _side(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def _pixels(size: tuple[int, int], stride: int) -> int:
    height, width = _side(size, stride)
    return height * width


@_KEPT
def _stem(
    kind: str, stem_width: int, width: int, norms: str, acts: str, size: tuple[int, int], in_channels: int
) -> Block:
    return block(_stem_layers(kind, stem_width, width, norms, acts, size, in_channels))


def _stem_layers(
    kind: str, stem_width: int, width: int, norms: str, acts: str, size: tuple[int, int], in_channels: int
) -> Iterator[Layer]:
    """One convolution, or two; the patchify stem has a layer in front that pads what does not divide by 4."""
    half, quarter = _pixels(size, 2), _pixels(size, 4)
    if kind == "conv3x3":
        steps = [(0, in_channels, stem_width, 3, half), (3, stem_width, width, 3, quarter)]
    else:
        first, kernel = {"conv7x7": (0, 7), "patchify": (1, 4)}[kind]
        steps = [(first, in_channels, width, kernel, quarter)]
    if kind == "patchify" and (size[0] % 4 or size[1] % 4):
        yield passing(in_channels * 16 * quarter)
    for at, inputs, outputs, kernel, pixels in steps:
        yield conv(f"encoder.stem.{at}", inputs, outputs, kernel, pixels)
        yield norm(f"encoder.stem.{at + 1}", norms, outputs, pixels)
        yield act(f"encoder.stem.{at + 2}", acts, outputs, pixels)


@_KEPT
def _down(stage: int, inputs: int, width: int, norms: str, pixels: int) -> Block:
    name = f"encoder.downs.{stage - 1}"
    return block([conv(f"{name}.0", inputs, width, 3, pixels), norm(f"{name}.1", norms, width, pixels)])


@_KEPT
def _stage(stage: int, width: int, depth: int, style: Style, pixels: int) -> Block:
    kinds = [_transformer] if style.attention else [_mixer, _mlp] if style.mlp else [_mixer]
    names = [f"encoder.stages.{stage}.{i}" for i in range(depth * len(kinds))]
    parts = zip(names, kinds * depth, strict=True)
    return block(layer for name, kind in parts for layer in kind(style, name, width, pixels))


def _mixer(style: Style, name: str, width: int, pixels: int) -> Iterator[Layer]:
    hidden = style.expansion * width
    yield conv(f"{name}.dw", width, width, style.kernel, pixels, groups=width)
    yield norm(f"{name}.norm1", style.norm, width, pixels)
    yield conv(f"{name}.pw1", width, hidden, 1, pixels)
    yield act(f"{name}.act", style.act, hidden, pixels)
    yield conv(f"{name}.pw2", hidden, width, 1, pixels)
    yield norm(f"{name}.norm2", style.norm, width, pixels)
    yield passing(width * pixels)  # the residual sum


def _mlp(style: Style, name: str, width: int, pixels: int) -> Iterator[Layer]:
    hidden = style.expansion * width
    yield norm(f"{name}.norm", style.norm, width, pixels)
    yield conv(f"{name}.pw1", width, hidden, 1, pixels)
    yield act(f"{name}.act", style.act, hidden, pixels)
    yield conv(f"{name}.pw2", hidden, width, 1, pixels)
    yield passing(width * pixels)


def _transformer(style: Style, name: str, width: int, pixels: int) -> Iterator[Layer]:
    hidden = style.expansion * width
    yield norm(f"{name}.norm1", style.norm, width, pixels)
    yield conv(f"{name}.attention.qkv", width, 3 * width, 1, pixels)
    yield attention(width, width // style.head, pixels, style.attention)
    yield conv(f"{name}.attention.project", width, width, 1, pixels)
    yield norm(f"{name}.norm2", style.norm, width, pixels)
    yield conv(f"{name}.mlp.pw1", width, hidden, 1, pixels)
    yield conv(f"{name}.mlp.dw", hidden, hidden, style.kernel, pixels, groups=hidden)
    yield act(f"{name}.mlp.act", style.act, hidden, pixels)
    yield conv(f"{name}.mlp.pw2", hidden, width, 1, pixels)
    yield passing(width * pixels, times=2)  # two residual sums


@_KEPT
def _projection(stage: int, inputs: int, width: int, side: tuple[int, int], finest: tuple[int, int]) -> Block:
    """A stage is projected at its own resolution and resized to the finest."""
    (height, across), (most, widest) = side, finest
    resized = [] if side == finest else [passing(width * most * widest)]
    return block([conv(f"decoder.project.{stage}", inputs, width, 1, height * across), *resized])


@_KEPT
def _head(
    stages: int, width: int, fusion: str, norms: str, acts: str, size: tuple[int, int], num_classes: int
) -> Block:
    return block(_head_layers(stages, width, fusion, norms, acts, size, num_classes))


def _head_layers(
    stages: int, width: int, fusion: str, norms: str, acts: str, size: tuple[int, int], num_classes: int
) -> Iterator[Layer]:
    """Fusion and classes at the finest resolution, the logits resized to the image."""
    finest = _pixels(size, 4)
    if fusion == "concat":
        yield passing(stages * width * finest)
        fuse = conv("decoder.fuse", stages * width, width, 1, finest)
        yield fuse._replace(folds=fuse.macs)  # into the projections, which are linear as it is
    else:
        yield passing(width * finest, times=stages - 1)
    yield norm("decoder.norm", norms, width, finest)
    yield act("decoder.act", acts, width, finest)
    yield conv("decoder.head", width, num_classes, 1, finest)
    if _side(size, 4) != size:
        yield passing(num_classes * size[0] * size[1])
