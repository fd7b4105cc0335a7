"""Decoders that project each map, resize, stack and mix: all linear, so one projection a map does it.

A bilinear resize weighs pixels by numbers that sum to one, alike for all channels. Hence it commutes with every 1x1
convolution, bias included, and projection, mixing and a batch norm behind it multiply out to one 1x1 convolution for
each map, run at that map's own resolution (or after the resize, of a map finer than the sum); the results are added.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs.decoders.mlp import MLPDecoder
from archs.deployment.norms import PLAIN_NORMS, add_bias, affine, replace, scale_outputs
from archs.layers import resize

Maps = list[Float[Tensor, "n _c _h _w"]]


class FoldedMLPDecoder(nn.Module):
    """`archs.decoders.mlp.MLPDecoder` for inference, whichever its fusion was: maps, finest first, to logits."""

    def __init__(self, project: Sequence[nn.Conv2d], norm: nn.Module, act: nn.Module, head: nn.Conv2d) -> None:
        super().__init__()
        self.project = nn.ModuleList(project)
        self.norm = norm
        self.act = act
        self.head = head

    def forward(self, features: Maps) -> Float[Tensor, "n k h w"]:
        x = project_and_add(self.project, features, features[0].shape[-2:])
        return self.head(self.act(self.norm(x)))


class FoldedSegformerDecoder(nn.Module):
    """The Segformer decoder of segmentation_models_pytorch for inference: the encoder's maps to one of stride 4.

    `project` is for the maps finest first; of the encoder's maps the last as many are used, the image and any map
    without channels left out.
    """

    def __init__(self, project: Sequence[nn.Conv2d], act: nn.Module) -> None:
        super().__init__()
        self.project = nn.ModuleList(project)
        self.act = act

    def forward(self, features: Maps) -> Float[Tensor, "n c h w"]:
        height, width = features[0].shape[-2:]
        return self.act(project_and_add(self.project, features[-len(self.project) :], (height // 4, width // 4)))


def project_and_add(project: Iterable[nn.Module], maps: Maps, size: Sequence[int]) -> Float[Tensor, "n c h w"]:
    """The sum of all maps, each projected at its own size or that of the sum, whichever has fewer pixels."""
    total: Any = None
    for layer, x in zip(project, maps, strict=True):
        finer = x.shape[-2] * x.shape[-1] > size[0] * size[1]
        projected = layer(resize(x, size)) if finer else resize(layer(x), size)
        total = projected if total is None else total.add_(projected)
    return total


def fold_mlp_decoder(decoder: MLPDecoder) -> FoldedMLPDecoder:
    """The same function of the maps. A norm other than batch norm stays, and only what is before it is folded."""
    project: Any = list(decoder.project)
    if decoder.fusion == "concat":
        project = multiply_out(project, decoder.fuse)
    norm = decoder.norm
    if type(norm) in PLAIN_NORMS:
        norm = _fold_norm(project, norm)
    return FoldedMLPDecoder(project, norm, decoder.act, decoder.head)


def fold_segformer_decoder(decoder: Any) -> FoldedSegformerDecoder:
    """The same function of the encoder's maps."""
    fuse, norm, act = decoder.fuse_stage
    coarsest_first = multiply_out([_as_convolution(stage.linear) for stage in decoder.mlp_stage], fuse)
    project = coarsest_first[::-1]
    _fold_norm(project, norm)
    return FoldedSegformerDecoder(project, act)


def multiply_out(project: Sequence[nn.Conv2d], fuse: nn.Conv2d) -> list[nn.Conv2d]:
    """1x1 convolutions whose sum is `fuse` of the stacked outputs of `project`; the first has the bias of `fuse`."""
    blocks = fuse.weight.data.flatten(1).chunk(len(project), dim=1)  # each (C_out, C_mid)
    folded = [_product(block, layer) for block, layer in zip(blocks, project, strict=True)]
    if fuse.bias is not None:
        add_bias(folded[0], fuse.bias.data)
    return folded


def _product(block: Float[Tensor, "o m"], layer: nn.Conv2d) -> nn.Conv2d:
    weight = block @ layer.weight.data.flatten(1)  # (C_out, C_in)
    return _convolution(weight, None if layer.bias is None else block @ layer.bias.data)


def _as_convolution(layer: nn.Linear) -> nn.Conv2d:
    return _convolution(layer.weight.data, None if layer.bias is None else layer.bias.data)


def _convolution(weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False, device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight[:, :, None, None].contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _fold_norm(project: list[nn.Conv2d], norm: nn.Module) -> nn.Identity:
    scale, shift = affine(norm)
    for layer in project:
        scale_outputs(layer, scale)
    add_bias(project[0], shift)
    return nn.Identity()


def fold_linear_decoders(model: nn.Module) -> None:
    """Fold every decoder of these kinds below `model`, in place."""
    with torch.no_grad():
        found: dict[nn.Module, nn.Module] = {m: fold_mlp_decoder(m) for m in model.modules() if type(m) is MLPDecoder}
        found |= {m: fold_segformer_decoder(m) for m in model.modules() if _is_segformer_decoder(m)}
    replace(model, found)


def _is_segformer_decoder(module: Any) -> bool:
    kind = type(module)
    if kind.__name__ != "SegformerDecoder" or not kind.__module__.startswith("segmentation_models_pytorch."):
        return False
    return len(module.fuse_stage) == 3 and type(module.fuse_stage[1]) in PLAIN_NORMS
