"""Parameters and MACs of LALE in closed form, layer by layer, as `archs.lale` builds it.

A search prices thousands of candidates; a test holds these sums against the counter. Every layer adds its parameters
and its plain multiply-accumulates for one image; norms, activations, sums and resizing have no MACs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archs.searchable import ClosedFormCost

if TYPE_CHECKING:
    from archs.lale import LALEConfig


@dataclass
class _Sum:
    params: int = 0
    macs: int = 0

    def conv(self, inputs: int, outputs: int, kernel: int, pixels: int, groups: int = 1) -> int:
        """A convolution with bias: every weight meets each output pixel. Returns its MACs."""
        weights = outputs * (inputs // groups) * kernel**2
        self.params += weights + outputs
        self.macs += weights * pixels
        return weights * pixels

    def norm(self, kind: str, width: int) -> None:
        """RMSNorm has a scale alone, the others a shift as well."""
        self.params += width if kind == "rmsnorm" else 2 * width

    def act(self, kind: str) -> None:
        """StarReLU learns one scale and one shift."""
        self.params += 2 if kind == "starrelu" else 0


def lale_cost(c: LALEConfig, size: tuple[int, int], num_classes: int, in_channels: int) -> ClosedFormCost:
    """The whole network for one image of `size`; sides are rounded up at each halving."""
    half, *pixels = (-(-size[0] // stride) * -(-size[1] // stride) for stride in (2, 4, 8, 16, 32))
    found = _Sum()
    _stem(found, c, in_channels, half, pixels[0])
    for stage, (width, depth) in enumerate(zip(c.widths, c.depths, strict=True)):
        if stage:
            found.conv(c.widths[stage - 1], width, 3, pixels[stage])
            found.norm(c.norm, width)
        block = _mixer if stage < c.conv_stages else _transformer
        for _ in range(depth):
            block(found, c, width, pixels[stage])
        found.conv(width, c.decoder_width, 1, pixels[stage])  # the decoder's projection
    folded = _head(found, c, num_classes, pixels[0])
    return ClosedFormCost(found.params, found.macs, found.macs - folded)


def _stem(found: _Sum, c: LALEConfig, in_channels: int, half: int, quarter: int) -> None:
    if c.stem == "conv3x3":
        steps = [(in_channels, c.stem_width, 3, half), (c.stem_width, c.widths[0], 3, quarter)]
    else:
        steps = [(in_channels, c.widths[0], {"conv7x7": 7, "patchify": 4}[c.stem], quarter)]
    for inputs, outputs, kernel, pixels in steps:
        found.conv(inputs, outputs, kernel, pixels)
        found.norm(c.norm, outputs)
        found.act(c.act)


def _mixer(found: _Sum, c: LALEConfig, width: int, pixels: int) -> None:
    hidden = c.mixer_expansion * width
    found.conv(width, width, c.mixer_kernel, pixels, groups=width)
    for _ in range(2 if c.mixer_mlp else 1):  # the residual MLP has one norm, the mixer two
        found.norm(c.norm, width)
        found.conv(width, hidden, 1, pixels)
        found.act(c.act)
        found.conv(hidden, width, 1, pixels)
    found.norm(c.norm, width)


def _transformer(found: _Sum, c: LALEConfig, width: int, pixels: int) -> None:
    hidden = c.mlp_expansion * width
    found.norm(c.norm, width)
    found.conv(width, 3 * width, 1, pixels)
    found.macs += 2 * pixels**2 * width  # the two products of attention over all pairs of positions
    found.conv(width, width, 1, pixels)
    found.norm(c.norm, width)
    found.conv(width, hidden, 1, pixels)
    found.conv(hidden, hidden, c.mlp_kernel, pixels, groups=hidden)
    found.act(c.act)
    found.conv(hidden, width, 1, pixels)


def _head(found: _Sum, c: LALEConfig, num_classes: int, pixels: int) -> int:
    """Fusion and classes at the finest resolution; the MACs that `archs.deploy` folds into the projections."""
    width = c.decoder_width
    folded = found.conv(len(c.widths) * width, width, 1, pixels) if c.fusion == "concat" else 0
    found.norm(c.decoder_norm, width)
    found.act(c.decoder_act)
    found.conv(width, num_classes, 1, pixels)
    return folded
