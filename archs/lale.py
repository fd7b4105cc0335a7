"""LALE: a light land-cover segmenter of ConvMixer stages, attention stages and an all-MLP decoder.

Çağlar and Temizel 2026, arXiv 2606.02092. The authors' code is not public: this is a reconstruction whose
parameters, storage and MACs meet every published digit. Where several designs fit, the choice is a field here.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from archs.decoders.mlp import MLPDecoderConfig
from archs.fields import require, require_choice, require_positive, require_rates, require_stages
from archs.layers import (
    ACTIVATIONS,
    ATTENTIONS,
    NORMS,
    DropPath,
    attend,
    drop_path_rates,
    make_act,
    make_norm,
)
from archs.searchable import ClosedFormCost, SearchSpace
from archs.segmenter import Segmenter, pair


@dataclass(frozen=True)
class LALEConfig:
    """Every design choice of LALE, one field each; the defaults are LALE-S1.

    `norm` and `act` speak of the encoder (stem, downsampling, blocks); the decoder has its own.
    """

    family: ClassVar[str] = "lale"
    WITHOUT_PAIR: ClassVar[tuple[str, ...]] = ("decoder_width", "fusion", "decoder_norm", "decoder_act", "dropout")
    widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of the four stages
    depths: tuple[int, ...] = (1, 1, 1, 1)  # blocks a stage; S of the paper in each
    conv_stages: int = 2  # the split point: so many stages are ConvMixer, the rest attention
    stem: str = "conv3x3"  # "conv3x3": two of stride 2; "conv7x7": one of stride 4; "patchify": 4x4 of stride 4
    stem_width: int = 16  # between the two convolutions of the conv3x3 stem
    norm: str = "rmsnorm"
    act: str = "starrelu"
    mixer_kernel: int = 3  # depthwise, of the ConvMixer blocks
    mixer_expansion: int = 4
    mixer_mlp: bool = False  # a residual MLP after each ConvMixer block: the K7 baselines' reading
    mlp_kernel: int = 3  # depthwise, inside the ConvMLP of the attention blocks
    mlp_expansion: int = 4
    head_width: int = 32
    attention: str = "explicit"  # or "fused": the same function, but counters differ on it
    decoder_width: int = 128
    fusion: str = "concat"
    decoder_norm: str = "batchnorm"
    decoder_act: str = "starrelu"
    dropout: float = 0.1  # in the decoder
    drop_path: float = 0.0  # at the last block, rising linearly from 0

    def __post_init__(self) -> None:
        require_choice(self, "stem", STEMS)
        require_choice(self, "norm", NORMS)
        require_choice(self, "act", ACTIVATIONS)
        require_choice(self, "attention", ATTENTIONS)
        require_stages(self, 4, "widths", "depths")
        kernels = ("mixer_kernel", "mlp_kernel")
        require_positive(self, "stem_width", *kernels, "mixer_expansion", "mlp_expansion", "head_width")
        for field in kernels:
            require(getattr(self, field) % 2 == 1, self, field, "an odd number, such as 3 or 7")
        require_rates(self, "drop_path")
        require(0 <= self.conv_stages <= 4, self, "conv_stages", "0 to 4")
        divide = all(width % self.head_width == 0 for width in self.widths[self.conv_stages :])
        require(divide, self, "widths", f"the attention stages multiples of head_width={self.head_width}")
        self.decoder_config()  # checks the decoder's fields

    def decoder_config(self) -> MLPDecoderConfig:
        """The decoder's share of the fields."""
        return MLPDecoderConfig(self.decoder_width, self.fusion, self.decoder_norm, self.decoder_act, self.dropout)

    def build_encoder(self, in_channels: int) -> "LALEEncoder":
        """The encoder alone: four maps of strides 4, 8, 16, 32."""
        return LALEEncoder(self, in_channels)

    def build(self, num_classes: int, in_channels: int) -> Segmenter:
        """The network, with random weights (PyTorch's default initialisation; the authors' is not known)."""
        return pair(self, self.decoder_config(), num_classes, in_channels)

    @staticmethod
    def search_space() -> SearchSpace:
        """What a search may change (see `archs.searchable`)."""
        from archs.lale_search import SPACE

        return SPACE

    def closed_form_cost(self, size: tuple[int, int], num_classes: int, in_channels: int) -> ClosedFormCost:
        """Parameters and MACs for one image of `size`, without building anything."""
        from archs.lale_search import lale_cost

        return lale_cost(self, size, num_classes, in_channels)


def _norm_act(c: LALEConfig, width: int) -> list[nn.Module]:
    return [make_norm(c.norm, width), make_act(c.act)]


class PadToMultiple(nn.Module):
    """Zeros to the right and below, up to the next multiple: so that no pixel of an odd-sized image is lost."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c _h _w"]:
        bottom, right = -x.shape[-2] % self.multiple, -x.shape[-1] % self.multiple
        return nn.functional.pad(x, (0, right, 0, bottom)) if bottom or right else x


def _two_conv3x3(c: LALEConfig, in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, c.stem_width, 3, stride=2, padding=1),
        *_norm_act(c, c.stem_width),
        nn.Conv2d(c.stem_width, c.widths[0], 3, stride=2, padding=1),
        *_norm_act(c, c.widths[0]),
    )


def _conv7x7(c: LALEConfig, in_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, c.widths[0], 7, stride=4, padding=3), *_norm_act(c, c.widths[0]))


def _patchify(c: LALEConfig, in_channels: int) -> nn.Sequential:
    return nn.Sequential(PadToMultiple(4), nn.Conv2d(in_channels, c.widths[0], 4, stride=4), *_norm_act(c, c.widths[0]))


STEMS = {"conv3x3": _two_conv3x3, "conv7x7": _conv7x7, "patchify": _patchify}


class ConvMixer(nn.Module):
    """`x + Norm(pw2(Act(pw1(Norm(dw(x))))))`: the second norm stands inside the residual branch."""

    def __init__(self, c: LALEConfig, width: int, drop_path: float) -> None:
        super().__init__()
        hidden = c.mixer_expansion * width
        self.dw = nn.Conv2d(width, width, c.mixer_kernel, padding=c.mixer_kernel // 2, groups=width)
        self.norm1 = make_norm(c.norm, width)
        self.pw1 = nn.Conv2d(width, hidden, 1)
        self.act = make_act(c.act)
        self.pw2 = nn.Conv2d(hidden, width, 1)
        self.norm2 = make_norm(c.norm, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        branch = self.pw2(self.act(self.pw1(self.norm1(self.dw(x)))))
        return x + self.drop_path(self.norm2(branch))


class MLP(nn.Module):
    """`x + pw2(Act(pw1(Norm(x))))`, the residual MLP of the K7 baselines."""

    def __init__(self, c: LALEConfig, width: int, drop_path: float) -> None:
        super().__init__()
        hidden = c.mixer_expansion * width
        self.norm = make_norm(c.norm, width)
        self.pw1 = nn.Conv2d(width, hidden, 1)
        self.act = make_act(c.act)
        self.pw2 = nn.Conv2d(hidden, width, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x + self.drop_path(self.pw2(self.act(self.pw1(self.norm(x)))))


class Attention(nn.Module):
    """Multi-head self-attention over all positions of a map; one qkv projection, no position embedding."""

    def __init__(self, c: LALEConfig, width: int) -> None:
        super().__init__()
        self.mode = c.attention
        self.head_width = c.head_width
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        n, c, h, w = x.shape
        heads = self.qkv(x).reshape(n, 3, c // self.head_width, self.head_width, h * w)
        q, k, v = heads.transpose(-2, -1).unbind(1)  # each (N, heads, HW, head_width)
        x = attend(self.mode, q, k, v, self.head_width**-0.5)
        return self.project(x.transpose(-2, -1).reshape(n, c, h, w))


class ConvMLP(nn.Module):
    """Linear, depthwise convolution, activation, linear; the convolution also tells positions apart."""

    def __init__(self, c: LALEConfig, width: int) -> None:
        super().__init__()
        hidden = c.mlp_expansion * width
        self.pw1 = nn.Conv2d(width, hidden, 1)
        self.dw = nn.Conv2d(hidden, hidden, c.mlp_kernel, padding=c.mlp_kernel // 2, groups=hidden)
        self.act = make_act(c.act)
        self.pw2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.pw2(self.act(self.dw(self.pw1(x))))


class Transformer(nn.Module):
    """`x + Attention(Norm(x))`, then `x + ConvMLP(Norm(x))`."""

    def __init__(self, c: LALEConfig, width: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = make_norm(c.norm, width)
        self.attention = Attention(c, width)
        self.norm2 = make_norm(c.norm, width)
        self.mlp = ConvMLP(c, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def _stage(c: LALEConfig, stage: int, rates: list[float]) -> nn.Sequential:
    width = c.widths[stage]
    blocks: list[nn.Module] = []
    for rate in rates:
        if stage >= c.conv_stages:
            blocks.append(Transformer(c, width, rate))
            continue
        blocks.append(ConvMixer(c, width, rate))
        if c.mixer_mlp:
            blocks.append(MLP(c, width, rate))
    return nn.Sequential(*blocks)


def _down(c: LALEConfig, stage: int) -> nn.Sequential:
    width = c.widths[stage + 1]
    return nn.Sequential(nn.Conv2d(c.widths[stage], width, 3, stride=2, padding=1), make_norm(c.norm, width))


class LALEEncoder(nn.Module):
    """Image `(N, C, H, W)` to four maps of strides 4, 8, 16, 32, sides rounded up; any H and W."""

    strides = (4, 8, 16, 32)

    def __init__(self, config: LALEConfig, in_channels: int = 3) -> None:
        super().__init__()
        self.widths = config.widths
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        self.stem = STEMS[config.stem](config, in_channels)
        self.stages = nn.ModuleList(
            [_stage(config, i, [next(rates) for _ in range(depth)]) for i, depth in enumerate(config.depths)]
        )
        self.downs = nn.ModuleList([_down(config, i) for i in range(3)])

    def forward(self, x: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _c _h _w"]]:
        x = self.stages[0](self.stem(x))  # (N, C1, H/4, W/4)
        maps = [x]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            x = stage(down(x))
            maps.append(x)
        return maps

    def parts(self) -> dict[str, nn.Module]:
        """Stem, stages and downsampling, in the order they run."""
        parts: dict[str, nn.Module] = {"stem": self.stem, "stage1": self.stages[0]}
        for i, (down, stage) in enumerate(zip(self.downs, self.stages[1:], strict=True)):
            parts |= {f"down{i + 1}": down, f"stage{i + 2}": stage}
        return parts
