"""UNetFormer's decoder: global-local attention blocks up a pyramid of four maps (Wang et al. 2022, ISPRS J. 190).

The decoder that LWGANet's authors segment with (arXiv 2109.08937 for the decoder itself). Windows are completed by
reflection on the right and below, or by repeating the edge where a map is smaller than the padding, so maps may
have any size; on multiples of the window nothing is padded.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from archs.errors import ArchError
from archs.fields import require, require_choice, require_positive, require_rates
from archs.layers import ATTENTIONS, pad_to_multiple, reflect_pad, resize

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class UNetFormerConfig:
    """Fields of the UNetFormer decoder; the defaults are its authors'."""

    family: ClassVar[str] = "unetformer"
    width: int = 64  # of every decoder map
    heads: int = 8
    window: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.1
    aux_weight: float = 0.4  # of the auxiliary loss, in the authors' training
    attention: str = "explicit"  # or "fused": the same function, but counters differ on it

    def __post_init__(self) -> None:
        require_choice(self, "attention", ATTENTIONS)
        require_positive(self, "width", "heads", "window", "mlp_ratio")
        require_rates(self, "dropout")
        divides = self.width % 16 == 0 and self.width % self.heads == 0
        require(divides, self, "width", f"a multiple of 16 and of heads={self.heads}")
        require(self.window % 2 == 0, self, "window", "an even number")

    def build_decoder(self, widths: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> "UNetFormerDecoder":
        """The decoder for four maps of `widths`.

        Raises:
            ArchError: the maps are not of strides 4, 8, 16, 32.
        """
        if tuple(strides) != STRIDES:
            raise ArchError(
                f"the UNetFormer decoder was given maps of strides {tuple(strides)}, but climbs a pyramid of strides "
                f"{STRIDES}; choose an encoder with these, or the mlp decoder"
            )
        return UNetFormerDecoder(widths, num_classes, self)


def _conv(inputs: int, outputs: int, kernel: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


def _conv_norm(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    layers = {"conv": _conv(inputs, outputs, kernel), "norm": nn.BatchNorm2d(outputs)}
    return nn.Sequential(OrderedDict(layers))


def _conv_norm_act(width: int) -> nn.Sequential:
    layers = {"conv": _conv(width, width, 3), "norm": nn.BatchNorm2d(width), "act": nn.ReLU6()}
    return nn.Sequential(OrderedDict(layers))


def relative_positions(window: int) -> Int64[Tensor, "l l"]:
    """Row of the bias table for each query and key pixel of a window: `(dy + W - 1)(2W - 1) + (dx + W - 1)`.

    dy and dx are the query's row and column less the key's; pixels are row-major, `L = W^2`.
    """
    pixel = torch.arange(window * window)
    row, column = pixel // window, pixel % window
    dy = row[:, None] - row[None, :] + window - 1
    dx = column[:, None] - column[None, :] + window - 1
    return dy * (2 * window - 1) + dx


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows that do not overlap, with a learned bias for each offset and head.

    Without an output projection. A map that the windows do not tile is padded for the attention, then cropped.
    """

    positions: Tensor

    def __init__(self, config: UNetFormerConfig) -> None:
        super().__init__()
        self.heads, self.window, self.mode = config.heads, config.window, config.attention
        self.qkv = _conv(config.width, 3 * config.width)
        self.bias_table = nn.Parameter(torch.empty((2 * config.window - 1) ** 2, config.heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("positions", relative_positions(config.window).flatten(), persistent=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        h, w = x.shape[-2:]
        qkv = self.qkv(pad_to_multiple(x, self.window))  # (N, 3C, H', W')
        out = self._join(self._attend(*self._split(qkv)), qkv.shape)  # (N, C, H', W')
        return out[..., :h, :w]

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each `(N * windows, heads, L, C / heads)`."""
        n, channels, h, w = qkv.shape
        k, head_width = self.window, channels // (3 * self.heads)
        grid = qkv.reshape(n, 3, self.heads, head_width, h // k, k, w // k, k)
        grid = grid.permute(1, 0, 4, 6, 2, 5, 7, 3)  # (3, N, H/k, W/k, heads, k, k, C/heads)
        return grid.reshape(3, -1, self.heads, k * k, head_width).unbind(0)

    def _join(self, out: Tensor, shape: torch.Size) -> Float[Tensor, "n c h w"]:
        n, _, h, w = shape
        k = self.window
        grid = out.reshape(n, h // k, w // k, self.heads, k, k, -1)
        return grid.permute(0, 3, 6, 1, 4, 2, 5).reshape(n, -1, h, w)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = self.window**2
        bias = self.bias_table[self.positions].T.reshape(1, self.heads, length, length)
        scale = q.shape[-1] ** -0.5
        if self.mode == "fused":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=scale)
        return ((q * scale) @ k.mT + bias).softmax(dim=-1) @ v


class GlobalLocalAttention(nn.Module):
    """Windows see far by averaging along rows and columns; two convolutions see near; both are projected."""

    def __init__(self, config: UNetFormerConfig) -> None:
        super().__init__()
        width, self.window = config.width, config.window
        self.local1 = _conv_norm(width, width, 1)
        self.local3 = _conv_norm(width, width, 3)
        self.attention = WindowAttention(config)
        self.project = nn.Sequential(
            OrderedDict(
                spatial=nn.Conv2d(width, width, self.window, padding=self.window // 2 - 1, groups=width, bias=False),
                norm=nn.BatchNorm2d(width),
                pointwise=_conv(width, width),
            )
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        out = self._average(self.attention(x)) + self.local1(x) + self.local3(x)
        out = reflect_pad(out, left=0, right=1, top=0, bottom=1)
        return self.project(out)  # the even kernel takes the added row and column away again

    def _average(self, x: Tensor) -> Tensor:
        """Mean over one window's length along columns, plus the same along rows: windows exchange what they saw."""
        k = self.window
        along_columns = F.avg_pool2d(reflect_pad(x, 0, 0, 0, 1), (k, 1), stride=1, padding=(k // 2 - 1, 0))
        along_rows = F.avg_pool2d(reflect_pad(x, 0, 1, 0, 0), (1, k), stride=1, padding=(0, k // 2 - 1))
        return along_columns + along_rows


class Block(nn.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, config: UNetFormerConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        self.norm1 = nn.BatchNorm2d(width)
        self.attention = GlobalLocalAttention(config)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU6(), nn.Conv2d(hidden, width, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WeightedFusion(nn.Module):
    """The coarser map enlarged plus an encoder map projected, in learned proportions that sum to one; then 3x3."""

    def __init__(self, width: int, skip_width: int) -> None:
        super().__init__()
        self.project = _conv(skip_width, width)
        self.weights = nn.Parameter(torch.ones(2))
        self.conv = _conv_norm_act(width)

    def forward(self, x: Float[Tensor, "n c _h _w"], skip: Float[Tensor, "n _c h w"]) -> Float[Tensor, "n c h w"]:
        weights = F.relu(self.weights)
        share = weights / (weights.sum() + 1e-8)
        return self.conv(share[0] * self.project(skip) + share[1] * resize(x, skip.shape[-2:]))


class FeatureRefinementHead(nn.Module):
    """A weighted fusion, then gates by pixel and by channel beside a shortcut."""

    def __init__(self, width: int, skip_width: int) -> None:
        super().__init__()
        self.fuse = WeightedFusion(width, skip_width)
        self.pixel_gate = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.channel_gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), _conv(width, width // 16), nn.ReLU6(), _conv(width // 16, width)
        )
        self.shortcut = _conv_norm(width, width)
        self.project = nn.Sequential(
            OrderedDict(
                spatial=nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                norm=nn.BatchNorm2d(width),
                pointwise=_conv(width, width),
            )
        )

    def forward(self, x: Float[Tensor, "n c _h _w"], skip: Float[Tensor, "n _c h w"]) -> Float[Tensor, "n c h w"]:
        y = self.fuse(x, skip)
        by_pixel = self.pixel_gate(y).sigmoid() * y
        by_channel = self.channel_gate(y).sigmoid() * y
        return F.relu6(self.project(by_pixel + by_channel) + self.shortcut(y))


class AuxiliaryHead(nn.Module):
    """Logits at stride 8 from the three coarser decoder maps, for training only."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = _conv_norm_act(width)
        self.dropout = nn.Dropout(dropout)
        self.classify = _conv(width, num_classes)

    def forward(self, maps: tuple[Float[Tensor, "n c _h _w"], ...]) -> Float[Tensor, "n k h w"]:
        """`maps`: strides 8, 16, 32; the coarser are enlarged with corners aligned."""
        finest, *coarser = maps
        size = finest.shape[-2:]
        enlarged = [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in coarser]
        return self.classify(self.dropout(self.conv(sum(enlarged, start=finest))))


class UNetFormerDecoder(nn.Module):
    """Four maps `(N, C_i, H_i, W_i)` of strides 4, 8, 16, 32 to logits `(N, K, H_1, W_1)`.

    `forward_aux` gives the auxiliary logits too; their loss is weighed by `aux_weight`. The auxiliary head is part
    of the module, hence of every parameter count, and runs in training only.
    """

    def __init__(self, widths: tuple[int, ...], num_classes: int, config: UNetFormerConfig) -> None:
        super().__init__()
        width = config.width
        self.aux_weight = config.aux_weight
        self.pre = _conv_norm(widths[3], width)
        self.b4 = Block(config)
        self.p3, self.b3 = WeightedFusion(width, widths[2]), Block(config)
        self.p2, self.b2 = WeightedFusion(width, widths[1]), Block(config)
        self.p1 = FeatureRefinementHead(width, widths[0])
        layers = {"dropout": nn.Dropout2d(config.dropout), "classify": _conv(width, num_classes)}
        self.head = nn.Sequential(OrderedDict(mix=_conv_norm_act(width), **layers))
        self.aux_head = AuxiliaryHead(width, num_classes, config.dropout)

    def forward(self, features: list[Float[Tensor, "n _c _h _w"]]) -> Float[Tensor, "n k h w"]:
        x2, _, _ = self._climb(features)
        return self.head(self.p1(x2, features[0]))

    def forward_aux(self, features: list[Float[Tensor, "n _c _h _w"]]) -> tuple[Tensor, Tensor]:
        """Logits at stride 4 and auxiliary logits at stride 8, from one pass."""
        maps = self._climb(features)
        return self.head(self.p1(maps[0], features[0])), self.aux_head(maps)

    def parts(self) -> dict[str, nn.Module]:
        """In the order they run; the auxiliary head last."""
        return dict(self.named_children())

    def _climb(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Decoder maps of strides 8, 16, 32."""
        _, f2, f3, f4 = features
        x4 = self.b4(self.pre(f4))
        x3 = self.b3(self.p3(x4, f3))
        return self.b2(self.p2(x3, f2)), x3, x4
