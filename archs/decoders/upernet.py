"""UPerNet: pyramid pooling on the coarsest map, a feature pyramid down to the finest, and an auxiliary head.

Xiao et al. 2018, arXiv 1807.10221, in the form MMSegmentation made common (its UPerHead with an FCNHead beside it).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.fields import require, require_positive, require_rates
from archs.layers import resize
from archs.segmenter import require_pyramid

Map = Float[Tensor, "n c h w"]


@dataclass(frozen=True)
class UPerNetConfig:
    """Fields of UPerNet; the defaults are those LeMeViT was published with."""

    family: ClassVar[str] = "upernet"
    width: int = 512
    pool_bins: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1  # of both heads
    aux_width: int = 256
    aux_weight: float = 0.4  # of the auxiliary head's loss

    def __post_init__(self) -> None:
        require_positive(self, "width", "aux_width")
        require(min(self.pool_bins, default=0) >= 1, self, "pool_bins", "numbers of at least 1")
        require_rates(self, "dropout")

    @property
    def min_train_batch(self) -> int:
        """The smallest batch that batch norm can train on: a pooling of one bin leaves one value an image."""
        return 2 if 1 in self.pool_bins else 1

    def build_decoder(self, widths: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> "UPerNet":
        """The decoder for maps of `widths`, finest first.

        Raises:
            ArchError: fewer than two maps, or strides that do not grow from map to map (a plain transformer).
        """
        require_pyramid("UPerNet", strides)
        return UPerNet(widths, num_classes, self)


def _cbr(before: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


class PyramidPooling(nn.Module):
    """The map beside its averages over grids of several sizes, mixed by one 3x3 convolution."""

    def __init__(self, before: int, config: UPerNetConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [nn.Sequential(nn.AdaptiveAvgPool2d(b), _cbr(before, config.width, 1)) for b in config.pool_bins]
        )
        self.mix = _cbr(before + len(config.pool_bins) * config.width, config.width, 3)

    def forward(self, x: Map) -> Float[Tensor, "n d h w"]:
        pooled = [resize(branch(x), x.shape[-2:]) for branch in self.branches]
        return self.mix(torch.cat([x, *pooled], dim=1))


class UPerNet(nn.Module):
    """Maps `(N, C_i, H_i, W_i)`, finest first, to logits `(N, K, H_1, W_1)`; trains on batches of at least 2.

    `forward_aux` gives the auxiliary logits too; their loss is weighed by `aux_weight`.
    """

    def __init__(self, widths: tuple[int, ...], num_classes: int, config: UPerNetConfig) -> None:
        super().__init__()
        width = config.width
        self.aux_weight = config.aux_weight
        self.min_train_batch = config.min_train_batch
        self.pyramid = PyramidPooling(widths[-1], config)
        self.laterals = nn.ModuleList([_cbr(before, width, 1) for before in widths[:-1]])
        self.smooth = nn.ModuleList([_cbr(width, width, 3) for _ in widths[:-1]])
        self.fuse = _cbr(len(widths) * width, width, 3)
        self.head = nn.Sequential(nn.Dropout2d(config.dropout), nn.Conv2d(width, num_classes, 1))
        self.aux_head = nn.Sequential(
            _cbr(widths[-2], config.aux_width, 3),
            nn.Dropout2d(config.dropout),
            nn.Conv2d(config.aux_width, num_classes, 1),
        )

    def forward(self, features: list[Float[Tensor, "n _c _h _w"]]) -> Float[Tensor, "n k h w"]:
        self._check_batch(features[-1])
        levels = [lateral(x) for lateral, x in zip(self.laterals, features[:-1], strict=True)]
        levels.append(self.pyramid(features[-1]))
        for i in range(len(levels) - 1, 0, -1):  # top-down: each level takes the coarser one's sum
            levels[i - 1] = levels[i - 1] + resize(levels[i], levels[i - 1].shape[-2:])
        outputs = [smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)]
        outputs.append(levels[-1])
        size = features[0].shape[-2:]
        return self.head(self.fuse(torch.cat([resize(x, size) for x in outputs], dim=1)))

    def forward_aux(self, features: list[Float[Tensor, "n _c _h _w"]]) -> tuple[Tensor, Tensor]:
        """Logits, and those of the auxiliary head at the stride of the second coarsest map."""
        return self(features), self.aux_head(features[-2])

    def parts(self) -> dict[str, nn.Module]:
        """In the order they run; the auxiliary head last."""
        return {
            "pyramid": self.pyramid,
            "laterals": self.laterals,
            "smooth": self.smooth,
            "fuse": self.fuse,
            "head": self.head,
            "aux_head": self.aux_head,
        }

    def _check_batch(self, coarsest: Map) -> None:
        if self.training and coarsest.shape[0] < self.min_train_batch:
            raise ArchError(
                "UPerNet cannot train on a batch of 1: the batch norm of its one-bin pooling would see one value; "
                "give at least 2 images a batch"
            )
