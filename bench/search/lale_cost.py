"""LALE's layers in closed form: what `archs.lale` builds, as a ledger. A test holds it against the counter."""

from __future__ import annotations

from collections.abc import Iterator

from archs.lale import LALEConfig
from bench.search.layers import Layer, act, attention, conv, norm


def lale_layers(c: LALEConfig, size: tuple[int, int], num_classes: int, in_channels: int) -> Iterator[Layer]:
    """Every layer of a LALE network for one image of `size`; sides are rounded up at each halving."""
    pixels = [_pixels(size, stride) for stride in (4, 8, 16, 32)]
    yield from _stem(c, in_channels, _pixels(size, 2), pixels[0])
    for stage, depth in enumerate(c.depths):
        if stage:
            name, width = f"encoder.downs.{stage - 1}", c.widths[stage]
            yield conv(f"{name}.0", c.widths[stage - 1], width, 3, pixels[stage])
            yield norm(f"{name}.1", c.norm, width)
        yield from _stage(c, stage, depth, pixels[stage])
    yield from _decoder(c, pixels, num_classes)


def _pixels(size: tuple[int, int], stride: int) -> int:
    return -(-size[0] // stride) * -(-size[1] // stride)


def _stem(c: LALEConfig, in_channels: int, half: int, quarter: int) -> Iterator[Layer]:
    """One convolution, or two; the patchify stem has a layer that only pads in front."""
    if c.stem == "conv3x3":
        steps = [(0, in_channels, c.stem_width, 3, half), (3, c.stem_width, c.widths[0], 3, quarter)]
    else:
        first, kernel = {"conv7x7": (0, 7), "patchify": (1, 4)}[c.stem]
        steps = [(first, in_channels, c.widths[0], kernel, quarter)]
    for at, inputs, outputs, kernel, pixels in steps:
        yield conv(f"encoder.stem.{at}", inputs, outputs, kernel, pixels)
        yield norm(f"encoder.stem.{at + 1}", c.norm, outputs)
        yield act(f"encoder.stem.{at + 2}", c.act)


def _stage(c: LALEConfig, stage: int, depth: int, pixels: int) -> Iterator[Layer]:
    width = c.widths[stage]
    mixes = stage < c.conv_stages
    blocks = [_mixer, _mlp] if mixes and c.mixer_mlp else [_mixer] if mixes else [_transformer]
    for i, block in enumerate(blocks * depth):
        yield from block(c, f"encoder.stages.{stage}.{i}", width, pixels)


def _mixer(c: LALEConfig, name: str, width: int, pixels: int) -> Iterator[Layer]:
    hidden = c.mixer_expansion * width
    yield conv(f"{name}.dw", width, width, c.mixer_kernel, pixels, groups=width)
    yield norm(f"{name}.norm1", c.norm, width)
    yield conv(f"{name}.pw1", width, hidden, 1, pixels)
    yield act(f"{name}.act", c.act)
    yield conv(f"{name}.pw2", hidden, width, 1, pixels)
    yield norm(f"{name}.norm2", c.norm, width)


def _mlp(c: LALEConfig, name: str, width: int, pixels: int) -> Iterator[Layer]:
    hidden = c.mixer_expansion * width
    yield norm(f"{name}.norm", c.norm, width)
    yield conv(f"{name}.pw1", width, hidden, 1, pixels)
    yield act(f"{name}.act", c.act)
    yield conv(f"{name}.pw2", hidden, width, 1, pixels)


def _transformer(c: LALEConfig, name: str, width: int, pixels: int) -> Iterator[Layer]:
    hidden = c.mlp_expansion * width
    yield norm(f"{name}.norm1", c.norm, width)
    yield conv(f"{name}.attention.qkv", width, 3 * width, 1, pixels)
    yield attention(width, pixels)
    yield conv(f"{name}.attention.project", width, width, 1, pixels)
    yield norm(f"{name}.norm2", c.norm, width)
    yield conv(f"{name}.mlp.pw1", width, hidden, 1, pixels)
    yield conv(f"{name}.mlp.dw", hidden, hidden, c.mlp_kernel, pixels, groups=hidden)
    yield act(f"{name}.mlp.act", c.act)
    yield conv(f"{name}.mlp.pw2", hidden, width, 1, pixels)


def _decoder(c: LALEConfig, pixels: list[int], num_classes: int) -> Iterator[Layer]:
    """Each stage is projected at its own resolution; the rest works at the finest."""
    width = c.decoder_width
    for stage, inputs in enumerate(c.widths):
        yield conv(f"decoder.project.{stage}", inputs, width, 1, pixels[stage])
    if c.fusion == "concat":
        yield conv("decoder.fuse", len(c.widths) * width, width, 1, pixels[0])
    yield norm("decoder.norm", c.decoder_norm, width)
    yield act("decoder.act", c.decoder_act)
    yield conv("decoder.head", width, num_classes, 1, pixels[0])
