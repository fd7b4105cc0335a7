"""The one mechanism that pairs an encoder with a decoder.

An encoder is a module with `widths` and `strides` (finest first) whose forward gives one map a stride; a decoder
takes that list and gives logits at a stride of its own. A decoder with an auxiliary head has `forward_aux` too, which
gives logits and auxiliary logits from one pass, and `aux_weight`, the weight of the latter's loss. A config that can
build the one has `build_encoder`, the other `build_decoder`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.fields import require
from archs.layers import resize


@runtime_checkable
class EncoderConfig(Protocol):
    """A frozen dataclass that builds an encoder."""

    family: ClassVar[str]

    def build_encoder(self, in_channels: int) -> nn.Module: ...


@runtime_checkable
class DecoderConfig(Protocol):
    """A frozen dataclass that builds a decoder for maps of the given widths and strides."""

    family: ClassVar[str]

    def build_decoder(self, widths: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> nn.Module: ...


class Segmenter(nn.Module):
    """Encoder, decoder, and a bilinear resize of the logits to the input's size.

    `(N, C, H, W) -> (N, K, H, W)` in training and evaluation alike; a decoder's auxiliary head trains through
    `forward_aux`.
    """

    encoder: Any  # modules: torch cannot say which attributes of its own they have
    decoder: Any

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        return resize(self.decoder(self.encoder(x)), x.shape[-2:])

    def forward_aux(self, x: Float[Tensor, "n c h w"]) -> tuple[Tensor, list[tuple[float, Tensor]]]:
        """Logits and the weighted logits of the auxiliary heads (none for most decoders), all at the input's size."""
        if not hasattr(self.decoder, "forward_aux"):
            return self(x), []
        size = x.shape[-2:]
        logits, aux = self.decoder.forward_aux(self.encoder(x))
        logits = resize(logits, size)
        return logits, [(self.decoder.aux_weight, resize(aux, size))]

    def parts(self) -> dict[str, nn.Module]:
        """The named parts in the order they run, for tables by stage."""
        return {**parts_of(self.encoder, "encoder"), **parts_of(self.decoder, "decoder")}


def require_logits(output: object, x: Tensor) -> Tensor:
    """The output of a network for images `x`, `(N, C, H, W)`, where it is what a segmentation network returns.

    Raises:
        ArchError: it is not one tensor `(N, K, H, W)`.
    """
    batch, _, height, width = x.shape
    if isinstance(output, Tensor) and output.ndim == 4 and (len(output), *output.shape[2:]) == (batch, height, width):
        return output
    if isinstance(output, Tensor):
        found = f"a tensor of shape {tuple(output.shape)}"
    elif isinstance(output, Mapping):
        found = f"a mapping of {', '.join(map(str, output))}"
    else:
        found = f"a {type(output).__name__}" + (f" of {len(output)}" if isinstance(output, tuple | list) else "")
    raise ArchError(
        f"the network returns {found} for images of shape {tuple(x.shape)}; its forward must return one tensor of "
        f"logits, ({batch}, classes, {height}, {width})"
    )


def require_pyramid(decoder: str, strides: Sequence[int]) -> None:
    """Refuse for a decoder the maps of a plain transformer.

    Raises:
        ArchError: fewer than two maps, or strides that do not grow from map to map.
    """
    if len(strides) < 2 or any(fine >= coarse for fine, coarse in pairwise(strides)):
        raise ArchError(
            f"{decoder} needs at least two maps of growing stride, not strides {tuple(strides)}; "
            "use a hierarchical encoder, or the decoder 'mlp'"
        )


def parts_of(module: Any, name: str) -> dict[str, nn.Module]:
    """The named parts of a module that tells them, else the module itself as `name`."""
    return module.parts() if hasattr(module, "parts") else {name: module}


def pair(encoder: EncoderConfig, decoder: DecoderConfig, num_classes: int, in_channels: int) -> Segmenter:
    """The segmentation network of an encoder and a decoder.

    Raises:
        ArchError: the decoder cannot take maps of the encoder's strides.
    """
    body: Any = encoder.build_encoder(in_channels)
    return Segmenter(body, decoder.build_decoder(body.widths, body.strides, num_classes))


@dataclass(frozen=True)
class PairConfig:
    """Any encoder with any decoder, as data."""

    family: ClassVar[str] = "pair"
    encoder: EncoderConfig
    decoder: DecoderConfig

    def __post_init__(self) -> None:
        for part, method in (("encoder", "build_encoder"), ("decoder", "build_decoder")):
            require(hasattr(getattr(self, part), method), self, part, f"a config with {method}")

    def build(self, num_classes: int, in_channels: int) -> Segmenter:
        """The network, with random weights."""
        return pair(self.encoder, self.decoder, num_classes, in_channels)
