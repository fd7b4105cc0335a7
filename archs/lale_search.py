"""What a search for LALE needs: between which values each field may move, the rules between them, what a config costs.

A search prices thousands of candidates, so parameters and MACs are summed in closed form, layer by layer, as
`archs.lale` builds it; a test holds these sums against the counter. Every layer adds its parameters and its plain
multiply-accumulates for one image; norms, activations, sums and resizing have no MACs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archs.layers import ACTIVATIONS, NORMS
from archs.searchable import ClosedFormCost, Fields, Rows, SearchSpace

if TYPE_CHECKING:
    from archs.lale import LALEConfig


def settle(fields: Fields, rows: Rows, base: Fields) -> Fields:
    """Widths never fall from stage to stage; attention stages are multiples of the head width.

    Fields without effect (the ConvMixer's where no stage is one, and so on) return to the base's values, so that
    one network is one point.
    """
    fields = dict(fields)
    if "widths" in rows:
        fields["widths"] = _growing_widths(fields, rows["widths"])
    if not _heads_fit(fields, fields["head_width"]) and "head_width" in rows:
        fields["head_width"] = _fitting_head(fields, rows["head_width"][0])
    if not _heads_fit(fields, fields["head_width"]) and "conv_stages" in rows:
        later = [split for split in rows["conv_stages"][0] if split > fields["conv_stages"]]
        fields["conv_stages"] = next(
            (s for s in later if _heads_fit({**fields, "conv_stages": s}, fields["head_width"])), later[-1]
        )
    idle = _without_effect(fields)
    return {name: base[name] if name in idle else value for name, value in fields.items()}


def _growing_widths(fields: Fields, grids: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    widths: list[int] = []
    for stage, (wanted, grid) in enumerate(zip(fields["widths"], grids, strict=True)):
        unit = fields["head_width"] if stage >= fields["conv_stages"] else 1
        floor = max([wanted, *widths[-1:]])
        allowed = [width for width in grid if width % unit == 0] or list(grid)
        widths.append(next((width for width in allowed if width >= floor), allowed[-1]))
    return tuple(widths)


def _heads_fit(fields: Fields, head: int) -> bool:
    return all(width % head == 0 for width in fields["widths"][fields["conv_stages"] :])


def _fitting_head(fields: Fields, heads: Iterable[int]) -> int:
    """The nearest head width that divides all attention stages; the given one if there is none."""
    fitting = [head for head in heads if _heads_fit(fields, head)]
    return min(fitting, key=lambda head: abs(head - fields["head_width"]), default=fields["head_width"])


def _without_effect(fields: Fields) -> set[str]:
    idle = set() if fields["stem"] == "conv3x3" else {"stem_width"}
    if fields["conv_stages"] == 0:
        idle |= {"mixer_kernel", "mixer_expansion", "mixer_mlp"}
    if fields["conv_stages"] == len(fields["widths"]):
        idle |= {"mlp_kernel", "mlp_expansion", "head_width"}
    return idle


SPACE = SearchSpace(
    values={
        # every row ends in a multiple of 64, so that each head width fits every stage
        "widths": (range(16, 65, 8), range(32, 129, 16), range(64, 257, 32), range(64, 385, 64)),
        "depths": (range(1, 5),) * 4,
        "conv_stages": range(5),
        "stem": ("conv3x3", "conv7x7", "patchify"),
        "stem_width": range(8, 33, 8),
        "norm": tuple(NORMS),
        "act": tuple(ACTIVATIONS),
        "mixer_kernel": (3, 5, 7),
        "mixer_expansion": range(1, 7),
        "mixer_mlp": (False, True),
        "mlp_kernel": (3, 5, 7),
        "mlp_expansion": range(1, 7),
        "head_width": (16, 32, 64),
        "decoder_width": range(32, 193, 16),
        "fusion": ("concat", "sum"),
        "decoder_norm": tuple(NORMS),
        "decoder_act": tuple(ACTIVATIONS),
        "dropout": (0.0, 0.1, 0.2),
        "drop_path": (0.0, 0.05, 0.1),
    },
    free=(
        "widths", "depths", "conv_stages", "mixer_kernel", "mixer_expansion", "mlp_expansion", "decoder_width",
        "fusion",
    ),
    settle=settle,
)  # fmt: skip


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
