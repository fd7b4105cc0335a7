"""Any backbone of timm as an encoder, by its systematic name: `timm/<backbone>+<decoder>`.

Widths and strides are read from timm's own account of the backbone's feature maps; maps finer than stride 4 are left
out, as in every other encoder here. Nothing is downloaded unless `pretrained` is asked for.
"""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError, first_line
from archs.fields import ImageSize, require_image_size, sides
from archs.layers import pad_edges
from archs.pairs import NamedEncoder, register_encoder_resolver
from archs.registry import InputRule, Provenance, nearest

PREFIX = "timm/"
FINEST_STRIDE = 4
TIED = "tied to the size that it is built for, see image_size"
PADDED = "padded inside to multiples of its coarsest stride"
LIBRARY = "https://github.com/huggingface/pytorch-image-models"
# What timm raises where a backbone refuses an argument or a size.
REFUSALS = (TypeError, ValueError, RuntimeError, AssertionError, AttributeError, NotImplementedError)


def library() -> Any:
    """timm, imported when first wanted: it takes seconds, and reaches deprecated corners of its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm


@dataclass(frozen=True)
class Backbone:
    """What timm says of a backbone before it is built.

    Attributes:
        size: height and width that its published weights were made for.
        fixed: whether it is tied to one size (by position embeddings or windows).
    """

    name: str
    size: tuple[int, int]
    fixed: bool


def find_backbone(name: str) -> Backbone:
    """timm's account of a backbone.

    Raises:
        ArchError: timm has none of this name; the sentence offers the nearest ones.
    """
    timm = library()
    if not timm.is_model(name):
        raise ArchError(f"timm has no backbone {name!r}{nearest(name, timm.list_models())}")
    published = timm.get_pretrained_cfg(name)
    if published is None:
        return Backbone(name, (224, 224), False)
    return Backbone(name, tuple(published.input_size[1:]), bool(published.fixed_input_size))


def input_rule(backbone: Backbone, image_size: ImageSize) -> InputRule:
    """What a network on this backbone takes: the one size that it is tied to, or any, padded inside."""
    if backbone.fixed:
        return InputRule(fixed=sides(image_size, backbone.size), note=TIED)
    return InputRule(note=PADDED)


def size_options(backbone: Backbone, image_size: ImageSize) -> dict[str, Any]:
    """The arguments that make timm build a tied backbone for another size than its own.

    Interpolated position embeddings first, since they leave the weights as published; else whatever the backbone does
    with `img_size`. Each is tried on a network without values.

    Raises:
        ArchError: the backbone cannot be built for this size.
    """
    size = sides(image_size, backbone.size)
    if not backbone.fixed or size == backbone.size:
        return {}
    for options in ({"dynamic_img_size": True}, {"img_size": size}):
        if _runs(backbone.name, options, size):
            return options
    height, width = backbone.size
    raise ArchError(
        f"timm's {backbone.name} cannot be built for {size[0]}x{size[1]} images; it is made for {height}x{width}: "
        "leave image_size out, or choose another backbone"
    )


def _runs(name: str, options: dict[str, Any], size: tuple[int, int]) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            library().create_model(name, pretrained=False, **options).eval()(torch.empty(1, 3, *size))
    except REFUSALS:
        return False
    return True


@dataclass(frozen=True)
class TimmConfig:
    """A backbone of timm.

    `image_size` (a side, or height and width; None for the published one) matters to backbones that are tied to a
    size; the others take any.
    """

    family: ClassVar[str] = "timm"
    backbone: str = "convnext_atto"
    image_size: ImageSize = None
    pretrained: bool = False

    def __post_init__(self) -> None:
        require_image_size(self)

    def build_encoder(self, in_channels: int) -> "TimmEncoder":
        """Its feature maps of stride 4 and coarser.

        Raises:
            ArchError: timm has no such backbone, it has no feature maps, or not at this `image_size`.
        """
        return TimmEncoder(self._create({"in_chans": in_channels, "features_only": True}), self.input_rule())

    def build_classifier(self, num_classes: int, in_channels: int) -> "TimmClassifier":
        """timm's own classifier.

        Raises:
            ArchError: timm has no such backbone, or not at this `image_size`.
        """
        return TimmClassifier(self._create({"in_chans": in_channels, "num_classes": num_classes}), self.input_rule())

    def input_rule(self) -> InputRule:
        """The sizes of image that it takes."""
        return input_rule(find_backbone(self.backbone), self.image_size)

    def _create(self, form: dict[str, Any]) -> nn.Module:
        options = size_options(find_backbone(self.backbone), self.image_size)
        try:
            return library().create_model(self.backbone, pretrained=self.pretrained, **form, **options)
        except (*REFUSALS, OSError) as error:
            raise ArchError(f"timm cannot build {self.backbone} with {form | options}: {first_line(error)}") from None


class TimmEncoder(nn.Module):
    """Image `(N, C, H, W)` to the backbone's maps of stride 4 and coarser, finest first, sides rounded up.

    Edge pixels are repeated to the right and below up to a multiple of the coarsest stride; the maps are cut back. A
    backbone that is tied to one size gets that size, whatever its strides.
    """

    def __init__(self, network: Any, rule: InputRule) -> None:
        super().__init__()
        self.network = network
        self.rule = rule
        reductions, channels = network.feature_info.reduction(), network.feature_info.channels()
        self.kept = tuple(i for i, stride in enumerate(reductions) if stride >= FINEST_STRIDE)
        self.strides = tuple(reductions[i] for i in self.kept)
        self.widths = tuple(channels[i] for i in self.kept)
        self.channels_first = getattr(network, "output_fmt", "NCHW") != "NHWC"

    def forward(self, x: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _c _h _w"]]:
        height, width = x.shape[-2:]
        self.rule.check(height, width)
        maps = self.network(x if self.rule.fixed else pad_edges(x, max(self.strides)))
        maps = [maps[i] if self.channels_first else maps[i].permute(0, 3, 1, 2) for i in self.kept]
        return [
            found[..., : -(-height // stride), : -(-width // stride)]
            for found, stride in zip(maps, self.strides, strict=True)
        ]

    def parts(self) -> dict[str, nn.Module]:
        """The backbone's own children."""
        children = dict(self.network.named_children())
        return dict(children["model"].named_children()) if set(children) == {"model"} else children


class TimmClassifier(nn.Module):
    """timm's classifier, `(N, C, H, W)` to `(N, K)`, with a sentence for an image that does not fit."""

    def __init__(self, network: nn.Module, rule: InputRule) -> None:
        super().__init__()
        self.network = network
        self.rule = rule

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        self.rule.check(*x.shape[-2:])
        return self.network(x)


def _resolve_backbone(name: str) -> NamedEncoder | None:
    if not name.startswith(PREFIX):
        return None
    config = TimmConfig(name.removeprefix(PREFIX))
    provenance = Provenance(
        paper=f"{config.backbone} of timm (its model page names the paper)",
        year=2019,
        source=LIBRARY,
        licence="Apache-2.0 (code)",
        note="year of the library",
    )
    return NamedEncoder(name, config, provenance, config.input_rule())


register_encoder_resolver(_resolve_backbone)
