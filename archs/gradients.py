"""Norm and activation for training, with gradients written by hand: the same functions in half the passes over memory.

On a CPU a small network's training is bound by such passes. What PyTorch derives from the written-out forward makes a
map for each of its operators; here each gradient reuses what the forward pass has kept. Values agree with those of
`archs.layers` to the last bits.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def by_hand(module: torch.nn.Module, x: Tensor) -> bool:
    """Whether to take the functions here: in training and in float32; whoever counts or exports sees operators."""
    return module.training and x.requires_grad and x.dtype == torch.float32 and not torch.compiler.is_compiling()


class StarReLUFunction(torch.autograd.Function):
    """`scale * relu(x)^2 + shift`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Float[Tensor, "1"], shift: Float[Tensor, "1"]) -> Tensor:
        """Keeps relu(x) alone."""
        positive = F.relu(x)
        ctx.save_for_backward(positive, scale)
        return torch.addcmul(shift, positive, positive * scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """2 scale relu(x) g; sum of relu(x)^2 g; sum of g."""
        positive, scale = ctx.saved_tensors
        slope = gradient * positive
        of_scale = (slope * positive).sum().view_as(scale)
        return slope.mul_(2 * scale), of_scale, gradient.sum().view_as(scale)


class RMSNormFunction(torch.autograd.Function):
    """`x / sqrt(mean_c(x^2) + eps) * weight` over the channels of a map."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "n c h w"], weight: Float[Tensor, " c"], eps: float) -> Tensor:
        """Keeps the normed map n = x r, and r of each position."""
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        inverse = length.square_().div_(x.shape[1]).add_(eps).rsqrt_()  # (N, 1, H, W)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight[:, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor, None]:
        """r (w g - n mean_c(w g n)); sum over positions of g n."""
        normed, inverse, weight = ctx.saved_tensors
        product = gradient * normed
        mean = (product.permute(0, 2, 3, 1) @ (weight / len(weight))).unsqueeze(1)  # (N, 1, H, W)
        of_x = (gradient * weight[:, None, None]).addcmul_(normed, mean, value=-1).mul_(inverse)
        return of_x, product.sum(dim=(0, 2, 3)), None
