"""The four paths of LWGANet's group attention: point (GPA), local (RLA), medium range (SMA), global (SGA).

Each takes one quarter of a block's channels, `width` of them, and keeps the map's shape. Residuals and the norm
after them belong to the block (`archs.lwganet.LWGABlock`). Lu et al. 2026, arXiv 2501.10040.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from archs.layers import attend, make_act, reflect_pad


class GPA(nn.Module):
    """Gate point attention: every pixel weighs its own channels, `x * sigmoid(narrow(act(norm(widen(x)))))`."""

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        self.widen = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm = nn.BatchNorm2d(4 * width)
        self.act = make_act(act)
        self.narrow = nn.Conv2d(4 * width, width, 1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x * self.narrow(self.act(self.norm(self.widen(x)))).sigmoid()


class RLA(nn.Sequential):
    """Regular local attention: a dense 3x3 convolution, norm, activation."""

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = make_act(act)


class BlurPool(nn.Module):
    """Every third pixel of the map blurred by the fixed kernel `outer([1,3,3,1], [1,3,3,1]) / 64`.

    After Zhang 2019, arXiv 1904.11486. Sides become `ceil(side / 3)`.
    """

    kernel: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = torch.outer(row, row) / 64
        self.register_buffer("kernel", kernel.repeat(width, 1, 1, 1), persistent=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c _h _w"]:
        x = reflect_pad(x, left=1, right=2, top=1, bottom=2)
        return F.conv2d(x, self.kernel, stride=3, groups=x.shape[1])


def shear(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h _w"]:
    """Row i shifted right by i, `out[i, i + j] = x[i, j]`, zeros elsewhere: `(H, W)` to `(H, W + H - 1)`."""
    h, w = x.shape[-2:]
    flat = F.pad(x, (0, h)).flatten(-2)[..., :-h]  # rows of W + H, cut again into rows of one less
    return flat.unflatten(-1, (h, w + h - 1))


def unshear(x: Float[Tensor, "n c h _w"]) -> Float[Tensor, "n c h w"]:
    """The inverse of `shear`, `out[i, j] = x[i, i + j]`: `(H, W + H - 1)` to `(H, W)`."""
    h, sheared = x.shape[-2:]
    rows = F.pad(x.flatten(-2), (0, h)).unflatten(-1, (h, sheared + 1))
    return rows[..., : sheared - h + 1]


class SMA(nn.Module):
    """Sparse medium-range attention: a gate from long strips, straight and diagonal, of a map a third the size.

    A strip convolution on a sheared map runs along the diagonals of the map itself. Any height and width.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        tall: dict[str, Any] = {"kernel_size": (kernel, 3), "padding": (kernel // 2, 1), "groups": width, "bias": False}
        wide: dict[str, Any] = {"kernel_size": (3, kernel), "padding": (1, kernel // 2), "groups": width, "bias": False}
        self.blur = BlurPool(width)
        self.tall = nn.Conv2d(width, width, **tall)
        self.wide = nn.Conv2d(width, width, **wide)
        self.tall_diagonal = nn.Conv2d(width, width, **tall)
        self.wide_diagonal = nn.Conv2d(width, width, **wide)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        small = self.blur(F.max_pool2d(x, 3, stride=1, padding=1))  # (N, C, H/3, W/3), rounded up
        right = unshear(self.tall_diagonal(shear(small)))
        down = unshear(self.wide_diagonal(shear(small.mT).mT).mT).mT
        gate = self.norm(self.tall(small) + self.wide(small) + right + down).sigmoid()
        return x * F.interpolate(gate, size=x.shape[-2:], mode="nearest")


class TGFI(nn.Module):
    """Top-K global feature interaction, K = 1: run `inner` on the maximum of every 2x2 region only.

    Results go back to the positions the maxima came from, zeros elsewhere; of an odd side the last row or column
    stays zero. (Scattering is `max_unpool2d` with a deterministic form on every device.)
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        top, positions = F.max_pool2d(x, 2, stride=2, return_indices=True)  # (N, C, H/2, W/2), rounded down
        return _put_back(self.inner(top), positions, x.shape[-2:])


def _put_back(
    values: Float[Tensor, "n c p q"], positions: Int64[Tensor, "n c p q"], size: Sequence[int]
) -> Float[Tensor, "n c h w"]:
    n, c = values.shape[:2]
    flat = values.new_zeros(n, c, size[0] * size[1])
    return flat.scatter_(2, positions.flatten(2), values.flatten(2)).unflatten(2, size)


class LargeKernelSelection(nn.Module):
    """What stages 1 and 2 run on the maxima: every pixel chooses between a middle and a large receptive field.

    After the selective large-kernel network (Li et al. 2023, arXiv 2303.09030).
    """

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width, width, 1)
        self.act = make_act(act)
        self.middle = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.large = nn.Conv2d(width, width, 7, padding=9, dilation=3, groups=width)
        self.narrow_middle = nn.Conv2d(width, width // 2, 1)
        self.narrow_large = nn.Conv2d(width, width // 2, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.widen = nn.Conv2d(width // 2, width, 1)
        self.leave = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        query = self.act(self.enter(x))
        middle = self.middle(query)
        large = self.narrow_large(self.large(middle))  # (N, C/2, H, W)
        middle = self.narrow_middle(middle)  # (N, C/2, H, W)
        both = torch.cat([middle, large], dim=1)
        summary = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        for_middle, for_large = self.select(summary).sigmoid().chunk(2, dim=1)  # each (N, 1, H, W)
        return self.leave(query * self.widen(middle * for_middle + large * for_large))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels of a map, without bias, norm or position."""

    def __init__(self, width: int, head_width: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.head_width = head_width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        _, c, h, w = x.shape
        tokens = x.flatten(2).mT  # (N, HW, C)
        heads = self.qkv(tokens).unflatten(2, (3, c // self.head_width, self.head_width))
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, HW, head_width)
        out = attend(self.mode, q, k, v, self.head_width**-0.5)
        tokens = self.project(out.transpose(1, 2).flatten(2))  # (N, HW, C)
        return tokens.mT.unflatten(2, (h, w))


def make_sga(stage: int, width: int, act: str, head_width: int, mode: str) -> nn.Module:
    """Sparse global attention of stage 1 to 4: large kernels on maxima, attention on maxima, attention on all."""
    if stage <= 2:
        return TGFI(LargeKernelSelection(width, act))
    attention = SelfAttention(width, head_width, mode)
    return attention if stage == 4 else TGFI(nn.Sequential(attention, nn.BatchNorm2d(width)))
