"""Padding by reflection, defined for every size of map, and by the edge."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


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
