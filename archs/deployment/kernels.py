"""The operators of our own networks in the form that a device runs in the fewest passes over memory.

What multiplies or shifts channels in front of a 1x1 convolution goes into its weights; what is left of RMSNorm is one
kernel where there is one (CUDA; a compiler makes its own), and of StarReLU a relu and a square.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archs.deployment.linear import FoldedMLPDecoder
from archs.deployment.norms import replace, scale_inputs, shift_inputs
from archs.lale import MLP, ConvMixer, ConvMLP, LALEEncoder, Transformer
from archs.layers import RMSNorm, StarReLU

FUSED_ON = ("cuda", "mps")  # devices with a kernel for the whole of RMSNorm
Map = Float[Tensor, "n c h w"]


class FastRMSNorm(nn.Module):
    """`archs.layers.RMSNorm` for inference; `weight` is None where it went into the convolution behind."""

    eps: Tensor

    def __init__(self, channels: int, eps: float, weight: nn.Parameter | None) -> None:
        super().__init__()
        self.channels = channels
        self.weight = weight
        self.register_buffer("eps", torch.tensor(eps), persistent=False)
        self.plain_eps = eps

    def forward(self, x: Map) -> Map:
        weight = None if self.weight is None else self.weight.to(x.dtype)
        if x.device.type in FUSED_ON or torch.compiler.is_compiling():
            return self._fused(x, weight)
        return self._in_two_passes(x, weight)

    def _fused(self, x: Map, weight: Tensor | None) -> Map:
        rows = x.permute(0, 2, 3, 1)  # (N, H, W, C): no copy of a channels-last map
        return F.rms_norm(rows, (self.channels,), weight, self.plain_eps).permute(0, 3, 1, 2)

    def _in_two_passes(self, x: Map, weight: Tensor | None) -> Map:
        """One pass for the length of each position's vector and one to divide by it, without a map of squares."""
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)  # (N, 1, H, W)
        inverse = torch.addcmul(self.eps, length, length, value=1 / self.channels).rsqrt_()
        normed = x * inverse
        return normed if weight is None else normed.mul_(weight[:, None, None])


class SquaredReLU(nn.Module):
    """`relu(x)^2`: StarReLU whose scale and shift went into the convolution behind. Overwrites its input."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x.relu_().square_()


class FastStarReLU(nn.Module):
    """`archs.layers.StarReLU` for inference, in three operators."""

    def __init__(self, act: StarReLU) -> None:
        super().__init__()
        self.scale = act.scale
        self.shift = act.shift

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        x = x.relu()
        return torch.addcmul(self.shift.to(x.dtype), x, x * self.scale.to(x.dtype))


class ChannelsLast(nn.Module):
    """The same map with the channels of a pixel beside each other in memory; every layer behind it keeps to that."""

    def forward(self, x: Map) -> Map:
        return x.contiguous(memory_format=torch.channels_last)


def use_fast_kernels(model: nn.Module) -> None:
    """Rewrite, in place, the blocks of `archs` that are below `model`."""
    with torch.no_grad():
        module: Any
        for module in list(model.modules()):
            if getattr(module, "mode", None) == "explicit" and type(module).__module__.startswith("archs."):
                module.mode = "fused"
            if type(module) in REWRITES:
                REWRITES[type(module)](module)
    norms = {m: _fast_norm(m, m.weight) for m in model.modules() if type(m) is RMSNorm}
    replace(model, norms | {m: FastStarReLU(m) for m in model.modules() if type(m) is StarReLU})


def _fast_norm(norm: RMSNorm, weight: nn.Parameter | None) -> FastRMSNorm:
    return FastRMSNorm(norm.weight.numel(), norm.eps, weight).to(norm.weight.device, norm.weight.dtype)


def _without_weight(norm: nn.Module, convolution: nn.Conv2d) -> nn.Module:
    """The norm with its weight in the 1x1 convolution that alone reads it; norms of other kinds stay."""
    if type(norm) is not RMSNorm:
        return norm
    scale_inputs(convolution, norm.weight.data)
    return _fast_norm(norm, None)


def _without_affine(act: nn.Module, convolution: nn.Conv2d) -> nn.Module:
    """The activation with scale and shift in the 1x1 convolution that alone reads it; other kinds stay."""
    if type(act) is not StarReLU:
        return act
    shift_inputs(convolution, act.shift.data)  # by the weights as they were
    scale_inputs(convolution, act.scale.data)
    return SquaredReLU()


def _mixer(block: ConvMixer) -> None:
    block.norm1 = _without_weight(block.norm1, block.pw1)
    block.act = _without_affine(block.act, block.pw2)


def _mlp(block: MLP) -> None:
    block.norm = _without_weight(block.norm, block.pw1)
    block.act = _without_affine(block.act, block.pw2)


def _conv_mlp(block: ConvMLP) -> None:
    block.act = _without_affine(block.act, block.pw2)


def _transformer(block: Transformer) -> None:
    block.norm1 = _without_weight(block.norm1, block.attention.qkv)
    block.norm2 = _without_weight(block.norm2, block.mlp.pw1)


def _encoder(encoder: LALEEncoder) -> None:
    encoder.stem = nn.Sequential(ChannelsLast(), *encoder.stem)


def _decoder(decoder: FoldedMLPDecoder) -> None:
    decoder.act = _without_affine(decoder.act, decoder.head)


REWRITES: dict[type[nn.Module], Callable[[Any], None]] = {
    ConvMixer: _mixer,
    MLP: _mlp,
    ConvMLP: _conv_mlp,
    Transformer: _transformer,
    LALEEncoder: _encoder,
    FoldedMLPDecoder: _decoder,
}
