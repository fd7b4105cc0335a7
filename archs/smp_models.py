"""The CNN baselines of the LALE paper: decoders of segmentation_models_pytorch on an ImageNet encoder's design."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.fields import require_choice
from archs.layers import pad_edges
from archs.registry import Entry, InputRule, Provenance, nearest, register_resolver

PREFIX = "smp/"
LIBRARY = "https://github.com/qubvel-org/segmentation_models.pytorch"
# Name in our registry -> class in the library.
DECODERS = {
    "upernet": "UPerNet",
    "unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "fpn": "FPN",
    "segformer": "Segformer",
    "deeplabv3plus": "DeepLabV3Plus",
    "pan": "PAN",
    "deeplabv3": "DeepLabV3",
    "linknet": "Linknet",
}
STRIDE = 32  # the deepest map's; the library wants sides that it divides
# Their image-level pooling leaves one value a channel, over which batch norm has no variance to take.
POOL_TO_ONE_PIXEL = ("upernet", "deeplabv3plus", "deeplabv3", "pan")


def input_rule(decoder: str) -> InputRule:
    """What a decoder of the library can take, padding to multiples of 32 included."""
    return InputRule(
        minimum=128 if decoder == "pan" else 1,  # three halvings of the map of stride 16
        min_train_batch=2 if decoder in POOL_TO_ONE_PIXEL else 1,
        note="padded to multiples of 32 inside",
    )


def library() -> Any:
    """segmentation_models_pytorch, imported when first wanted: it takes seconds, and warns of its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import segmentation_models_pytorch
    return segmentation_models_pytorch


@dataclass(frozen=True)
class SMPConfig:
    """A model of segmentation_models_pytorch at its defaults.

    `encoder` is the library's own encoder name; no weights are downloaded unless `pretrained` is set.
    """

    family: ClassVar[str] = "smp"
    decoder: str = "unet"
    encoder_name: str = "efficientnet-b0"
    pretrained: bool = False

    def __post_init__(self) -> None:
        require_choice(self, "decoder", DECODERS)

    def build(self, num_classes: int, in_channels: int) -> "SMPModel":
        """The network; random weights unless `pretrained`.

        Raises:
            ArchError: the library has no such encoder, or refuses this pair.
        """
        try:
            network = getattr(library(), DECODERS[self.decoder])(
                encoder_name=self.encoder_name,
                encoder_weights="imagenet" if self.pretrained else None,
                in_channels=in_channels,
                classes=num_classes,
            )
        except (KeyError, ValueError, NotImplementedError, OSError) as error:
            raise ArchError(
                f"segmentation_models_pytorch cannot build {self.decoder} on {self.encoder_name}: {error}"
            ) from None
        return SMPModel(network, input_rule(self.decoder))


class SMPModel(nn.Module):
    """A library model for any H and W: edge pixels are repeated up to a multiple of 32, the logits cut back.

    One whose encoder is tied to a size gets that size. Raises `ArchError` for an image that does not fit the rule.
    """

    def __init__(self, network: nn.Module, rule: InputRule) -> None:
        super().__init__()
        self.network = network
        self.rule = rule

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        height, width = x.shape[-2:]
        self.rule.check(height, width)
        padded = x if self.rule.fixed else pad_edges(x, STRIDE)
        logits = self.network(padded)
        return logits if padded is x else logits[..., :height, :width]

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, decoder and head."""
        net: Any = self.network
        return {"encoder": net.encoder, "decoder": net.decoder, "head": net.segmentation_head}


def _resolve(name: str) -> Entry | None:
    """The entry of a systematic name, `smp/<decoder>-<encoder>`; an encoder's hyphens may be underscores."""
    decoder, hyphen, encoder = name.removeprefix(PREFIX).partition("-")
    if not (name.startswith(PREFIX) and hyphen and decoder in DECODERS):
        return None
    known = {own.replace("-", "_"): own for own in library().encoders.encoders}
    if encoder.replace("-", "_") not in known:
        raise ArchError(f"segmentation_models_pytorch has no encoder {encoder!r}{nearest(encoder, known)}")
    provenance = Provenance(
        paper=f"{DECODERS[decoder]} of segmentation_models_pytorch on {encoder}",
        year=2019,
        source=LIBRARY,
        licence="MIT",
        note="year of the library",
    )
    config = SMPConfig(decoder, known[encoder.replace("-", "_")])
    return Entry(name, config, provenance, input_rule(decoder))


register_resolver(_resolve)
