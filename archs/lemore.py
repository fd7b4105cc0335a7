"""LeMoRe: a light segmenter that looks at its features along three axes and attends over all stages at 1/64.

Abid et al. 2025, IEEE ICIP, arXiv 2505.23093. No code and no layer table is published: this is a RECONSTRUCTION
from the block diagram, the ablation table and the cost figures, widths and depths fitted to them. Its parameters
and MACs meet the published ones within a few percent; nothing else about it is claimed.

The input size is part of the network: frontal and lateral views mix positions by matrices as large as the maps of
`image_size`. Other sizes run, resampled along the mixed axis to the nominal length and back.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs.fields import require, require_image_size, require_positive, require_stages, sides
from archs.layers import resize
from archs.registry import Provenance

PROVENANCE = Provenance(
    paper="arXiv 2505.23093",
    year=2025,
    source="https://github.com/miannaeem-lab/LeMoRe (diagram and tables only, no code)",
    licence="MIT (this implementation; the authors' code is not public)",
    reconstruction=True,
    note="widths, depths and heads are not published: fitted to the published cost figures and ablation",
)

VIEWS = ("transverse", "frontal", "lateral")
Map = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class LeMoReConfig:
    """The encoder's fields; the defaults are those of reconstructions A and B, which differ in the decoder only."""

    family: ClassVar[str] = "lemore"
    image_size: int | tuple[int, int] = 512  # nominal input, a side or (H, W)
    stem_width: int = 16
    widths: tuple[int, ...] = (16, 32, 64, 96)
    kernels: tuple[int, ...] = (3, 5, 3, 5)  # of a stage's inverted residuals
    expansions: tuple[tuple[int, ...], ...] = ((4, 3), (3, 3), (3, 3), (6, 6))  # one inverted residual each
    views: tuple[str, ...] = VIEWS
    channel_attention: bool = True
    channel_attention_ratio: int = 2
    dilation: int = 2  # of the second pair of strip convolutions
    skip: bool = False  # around the C-Encoder; the diagram draws none

    def __post_init__(self) -> None:
        require_image_size(self)
        require_stages(self, 4, "widths", "kernels")
        require_positive(self, "stem_width", "channel_attention_ratio", "dilation")
        each_expands = len(self.expansions) == 4 and all(min(stage, default=0) >= 1 for stage in self.expansions)
        require(each_expands, self, "expansions", "four rows of numbers of at least 1, one a stage")
        known = set(self.views) <= set(VIEWS) and len(set(self.views)) == len(self.views) > 0
        require(known, self, "views", f"one or more of {', '.join(VIEWS)}")
        require(all(kernel % 2 for kernel in self.kernels), self, "kernels", "odd numbers")

    @property
    def nominal_size(self) -> tuple[int, int]:
        """(H, W) that the position-mixing matrices are made for."""
        return sides(self.image_size, (512, 512))

    def build_encoder(self, in_channels: int) -> "LeMoReEncoder":
        """Stem and the four stages: maps of strides 4, 8, 16, 32."""
        return LeMoReEncoder(self, in_channels)


def conv_bn(before: int, width: int, kernel: int | tuple[int, int] = 1, **options: Any) -> nn.Sequential:
    """Convolution without bias, batch norm."""
    return nn.Sequential(nn.Conv2d(before, width, kernel, bias=False, **options), nn.BatchNorm2d(width))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; plus the input where the shape stays (MobileNetV2, arXiv 1801.04381)."""

    def __init__(self, before: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * before
        expand = [conv_bn(before, hidden), nn.ReLU()] if expansion != 1 else []
        self.layers = nn.Sequential(
            *expand,
            conv_bn(hidden, hidden, kernel, stride=stride, padding=kernel // 2, groups=hidden),
            nn.ReLU(),
            conv_bn(hidden, width),
        )
        self.residual = stride == 1 and before == width

    def forward(self, x: Map) -> Float[Tensor, "b c_out h_out w_out"]:
        return x + self.layers(x) if self.residual else self.layers(x)


class TransverseView(nn.Module):
    """A 1x1 convolution along the channel axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Map) -> Map:
        return self.norm(self.mix(x))


class FrontalView(nn.Module):
    """A 1x1 convolution along the width: one matrix mixes the positions of every row."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.mix = nn.Linear(length, length, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Map) -> Map:
        h, w = x.shape[-2:]
        mixed = self.mix(resize(x, (h, self.length)))  # (B, C, H, nominal W)
        return self.norm(resize(mixed, (h, w)))


class LateralView(FrontalView):
    """The same along the height: one matrix mixes the positions of every column."""

    def forward(self, x: Map) -> Map:
        h, w = x.shape[-2:]
        columns = resize(x, (self.length, w)).transpose(2, 3)  # (B, C, W, nominal H)
        return self.norm(resize(self.mix(columns).transpose(2, 3), (h, w)))


class ChannelAttention(nn.Module):
    """Each channel weighed by a gate read from all channels' global averages."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.widen = nn.Conv2d(width, ratio * width, 1)
        self.act = nn.ReLU()
        self.narrow = nn.Conv2d(ratio * width, width, 1)

    def forward(self, x: Map) -> Map:
        return x * self.narrow(self.act(self.widen(self.pool(x)))).sigmoid()


class CEncoder(nn.Module):
    """C-Encoder: the views of the feature cube added, refined by strip convolutions and channel attention."""

    def __init__(self, width: int, map_size: tuple[int, int], c: LeMoReConfig) -> None:
        super().__init__()
        height, length = map_size
        makers = {
            "transverse": lambda: TransverseView(width),
            "frontal": lambda: FrontalView(width, length),
            "lateral": lambda: LateralView(width, height),
        }
        self.views = nn.ModuleDict({name: makers[name]() for name in VIEWS if name in c.views})
        self.strips = nn.Sequential(*_strips(width, 1), *_strips(width, c.dilation))
        self.attention = ChannelAttention(width, c.channel_attention_ratio) if c.channel_attention else nn.Identity()
        self.skip = c.skip

    def forward(self, x: Map) -> Map:
        views = [view(x) for view in self.views.values()]
        out = self.attention(self.strips(sum(views[1:], start=views[0])))
        return x + out if self.skip else out


def _strips(width: int, dilation: int) -> list[nn.Module]:
    return [
        conv_bn(width, width, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), groups=width),
        conv_bn(width, width, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=width),
        nn.ReLU(),
    ]


def _stage(c: LeMoReConfig, stage: int) -> nn.Sequential:
    before = c.stem_width if stage == 0 else c.widths[stage - 1]
    width, kernel = c.widths[stage], c.kernels[stage]
    layers: list[nn.Module] = []
    for i, expansion in enumerate(c.expansions[stage]):
        layers.append(InvertedResidual(width if i else before, width, kernel, 1 if i else 2, expansion))
    height, length = (-(-side // 2 ** (stage + 2)) for side in c.nominal_size)  # sides rounded up
    return nn.Sequential(*layers, CEncoder(width, (height, length), c))


class LeMoReEncoder(nn.Module):
    """Image `(B, C, H, W)` to four maps of strides 4, 8, 16, 32, sides rounded up; any H and W."""

    strides = (4, 8, 16, 32)

    def __init__(self, config: LeMoReConfig, in_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.widths = config.widths
        self.stem = nn.Sequential(
            conv_bn(in_channels, config.stem_width, 3, stride=2, padding=1),
            nn.ReLU(),
            InvertedResidual(config.stem_width, config.stem_width, 3, 1, 1),
        )
        self.stages = nn.ModuleList([_stage(config, i) for i in range(4)])
        self.apply(initialise)

    def forward(self, x: Map) -> list[Float[Tensor, "b _c _h _w"]]:
        x = self.stem(x)  # (B, stem width, H/2, W/2)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def parts(self) -> dict[str, nn.Module]:
        """Stem and stages, in the order they run."""
        return {"stem": self.stem, **{f"stage{i + 1}": stage for i, stage in enumerate(self.stages)}}


def initialise(module: nn.Module) -> None:
    """Convolutions normal by their fan-out; position mixing near the identity, since no skip passes around it."""
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        fan_out = height * width * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, FrontalView):
        nn.init.normal_(module.mix.weight, std=0.02)
        with torch.no_grad():
            module.mix.weight.diagonal().add_(1.0)
