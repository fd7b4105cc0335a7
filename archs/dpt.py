"""The transformer rows of the LALE paper: DPT of segmentation_models_pytorch on encoders of timm.

DPT is Ranftl et al. 2021, arXiv 2103.13413. The rows' figures are those of `readout="ignore"`, which leaves the
encoder's class token out.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.registry import Entry, InputRule, Provenance, register_resolver
from archs.smp_models import LIBRARY, library
from archs.timm_models import (
    REFUSALS,
    ImageSize,
    check_image_size,
    find_backbone,
    input_rule,
    pad_edges,
    size_options,
)

PREFIX = "smp/dpt-"
STRIDE = 32  # of the decoder's coarsest map
NOTE = "decoder DPT (Ranftl et al. 2021, arXiv 2103.13413), readout ignored"


@dataclass(frozen=True)
class DPTConfig:
    """DPT at the library's defaults on an encoder of timm.

    `image_size` (a side, or height and width; None for the published one) matters to encoders that are tied to a
    size; the others take any. No weights are downloaded unless `pretrained` is set.
    """

    family: ClassVar[str] = "dpt"
    encoder_name: str = "deit3_base_patch16_224"
    image_size: ImageSize = None
    pretrained: bool = False

    def __post_init__(self) -> None:
        check_image_size(self.image_size)

    def input_rule(self) -> InputRule:
        """The sizes of image that it takes."""
        return input_rule(find_backbone(self.encoder_name), self.image_size)

    def build(self, num_classes: int, in_channels: int) -> "DPT":
        """The network; random weights unless `pretrained`.

        Raises:
            ArchError: timm has no such encoder, not for this `image_size`, or DPT cannot stand on it.
        """
        rule = self.input_rule()
        if any(side % STRIDE for side in rule.fixed or ()):
            raise ArchError(
                f"DPT cannot stand on {self.encoder_name} at {rule}; give an image_size of multiples of {STRIDE}"
            )
        options = size_options(find_backbone(self.encoder_name), self.image_size)
        try:
            network = library().DPT(
                encoder_name=f"tu-{self.encoder_name}",
                encoder_weights="imagenet" if self.pretrained else None,
                decoder_readout="ignore",
                in_channels=in_channels,
                classes=num_classes,
                **options,
            )
        except (*REFUSALS, OSError) as error:
            raise ArchError(f"segmentation_models_pytorch cannot build DPT on {self.encoder_name}: {error}") from None
        return DPT(network, rule)


class DPT(nn.Module):
    """The library's network. Where it takes any size, edges are repeated up to a multiple of 32, the logits cut back.

    Raises:
        ArchError: an image of another size than the one that the encoder is tied to.
    """

    def __init__(self, network: nn.Module, rule: InputRule) -> None:
        super().__init__()
        self.network = network
        self.rule = rule

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        height, width = x.shape[-2:]
        self.rule.check(height, width)
        if self.rule.fixed is not None:
            return self.network(x)
        return self.network(pad_edges(x, STRIDE))[..., :height, :width]

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, decoder and head."""
        net: Any = self.network
        return {"encoder": net.encoder, "decoder": net.decoder, "head": net.segmentation_head}


def _resolve(name: str) -> Entry | None:
    """The entry of DPT on any encoder of timm."""
    if not name.startswith(PREFIX):
        return None
    config = DPTConfig(name.removeprefix(PREFIX))
    provenance = Provenance(
        paper=f"DPT (Ranftl et al.), arXiv 2103.13413, on {config.encoder_name} of timm",
        year=2021,
        source=LIBRARY,
        licence="MIT and Apache-2.0 (code)",
    )
    return Entry(name, config, provenance, config.input_rule())


register_resolver(_resolve)
