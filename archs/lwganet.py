"""LWGANet: a light group-attention backbone for remote sensing (Lu et al., AAAI 2026, arXiv 2501.10040).

Written from a description of the public code at github.com/AeroVILab-AHU/LWGANet, whose parameters, MACs and
outputs it reproduces. Where that code is limited to square sides that are multiples of 32, this takes any: the
image is reflected up to a multiple of 4, sides are halved rounding up, odd maps are un-pooled to their own size,
and maps too small for the blur's reflection repeat their edge. A tile larger than 96 on one side can train at
batch 1; below, the medium-range norm meets a single pixel.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.fields import require, require_choice, require_positive, require_rates, require_stages
from archs.layers import ACTIVATIONS, ATTENTIONS, DropPath, drop_path_rates, make_act, pad_to_multiple
from archs.lwga import GPA, RLA, SMA, make_sga

MINIMUM_SIDE = 17  # below, a map of stage 3 has one pixel and no 2x2 region


@dataclass(frozen=True)
class LWGANetConfig:
    """Every design choice of LWGANet, one field each; the defaults are LWGANet-L0."""

    family: ClassVar[str] = "lwganet"
    stem_width: int = 32  # of stage 1; doubles with every stage
    depths: tuple[int, ...] = (1, 2, 4, 2)  # blocks a stage
    act: str = "gelu"
    drop_path: float = 0.0  # at the last block, rising linearly from 0
    sma_kernel: int = 11  # length of the strips of the medium-range path
    mlp_ratio: int = 2
    head_width: int = 4  # of the attention in stages 3 and 4
    attention: str = "explicit"  # or "fused": the same function, but counters differ on it
    classifier_width: int = 1280  # between pooling and the classifier

    def __post_init__(self) -> None:
        require_choice(self, "act", ACTIVATIONS)
        require_choice(self, "attention", ATTENTIONS)
        require_stages(self, 4, "depths")
        require_positive(self, "stem_width", "sma_kernel", "mlp_ratio", "head_width", "classifier_width")
        require_rates(self, "drop_path")
        divides = self.stem_width % 8 == 0 and self.stem_width % self.head_width == 0
        require(divides, self, "stem_width", f"a multiple of 8 and of head_width={self.head_width}")
        require(self.sma_kernel % 2 == 1, self, "sma_kernel", "an odd number, such as 11")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.stem_width * 2**i for i in range(4))

    def build_encoder(self, in_channels: int) -> "LWGANetEncoder":
        """The dense-prediction form: four maps of strides 4, 8, 16, 32, each through a norm of its own."""
        return LWGANetEncoder(self, in_channels)

    def build_classifier(self, num_classes: int, in_channels: int) -> "LWGANetClassifier":
        """The form trained on scenes: `(N, C, H, W)` to `(N, num_classes)`."""
        return LWGANetClassifier(self, num_classes, in_channels)


VARIANTS = {
    "lwganet-l0": LWGANetConfig(),
    "lwganet-l1": LWGANetConfig(stem_width=64, drop_path=0.1),
    "lwganet-l2": LWGANetConfig(stem_width=96, depths=(1, 4, 4, 2), act="relu", drop_path=0.1),
}


class Stem(nn.Sequential):
    """Patches of 4x4 pixels, normed."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 4, stride=4, bias=False)
        self.norm = nn.BatchNorm2d(width)


class DRFD(nn.Module):
    """Robust downsampling: one convolution feeds a strided convolution and a max-pool; both are fused.

    Half the sides, rounded up, and twice the channels. After Lu et al. 2023, IEEE TGRS 61.
    """

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        wide = 2 * width
        self.expand = nn.Conv2d(width, wide, 3, padding=1, groups=width)
        self.conv = nn.Conv2d(wide, wide, 3, stride=2, padding=1, groups=wide)
        self.act = make_act(act)
        self.conv_norm = nn.BatchNorm2d(wide)
        self.pool_norm = nn.BatchNorm2d(wide)
        self.fuse = nn.Conv2d(2 * wide, wide, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n _c _h _w"]:
        x = self.expand(x)  # (N, 2C, H, W)
        by_conv = self.conv_norm(self.act(self.conv(x)))  # (N, 2C, H/2, W/2)
        by_pool = self.pool_norm(F.max_pool2d(x, 3, stride=2, padding=1))
        return self.fuse(torch.cat([by_conv, by_pool], dim=1))


class MLP(nn.Sequential):
    """Two 1x1 convolutions that mix the four paths."""

    def __init__(self, width: int, ratio: int, act: str) -> None:
        super().__init__()
        self.widen = nn.Conv2d(width, ratio * width, 1, bias=False)
        self.norm = nn.BatchNorm2d(ratio * width)
        self.act = make_act(act)
        self.narrow = nn.Conv2d(ratio * width, width, 1, bias=False)


class LWGABlock(nn.Module):
    """Four quarters of the channels through the four paths, mixed by an MLP: `x + norm(mlp(paths(x)))`.

    The norm stands on the branch, after stochastic depth. `stage` (1 to 4) chooses the form of the global path.
    """

    def __init__(self, config: LWGANetConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        width = config.widths[stage - 1]
        quarter = width // 4
        self.gpa = GPA(quarter, config.act)
        self.rla = RLA(quarter, config.act)
        self.sma = SMA(quarter, config.sma_kernel)
        self.sga = make_sga(stage, quarter, config.act, config.head_width, config.attention)
        # Stage 3 has its norm inside the pooled attention, before the results go back to their positions.
        self.sga_norm = nn.Identity() if stage == 3 else nn.BatchNorm2d(quarter)
        self.mlp = MLP(width, config.mlp_ratio, config.act)
        self.drop_path = DropPath(drop_path)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        x1, x2, x3, x4 = x.chunk(4, dim=1)  # each (N, C/4, H, W)
        y1 = x1 + self.gpa(x1)
        y2 = self.rla(x2)
        y3 = self.sma(x3)
        y4 = self.sga_norm(x4 + self.sga(x4))
        y = self.mlp(torch.cat([y1, y2, y3, y4], dim=1))
        return x + self.norm(self.drop_path(y))


class LWGANetTrunk(nn.Module):
    """What both forms share: image to the un-normed output of each stage, finest first."""

    def __init__(self, config: LWGANetConfig, in_channels: int) -> None:
        super().__init__()
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        self.stem = Stem(in_channels, config.stem_width)
        self.stages = nn.ModuleList(
            nn.Sequential(*[LWGABlock(config, stage, next(rates)) for _ in range(depth)])
            for stage, depth in enumerate(config.depths, start=1)
        )
        self.downs = nn.ModuleList(DRFD(width, config.act) for width in config.widths[:3])

    def forward(self, x: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _c _h _w"]]:
        if min(x.shape[-2:]) < MINIMUM_SIDE:
            raise ArchError(
                f"LWGANet was given an image of {x.shape[-2]}x{x.shape[-1]} pixels, but the 2x2 regions of stage 3 "
                f"need at least {MINIMUM_SIDE} a side; give larger tiles"
            )
        x = self.stages[0](self.stem(pad_to_multiple(x, 4)))  # (N, C1, H/4, W/4)
        maps = [x]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            x = stage(down(x))  # (N, 2C, H/2, W/2)
            maps.append(x)
        return maps

    def parts(self) -> dict[str, nn.Module]:
        """Stem, stages and downsampling, in the order they run."""
        parts: dict[str, nn.Module] = {"stem": self.stem, "stage1": self.stages[0]}
        for i, (down, stage) in enumerate(zip(self.downs, self.stages[1:], strict=True), start=1):
            parts |= {f"down{i}": down, f"stage{i + 1}": stage}
        return parts


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class LWGANetEncoder(nn.Module):
    """Image `(N, C, H, W)` to four maps of strides 4, 8, 16, 32, sides rounded up; H and W of at least 17.

    Each map has passed a norm that the next stage does not see; the classifier lacks these four norms.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, config: LWGANetConfig, in_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.widths = config.widths
        self.trunk = LWGANetTrunk(config, in_channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in config.widths)
        self.apply(_initialise)

    def forward(self, x: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _c _h _w"]]:
        return [norm(stage_map) for norm, stage_map in zip(self.norms, self.trunk(x), strict=True)]

    def parts(self) -> dict[str, nn.Module]:
        """Stem, stages, downsampling, then the four output norms."""
        return self.trunk.parts() | {f"norm{i}": norm for i, norm in enumerate(self.norms, start=1)}


class LWGANetClassifier(nn.Module):
    """Image `(N, C, H, W)` to scene logits `(N, num_classes)`: pooled last map, a wide layer, a linear classifier."""

    def __init__(self, config: LWGANetConfig, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.trunk = LWGANetTrunk(config, in_channels)
        self.pre_head = nn.Conv2d(config.widths[3], config.classifier_width, 1, bias=False)
        self.act = make_act(config.act)
        self.head = nn.Linear(config.classifier_width, num_classes)
        self.apply(_initialise)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        pooled = F.adaptive_avg_pool2d(self.trunk(x)[-1], 1)  # (N, 8C, 1, 1)
        return self.head(self.act(self.pre_head(pooled)).flatten(1))

    def parts(self) -> dict[str, nn.Module]:
        """Stem, stages, downsampling, then the two layers of the head."""
        return self.trunk.parts() | {"pre_head": self.pre_head, "head": self.head}
