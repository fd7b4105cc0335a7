"""LeMeViT: a hierarchical vision transformer with a few learned meta tokens beside the image tokens.

Jiang et al. 2024, IJCAI, arXiv 2405.09789. Five stages: cross-attention (the meta tokens read the image), twice dual
cross-attention (each stream queries the other, linear in the pixels), twice self-attention. Throughout, x is the
image, `(B, D, H, W)` as a map and `(B, N, D)` as tokens, and c the meta tokens, `(B, M, D)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.fields import require_choice, require_positive, require_rates, require_stages
from archs.layers import ATTENTIONS, DropPath, attend, drop_path_rates
from archs.registry import Provenance

PROVENANCE = Provenance(
    paper="arXiv 2405.09789",
    year=2024,
    source="https://github.com/ViTAE-Transformer/LeMeViT",
    licence="MIT (this implementation); the authors' code and weights: for research purposes only",
)

MINIMUM_SIDE = 9  # below, the 1/8 map has one position

Tokens = Float[Tensor, "b n d"]
Meta = Float[Tensor, "b m d"]
Map = Float[Tensor, "b d h w"]


@dataclass(frozen=True)
class LeMeViTConfig:
    """Depths and widths of the five stages and what they share; the defaults are LeMeViT-Tiny."""

    family: ClassVar[str] = "lemevit"
    depths: tuple[int, ...] = (1, 2, 2, 8, 2)
    widths: tuple[int, ...] = (64, 64, 128, 192, 320)
    mlp_ratio: int = 4  # of the blocks and of the meta-token transitions
    meta_tokens: int = 16
    head_width: int = 32
    drop_path: float = 0.15  # at the last block, rising linearly from 0 over all blocks
    attention: str = "fused"  # or "explicit": the same function, but counters differ on it

    def __post_init__(self) -> None:
        require_choice(self, "attention", ATTENTIONS)
        require_stages(self, 5, "depths", "widths")
        require_positive(self, "mlp_ratio", "meta_tokens", "head_width")
        require_rates(self, "drop_path")
        if self.widths[0] != self.widths[1]:
            raise ArchError(f"widths={self.widths}: no convolution stands between the first two; make them equal")
        if any(width % self.head_width for width in self.widths) or self.widths[0] % 2:
            raise ArchError(
                f"widths={self.widths}: give even multiples of head_width={self.head_width}, or change the head width"
            )

    def build_encoder(self, in_channels: int) -> "LeMeViTEncoder":
        """The dense-prediction backbone: four maps of strides 4, 8, 16, 32."""
        return LeMeViTEncoder(self, in_channels)

    def build_classifier(self, num_classes: int, in_channels: int) -> "LeMeViTClassifier":
        """The published classifier: logits from the mean image token plus the mean meta token."""
        return LeMeViTClassifier(self, num_classes, in_channels)


VARIANTS = {
    "lemevit-tiny": LeMeViTConfig(),
    "lemevit-small": LeMeViTConfig(depths=(1, 2, 2, 6, 2), widths=(96, 96, 192, 320, 384)),
    "lemevit-base": LeMeViTConfig(depths=(2, 4, 4, 18, 4), widths=(96, 96, 192, 384, 512)),
}


def _heads(tokens: Tokens, parts: int, head_width: int) -> tuple[Tensor, ...]:
    """`(B, N, parts x D)` in the order (part, head, channel) to `parts` tensors `(B, heads, N, head_width)`."""
    return tokens.unflatten(-1, (parts, -1, head_width)).permute(2, 0, 3, 1, 4).unbind(0)


def _join(heads: Float[Tensor, "b heads n e"]) -> Tokens:
    return heads.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """CA: the meta tokens query the image, `softmax(q k^T / sqrt(head_width)) v`."""

    def __init__(self, width: int, c: LeMeViTConfig) -> None:
        super().__init__()
        self.mode, self.head_width = c.attention, c.head_width
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tokens, c: Meta) -> Meta:
        (q,) = _heads(self.query(c), 1, self.head_width)  # (B, heads, M, head_width)
        k, v = _heads(self.key_value(x), 2, self.head_width)  # each (B, heads, N, head_width)
        return self.out(_join(attend(self.mode, q, k, v, self.head_width**-0.5)))


class DualCrossAttention(nn.Module):
    """DCA: the image queries the meta tokens, the meta tokens query the image; both read the inputs as they came.

    The scales are the official code's: the full width's `d^-0.5` for the meta tokens, and `ln M / ln N` times that
    for the image, so that the softmax sharpens less the more image tokens there are.

    Raises:
        ArchError: a map of one position, where the logarithm is 0.
    """

    def __init__(self, width: int, c: LeMeViTConfig) -> None:
        super().__init__()
        self.mode, self.head_width = c.attention, c.head_width
        self.scale = width**-0.5
        self.image_qkv = nn.Linear(width, 3 * width)
        self.meta_qkv = nn.Linear(width, 3 * width)
        self.image_out = nn.Linear(width, width)
        self.meta_out = nn.Linear(width, width)

    def forward(self, x: Tokens, c: Meta) -> tuple[Tokens, Meta]:
        q1, k1, v1 = _heads(self.image_qkv(x), 3, self.head_width)
        q2, k2, v2 = _heads(self.meta_qkv(c), 3, self.head_width)
        to_image = attend(self.mode, q1, k2, v2, self.scale * self._token_ratio(x, c))
        to_meta = attend(self.mode, q2, k1, v1, self.scale)
        return self.image_out(_join(to_image)), self.meta_out(_join(to_meta))

    @staticmethod
    def _token_ratio(x: Tokens, c: Meta) -> float:
        if x.shape[1] < 2:
            raise ArchError(
                "LeMeViT's dual attention is not defined on a map of one position; give an image of more than 8 "
                "pixels a side"
            )
        return math.log(c.shape[1]) / math.log(x.shape[1])


class SelfAttention(nn.Module):
    """SA over one stream of tokens, `softmax(q k^T / sqrt(head_width)) v`."""

    def __init__(self, width: int, c: LeMeViTConfig) -> None:
        super().__init__()
        self.mode, self.head_width = c.attention, c.head_width
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tokens) -> Tokens:
        q, k, v = _heads(self.qkv(tokens), 3, self.head_width)
        return self.out(_join(attend(self.mode, q, k, v, self.head_width**-0.5)))


class Block(nn.Module):
    """The skeleton of all blocks: a convolutional position term, two norms and an MLP that x and c share."""

    attention_class: ClassVar[type[nn.Module]]

    def __init__(self, width: int, drop_path: float, c: LeMeViTConfig) -> None:
        super().__init__()
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = self.attention_class(width, c)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, c.mlp_ratio * width), nn.GELU(), nn.Linear(c.mlp_ratio * width, width)
        )
        self.drop_path = DropPath(drop_path)

    def tokens(self, x: Map) -> Tokens:
        """The map with its position term, flattened row by row."""
        return (x + self.position(x)).flatten(2).transpose(1, 2)  # (B, N, D)

    def add(self, tokens: Tokens, attended: Tokens) -> Tokens:
        """The two residual branches: attention, already computed, then the MLP."""
        tokens = tokens + self.drop_path(attended)
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


def _map(tokens: Tokens, like: Map) -> Map:
    return tokens.transpose(1, 2).unflatten(2, like.shape[-2:])  # (B, D, H, W)


class CrossBlock(Block):
    """C block: only the meta tokens change; the map leaves as it came, the position term left out."""

    attention_class = CrossAttention

    def forward(self, x: Map, c: Meta) -> tuple[Map, Meta]:
        tokens = self.tokens(x)
        return x, self.add(c, self.attention(self.norm1(tokens), self.norm1(c)))


class DualBlock(Block):
    """D block: dual cross-attention, both directions computed before either stream changes."""

    attention_class = DualCrossAttention

    def forward(self, x: Map, c: Meta) -> tuple[Map, Meta]:
        tokens = self.tokens(x)
        to_image, to_meta = self.attention(self.norm1(tokens), self.norm1(c))
        return _map(self.add(tokens, to_image), x), self.add(c, to_meta)


class SelfBlock(Block):
    """S block: self-attention within each stream, the same weights for both; they do not see each other."""

    attention_class = SelfAttention

    def forward(self, x: Map, c: Meta) -> tuple[Map, Meta]:
        return self.image(x), self.stream(c)

    def image(self, x: Map) -> Map:
        """The image's share."""
        return _map(self.stream(self.tokens(x)), x)

    def stream(self, tokens: Tokens) -> Tokens:
        """Attention and MLP over one stream of tokens."""
        return self.add(tokens, self.attention(self.norm1(tokens)))


class ImageSelfBlock(SelfBlock):
    """S block of the dense form: no map depends on the meta tokens from here on, so they pass unchanged."""

    def forward(self, x: Map, c: Meta) -> tuple[Map, Meta]:
        return self.image(x), c


class Stage(nn.Module):
    """The transition of the image, the transition of the meta tokens, then the blocks."""

    def __init__(self, down: nn.Module, transition: nn.Module, blocks: list[Block]) -> None:
        super().__init__()
        self.down = down
        self.transition = transition
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Map, c: Meta) -> tuple[Float[Tensor, "b d_next h_next w_next"], Float[Tensor, "b m d_next"]]:
        x, c = self.down(x), self.transition(c)
        for block in self.blocks:
            x, c = block(x, c)
        return x, c


class MetaTokens(nn.Module):
    """The learned table of meta tokens, `(M, D)`, the same for every image of a batch."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(count, width))

    def forward(self, batch: int) -> Meta:
        return self.table.repeat(batch, 1, 1)


def _stem(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width // 2, 3, stride=2, padding=1),
        nn.BatchNorm2d(width // 2),
        nn.GELU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
    )


def _down(before: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, width, 3, stride=2, padding=1), nn.BatchNorm2d(width))


def _transition(before: int, width: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, ratio * before),
        nn.LayerNorm(ratio * before),
        nn.GELU(),
        nn.Linear(ratio * before, width),
        nn.LayerNorm(width),
    )


def _stages(c: LeMeViTConfig, self_block: type[SelfBlock]) -> list[Stage]:
    kinds: tuple[Callable[..., Any], ...] = (CrossBlock, DualBlock, DualBlock, self_block, self_block)
    rates = iter(drop_path_rates(c.drop_path, sum(c.depths)))
    befores = (c.widths[0], *c.widths[:-1])
    stages = []
    for i, (kind, before, width, depth) in enumerate(zip(kinds, befores, c.widths, c.depths, strict=True)):
        down = nn.Identity() if i < 2 else _down(before, width)
        blocks = [kind(width, next(rates), c) for _ in range(depth)]
        stages.append(Stage(down, _transition(before, width, c.mlp_ratio), blocks))
    return stages


class LeMeViT(nn.Module):
    """What the dense form and the classifier share: all but the head. Any H and W over 8."""

    self_block: ClassVar[type[SelfBlock]] = SelfBlock

    def __init__(self, config: LeMeViTConfig, in_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.stem = _stem(in_channels, config.widths[0])
        self.meta_tokens = MetaTokens(config.meta_tokens, config.widths[0])
        self.stages = nn.ModuleList(_stages(config, self.self_block))
        self.norm = nn.BatchNorm2d(config.widths[-1])
        self.norm_meta = nn.LayerNorm(config.widths[-1])
        self.apply(_initialise)

    def run(self, x: Float[Tensor, "b c h w"]) -> list[tuple[Float[Tensor, "b _d _h _w"], Float[Tensor, "b m _d"]]]:
        """Map and meta tokens after each of the five stages."""
        x, c = self.stem(x), self.meta_tokens(x.shape[0])
        outputs = []
        for stage in self.stages:
            x, c = stage(x, c)
            outputs.append((x, c))
        return outputs

    def parts(self) -> dict[str, nn.Module]:
        """Stem, meta tokens, the five stages with the transitions before them, final norms."""
        stages = {f"stage{i}": stage for i, stage in enumerate(self.stages)}
        norms = {"norm": self.norm, "norm_meta": self.norm_meta}
        return {"stem": self.stem, "meta_tokens": self.meta_tokens, **stages, **norms}


def _initialise(module: nn.Module) -> None:
    """Linears as the authors do; meta tokens, norms and convolutions keep the values they are made with."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class LeMeViTEncoder(LeMeViT):
    """Image `(B, C, H, W)` to the maps after stages 1 to 4: strides 4, 8, 16, 32, sides rounded up, no final norm.

    As in the official backbone, what only the classifier reads is there, counted and partly run, but gets no
    gradient: 2 to 8 % of the whole.
    """

    self_block = ImageSelfBlock
    strides = (4, 8, 16, 32)

    def __init__(self, config: LeMeViTConfig, in_channels: int = 3) -> None:
        super().__init__(config, in_channels)
        self.widths = config.widths[1:]

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _d _h _w"]]:
        return [x for x, _ in self.run(x)[1:]]


class LeMeViTClassifier(LeMeViT):
    """Image `(B, C, H, W)` to logits `(B, K)`, from the mean over pixels plus the mean over meta tokens."""

    def __init__(self, config: LeMeViTConfig, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(config, in_channels)
        self.head = nn.Linear(config.widths[-1], num_classes)
        _initialise(self.head)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        x, c = self.run(x)[-1]
        return self.head(self.norm(x).mean((2, 3)) + self.norm_meta(c).mean(1))

    def parts(self) -> dict[str, nn.Module]:
        """Those of the body, then the head."""
        return {**super().parts(), "head": self.head}
