"""Layers that several architectures really share: norms, activations, attention, stochastic depth, resizing, padding.

Maps are `(N, C, H, W)` throughout; a norm named here normalises over the channels of a map."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archs.gradients import RMSNormFunction, StarReLUFunction, by_hand


class RMSNorm(nn.Module):
    """Root-mean-square norm over the channels at each position: `x / sqrt(mean_c(x^2) + eps) * weight`, no bias.

    Written out, as the LALE figures presume (Zhang and Sennrich 2019, arXiv 1910.07467).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if by_hand(self, x):
            return RMSNormFunction.apply(x, self.weight, self.eps)
        mean_square = x.pow(2).mean(dim=1, keepdim=True)
        return x * torch.rsqrt(mean_square + self.eps) * self.weight[:, None, None]


class LayerNorm2d(nn.Module):
    """Layer norm over the channels at each position, as one fused operator (Ba et al. 2016, arXiv 1607.06450)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        x = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        x = F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class BatchRMSNorm(nn.BatchNorm2d):
    """RMSNorm over a whole batch of maps: `x / sqrt(mean(x^2) + eps) * weight + bias`, one mean square for all of it.

    A batch norm that does not centre, as PowerNorm (Shen et al. 2020, arXiv 2003.07845), and that divides all channels
    by the same number, as extended batch norm (Luo et al. 2020, arXiv 2003.05569). Evaluation is a batch norm to every
    tool, and folds as one: `running_var` holds the running mean square for each channel, `running_mean` stays zero.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if not self.training:
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32))
        square = length.square() / x.numel()
        self._remember(square.detach())
        scale = (self.weight * torch.rsqrt(square + self.eps)).to(x.dtype)
        return torch.addcmul(self.bias.to(x.dtype)[:, None, None], x, scale[:, None, None])

    def _remember(self, square: Float[Tensor, ""]) -> None:
        count, average = self.num_batches_tracked, self.running_var
        assert count is not None and average is not None  # of a norm that is made by `make_norm`
        count.add_(1)
        average.lerp_(square.to(average.dtype), 1 / int(count) if self.momentum is None else self.momentum)


class StarReLU(nn.Module):
    """`scale * relu(x)^2 + shift` with one learned scale and shift (Yu et al. 2022, arXiv 2210.13452).

    The initial values give unit variance and zero mean on a standard normal input.
    """

    def __init__(self, scale: float = 0.8944, shift: float = -0.4472) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([scale]))
        self.shift = nn.Parameter(torch.tensor([shift]))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if by_hand(self, x):
            return StarReLUFunction.apply(x, self.scale, self.shift)
        return self.scale * F.relu(x) ** 2 + self.shift


def _group_norm(channels: int) -> nn.GroupNorm:
    """Groups of 16 channels (Wu and He 2018, arXiv 1803.08494), or of the largest power of two that divides."""
    return nn.GroupNorm(max(1, channels // math.gcd(channels, 16)), channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "rmsnorm": RMSNorm,
    "layernorm": LayerNorm2d,
    "batchnorm": nn.BatchNorm2d,
    "groupnorm": _group_norm,
    "batchrms": BatchRMSNorm,
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "starrelu": StarReLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,  # Howard et al. 2019, arXiv 1905.02244: silu of straight pieces, which keeps in int8
}


def make_norm(name: str, channels: int) -> nn.Module:
    """The norm called `name` (see `NORMS`) over `channels` channels of a map."""
    return NORMS[name](channels)


def make_act(name: str) -> nn.Module:
    """The activation called `name` (see `ACTIVATIONS`)."""
    return ACTIVATIONS[name]()


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch of a sample with probability `rate` in training, rescaling the rest.

    Huang et al. 2016, arXiv 1603.09382.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask / keep

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def _explicit_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    weights = (q * scale) @ k.transpose(-2, -1)  # (..., Lq, Lk)
    return weights.softmax(dim=-1) @ v


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


ATTENTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "explicit": _explicit_attention,
    "fused": _fused_attention,
}


def attend(
    mode: str,
    q: Float[Tensor, "*b lq d"],
    k: Float[Tensor, "*b lk d"],
    v: Float[Tensor, "*b lk e"],
    scale: float,
) -> Float[Tensor, "*b lq e"]:
    """`softmax(scale * q k^T) v`, as two matrix products ("explicit") or one operator ("fused"): the same function.

    Counters differ on the two: fvcore and thop see nothing of the fused one.
    """
    return ATTENTIONS[mode](q, k, v, scale)


def resize(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c _h _w"]:
    """Bilinear, half-pixel centres; the identity (no operator at all) where the size already fits."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    resized = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    if resized.requires_grad and resized.device.type == "cpu" and not torch.compiler.is_compiling():
        resized.register_hook(_dense)
    return resized


def _dense(gradient: Tensor) -> Tensor:
    """A gradient that is a slice of a concatenation, laid out on its own: on a CPU the resize's backward pass is
    over ten times slower on the slice, a fifth of a whole training step of LALE."""
    return gradient.contiguous(memory_format=torch.channels_last) if gradient.stride(1) == 1 else gradient


def drop_path_rates(maximum: float, blocks: int) -> list[float]:
    """Rates rising linearly from 0 to `maximum` over the blocks of a network, in order."""
    return [maximum * i / max(1, blocks - 1) for i in range(blocks)]


def reflect_pad(
    x: Float[Tensor, "n c h w"], left: int, right: int, top: int, bottom: int
) -> Float[Tensor, "n c _h _w"]:
    """Mirror the map about its border pixels; an axis with no more pixels than padding repeats its edge instead.

    (Reflection is only defined for less padding than pixels; the other case is met on maps of a few pixels.)
    """
    h, w = x.shape[-2:]
    row_mode = "reflect" if max(top, bottom) < h else "replicate"
    column_mode = "reflect" if max(left, right) < w else "replicate"
    if row_mode == column_mode:
        return F.pad(x, (left, right, top, bottom), mode=row_mode)
    x = F.pad(x, (left, right, 0, 0), mode=column_mode)
    return F.pad(x, (0, 0, top, bottom), mode=row_mode)


def pad_edges(x: Float[Tensor, "n c h w"], multiple: int) -> Float[Tensor, "n c _h _w"]:
    """Repeat the edge to the right and below up to a multiple of both sides; nothing where they fit already."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def pad_to_multiple(x: Float[Tensor, "n c h w"], multiple: int) -> Float[Tensor, "n c _h _w"]:
    """Reflect the right and bottom border up to the next multiple of both sides; nothing where they fit already."""
    right, bottom = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return reflect_pad(x, 0, right, 0, bottom) if right or bottom else x
