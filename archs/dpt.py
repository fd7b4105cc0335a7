"""The transformer rows of the LALE paper: DPT of segmentation_models_pytorch on encoders of timm.

DPT is Ranftl et al. 2021, arXiv 2103.13413. The rows' figures are those of `readout="ignore"`, which leaves the
encoder's class token out.
"""

from dataclasses import dataclass
from typing import ClassVar

from archs.errors import ArchError
from archs.fields import ImageSize, require_image_size
from archs.registry import Entry, InputRule, Provenance, register_resolver
from archs.smp_models import LIBRARY, STRIDE, SMPModel, library
from archs.timm_models import REFUSALS, find_backbone, input_rule, size_options

PREFIX = "smp/dpt-"
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
        require_image_size(self)

    def input_rule(self) -> InputRule:
        """The sizes of image that it takes."""
        return input_rule(find_backbone(self.encoder_name), self.image_size)

    def build(self, num_classes: int, in_channels: int) -> SMPModel:
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
        return SMPModel(network, rule)


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
