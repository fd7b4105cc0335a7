"""LALE's all-MLP decoder: every map projected to one width, resized to the finest, fused, classified.

After SegFormer's (Xie et al. 2021, arXiv 2105.15203), with the details fitted to the figures of LALE
(arXiv 2606.02092).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archs.fields import require_choice, require_positive, require_rates
from archs.layers import ACTIVATIONS, NORMS, make_act, make_norm, resize

FUSIONS = ("concat", "sum")


@dataclass(frozen=True)
class MLPDecoderConfig:
    """Fields of the all-MLP decoder; the defaults are LALE's.

    `fusion`: "concat" stacks the projected maps and mixes them by a 1x1 convolution; "sum" adds them, which spans
    the same linear maps with fewer weights and a tenth of the arithmetic.
    """

    family: ClassVar[str] = "mlp"
    width: int = 128
    fusion: str = "concat"
    norm: str = "batchnorm"
    act: str = "starrelu"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require_choice(self, "fusion", FUSIONS)
        require_choice(self, "norm", NORMS)
        require_choice(self, "act", ACTIVATIONS)
        require_positive(self, "width")
        require_rates(self, "dropout")

    def build_decoder(self, widths: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> "MLPDecoder":
        """The decoder for maps of `widths`, whatever their strides."""
        return MLPDecoder(widths, num_classes, self)


class MLPDecoder(nn.Module):
    """Maps `(N, C_i, H_i, W_i)`, finest first, to logits `(N, K, H_1, W_1)`."""

    def __init__(self, widths: tuple[int, ...], num_classes: int, config: MLPDecoderConfig) -> None:
        super().__init__()
        self.fusion = config.fusion
        self.project = nn.ModuleList([nn.Conv2d(width, config.width, 1) for width in widths])
        if config.fusion == "concat":
            self.fuse = nn.Conv2d(len(widths) * config.width, config.width, 1)
        self.norm = make_norm(config.norm, config.width)
        self.act = make_act(config.act)
        self.dropout = nn.Dropout2d(config.dropout)
        self.head = nn.Conv2d(config.width, num_classes, 1)

    def forward(self, features: list[Float[Tensor, "n _c _h _w"]]) -> Float[Tensor, "n k h w"]:
        return self.head(self.dropout(self.act(self.norm(self._fused(features)))))

    def _fused(self, features: list[Float[Tensor, "n _c _h _w"]]) -> Float[Tensor, "n d h w"]:
        size = features[0].shape[-2:]
        if self.fusion == "concat" and self.training:
            return self._multiplied_out(features, size)
        maps = [resize(project(x), size) for project, x in zip(self.project, features, strict=True)]
        return self.fuse(torch.cat(maps, dim=1)) if self.fusion == "concat" else sum(maps[1:], start=maps[0])

    def _multiplied_out(
        self, features: list[Float[Tensor, "n _c _h _w"]], size: Sequence[int]
    ) -> Float[Tensor, "n d h w"]:
        """The same map in training, where nearly half of LALE-S1's arithmetic would go into `fuse` at the finest map.

        Projection, resizing and fusion are linear and a resize keeps constants, so that each map may be projected by
        the product of both weights, at its own size, and the results added.
        """
        mixing = self.fuse.weight.flatten(1).chunk(len(self.project), dim=1)  # (D, D) for each map
        bias: Any = self.fuse.bias
        maps = []
        project: Any
        for mix, project, x in zip(mixing, self.project, features, strict=True):
            weight = (mix @ project.weight.flatten(1))[:, :, None, None]  # (D, C, 1, 1)
            maps.append(resize(F.conv2d(x, weight, mix @ project.bias + bias), size))
            bias = 0  # once
        return sum(maps[1:], start=maps[0])
