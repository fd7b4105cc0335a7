"""LeMoRe's decoder: all maps pooled to 1/64, nested attention over them, gated fusion back into each, one head.

Part of the reconstruction in `archs.lemore`; it takes the maps of any hierarchical encoder.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs.fields import require, require_positive, require_rates
from archs.layers import DropPath, drop_path_rates, resize
from archs.lemore import conv_bn, initialise
from archs.segmenter import require_pyramid

Map = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class LeMoReDecoderConfig:
    """The decoder's fields; the defaults are reconstruction A. B: `fusion_width=160, head_depthwise=True`."""

    family: ClassVar[str] = "lemore-decoder"
    blocks: int = 4
    nested_attention: bool = True
    heads: int = 4
    key_width: int = 32  # of each query and key projection, all heads together
    value_width: int = 64
    ffn_expansion: int = 2
    drop_path: float = 0.1  # at the last block, rising linearly from 0
    fusion_width: int = 128
    head_depthwise: bool = False
    dropout: float = 0.1

    @property
    def min_train_batch(self) -> int:
        """The smallest batch that batch norm can train on: of images up to 64 a side the pooled map is one pixel."""
        return 2

    def __post_init__(self) -> None:
        require_positive(self, "blocks", "heads", "ffn_expansion", "fusion_width", "key_width", "value_width")
        require_rates(self, "dropout", "drop_path")
        for field in ("key_width", "value_width"):
            require(getattr(self, field) % self.heads == 0, self, field, f"a multiple of heads={self.heads}")

    def build_decoder(self, widths: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> "LeMoReDecoder":
        """The decoder for maps of `widths`, finest first.

        Raises:
            ArchError: fewer than two maps, or strides that do not grow from map to map (a plain transformer).
        """
        require_pyramid("LeMoRe's decoder", strides)
        return LeMoReDecoder(widths, strides, num_classes, self)


class NestedAttention(nn.Module):
    """NA: three queries, keys and values; the mean of the nine attention maps applied to each value, and added."""

    def __init__(self, width: int, c: LeMoReDecoderConfig) -> None:
        super().__init__()
        self.heads, self.scale = c.heads, (c.key_width // c.heads) ** -0.5
        self.queries = nn.ModuleList([conv_bn(width, c.key_width) for _ in range(3)])
        self.keys = nn.ModuleList([conv_bn(width, c.key_width) for _ in range(3)])
        self.values = nn.ModuleList([conv_bn(width, c.value_width) for _ in range(3)])
        self.act = nn.ReLU6()
        self.out = conv_bn(c.value_width, width)

    def forward(self, x: Map) -> Map:
        q = torch.cat(self._heads(self.queries, x), dim=-1)  # (B, heads, e, 3 N)
        k = torch.cat(self._heads(self.keys, x), dim=-1)
        v = torch.cat(self._heads(self.values, x), dim=-2)  # (B, heads, 3 e, N)
        products = (q * self.scale).transpose(-2, -1) @ k  # (B, heads, 3 N, 3 N): the nine Qi Kj
        maps = products.unflatten(-1, (3, -1)).softmax(dim=-1)  # each over its own keys
        psi = maps.unflatten(2, (3, -1)).mean(dim=(2, 4))  # (B, heads, N queries, N keys)
        views = (v @ psi.transpose(-2, -1)).unflatten(2, (3, -1)).sum(dim=2)  # (B, heads, e, N)
        return self.out(self.act(views.flatten(1, 2).unflatten(2, x.shape[-2:])))

    def _heads(self, projections: nn.ModuleList, x: Map) -> list[Float[Tensor, "b heads e n"]]:
        return [project(x).flatten(2).unflatten(1, (self.heads, -1)) for project in projections]


class FeedForward(nn.Module):
    """FFN: widen, depthwise 3x3, narrow."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * width
        self.widen = conv_bn(width, hidden)
        self.dw = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.ReLU6()
        self.narrow = conv_bn(hidden, width)

    def forward(self, x: Map) -> Map:
        return self.narrow(self.act(self.dw(self.widen(x))))


class BottleneckBlock(nn.Module):
    """`x + NA(x)`, then `x + FFN(x)`; the ablation without nested attention keeps the second only."""

    def __init__(self, width: int, drop_path: float, c: LeMoReDecoderConfig) -> None:
        super().__init__()
        self.attention = NestedAttention(width, c) if c.nested_attention else None
        self.ffn = FeedForward(width, c.ffn_expansion)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Map) -> Map:
        if self.attention is not None:
            x = x + self.drop_path(self.attention(x))
        return x + self.drop_path(self.ffn(x))


class GatedFusion(nn.Module):
    """A stage's local map, gated by the global result and shifted by it."""

    def __init__(self, width: int, fusion_width: int) -> None:
        super().__init__()
        self.local = conv_bn(width, fusion_width)
        self.gate = conv_bn(width, fusion_width)
        self.shift = conv_bn(width, fusion_width)

    def forward(self, x: Map, g: Float[Tensor, "b c _h _w"]) -> Float[Tensor, "b t h w"]:
        size = x.shape[-2:]
        return self.local(x) * resize(self.gate(g).sigmoid(), size) + resize(self.shift(g), size)


class Head(nn.Module):
    """The fused maps resized to one size and added, a 1x1 convolution, the classifier."""

    def __init__(self, num_classes: int, c: LeMoReDecoderConfig) -> None:
        super().__init__()
        groups = c.fusion_width if c.head_depthwise else 1
        self.fuse = conv_bn(c.fusion_width, c.fusion_width, groups=groups)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout2d(c.dropout)
        self.classifier = nn.Conv2d(c.fusion_width, num_classes, 1)

    def forward(self, maps: list[Float[Tensor, "b t _h _w"]], size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        resized = [resize(x, size) for x in maps]
        x = sum(resized[1:], start=resized[0])
        return self.classifier(self.dropout(self.act(self.fuse(x))))


class LeMoReDecoder(nn.Module):
    """Maps `(B, C_i, H_i, W_i)`, finest first, to logits at 1/8 (or at the next finer stride there is)."""

    def __init__(
        self,
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        num_classes: int,
        c: LeMoReDecoderConfig,
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.target = max((i for i, stride in enumerate(strides) if stride <= 8), default=0)
        rates = drop_path_rates(c.drop_path, c.blocks)
        self.blocks = nn.ModuleList([BottleneckBlock(sum(widths), rate, c) for rate in rates])
        self.fusions = nn.ModuleList([GatedFusion(width, c.fusion_width) for width in widths])
        self.head = Head(num_classes, c)
        self.apply(initialise)

    def forward(self, features: list[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b k h w"]:
        g = self.pool(features)
        for block in self.blocks:
            g = block(g)
        slices = g.split(self.widths, dim=1)  # each stage gets its own channels back
        fused = [fusion(x, s) for fusion, x, s in zip(self.fusions, features, slices, strict=True)]
        return self.head(fused, features[self.target].shape[-2:])

    def pool(self, features: list[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b _d _p _q"]:
        """All maps averaged to half the coarsest one's sides, rounded up, and concatenated."""
        height, width = features[-1].shape[-2:]
        size = ((height + 1) // 2, (width + 1) // 2)
        return torch.cat([nn.functional.adaptive_avg_pool2d(x, size) for x in features], dim=1)

    def parts(self) -> dict[str, nn.Module]:
        """Bottleneck blocks, fusions and head, in the order they run."""
        blocks = {f"bottleneck{i + 1}": block for i, block in enumerate(self.blocks)}
        return blocks | {f"fusion{i + 1}": fusion for i, fusion in enumerate(self.fusions)} | {"head": self.head}
