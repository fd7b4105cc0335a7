"""Encoders and decoders by name, and the systematic names that pair any of the one with any of the other.

`lwganet-l0` is that encoder under its authors' own decoder; `lwganet-l0+mlp` is the same under LALE's. An encoder as
the classifier that its paper reports is a config too, so that it can be counted and recorded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from archs.errors import ArchError
from archs.registry import (
    _ENTRIES,
    Check,
    Entry,
    InputRule,
    Provenance,
    nearest,
    register,
    register_family,
    register_resolver,
)
from archs.segmenter import DecoderConfig, EncoderConfig, PairConfig, parts_of


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder that has a name of its own, with what is to be said of every network on it."""

    name: str
    config: EncoderConfig
    provenance: Provenance
    inputs: InputRule


_ENCODERS: dict[str, NamedEncoder] = {}
_DECODERS: dict[str, DecoderConfig] = {}
_ENCODER_RESOLVERS: list[Callable[[str], NamedEncoder | None]] = []


def register_decoder(name: str, config: DecoderConfig) -> None:
    """Make a decoder known by `name`, so that `<encoder>+name` stands for it on any encoder."""
    register_family(type(config))
    _DECODERS[name] = config


def register_encoder(
    name: str,
    config: EncoderConfig,
    provenance: Provenance,
    inputs: InputRule = InputRule(),  # noqa: B008 (frozen)
) -> None:
    """Make an encoder known by `name`, so that it can be paired."""
    register_family(type(config))
    _ENCODERS[name] = NamedEncoder(name, config, provenance, inputs)


def register_encoder_resolver(resolve: Callable[[str], NamedEncoder | None]) -> None:
    """Add a rule that makes encoders of systematic names (such as `timm/<backbone>`) when they are asked for."""
    _ENCODER_RESOLVERS.append(resolve)


def register_pair(encoder: str, decoder: str, name: str = "", checks: Iterable[Check] = ()) -> Entry:
    """Enter a named encoder with a named decoder, as `name` or `<encoder>+<decoder>`."""
    body = _paired(name or f"{encoder}+{decoder}", named_encoder(encoder), decoder)
    return register(body.name, body.config, body.provenance, body.inputs, checks)


def encoder_names() -> list[str]:
    """The encoders that have a name of their own; those of timm have systematic ones, `timm/<backbone>`."""
    return sorted(_ENCODERS)


def decoder_names() -> list[str]:
    """The decoders that have a name."""
    return sorted(_DECODERS)


def named_encoder(name: str) -> NamedEncoder:
    """The encoder called `name`.

    Raises:
        ArchError: no such encoder; the sentence offers the nearest ones.
    """
    found = _find_encoder(name)
    if found is None:
        known = ", ".join((*encoder_names(), "timm/<backbone>"))
        raise ArchError(f"there is no encoder {name!r}{nearest(name, _ENCODERS)}; there are {known}")
    return found


def _find_encoder(name: str) -> NamedEncoder | None:
    if name in _ENCODERS:
        return _ENCODERS[name]
    known = _ENTRIES.get(name)
    if known is not None and isinstance(known.config, EncoderConfig):
        return NamedEncoder(name, known.config, known.provenance, known.inputs)
    return next((found for resolve in _ENCODER_RESOLVERS if (found := resolve(name)) is not None), None)


def create_backbone(name: str, in_channels: int = 3) -> nn.Module:
    """The encoder of `name` alone, in its dense-prediction form: `(N, C, H, W)` to its maps, finest first.

    Raises:
        ArchError: no such encoder.
    """
    return named_encoder(name).config.build_encoder(in_channels)


def create_classifier(name: str, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """The encoder of `name` with its classification head: `(N, C, H, W)` to `(N, num_classes)`.

    Where the authors published no head it is the plain one, `PooledClassifier`.

    Raises:
        ArchError: no such encoder.
    """
    config = named_encoder(name).config
    if hasattr(config, "build_classifier"):
        return config.build_classifier(num_classes, in_channels)
    return PooledClassifier(config.build_encoder(in_channels), num_classes)


class PooledClassifier(nn.Module):
    """An encoder's coarsest map averaged over its pixels, then one linear layer: ours, for encoders without a head."""

    def __init__(self, encoder: Any, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.widths[-1], num_classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return self.head(self.encoder(x)[-1].mean((2, 3)))

    def parts(self) -> dict[str, nn.Module]:
        """The encoder's, then the head."""
        return {**parts_of(self.encoder, "encoder"), "head": self.head}


def _paired(name: str, encoder: NamedEncoder, decoder: str) -> Entry:
    if decoder not in _DECODERS:
        known = ", ".join(decoder_names())
        raise ArchError(f"there is no decoder {decoder!r}{nearest(decoder, _DECODERS)}; there are {known}")
    head = _DECODERS[decoder]
    least = max(encoder.inputs.min_train_batch, getattr(head, "min_train_batch", 1))
    inputs = replace(encoder.inputs, min_train_batch=least)
    return Entry(name, PairConfig(encoder.config, head), encoder.provenance, inputs)


def _resolve_pair(name: str) -> Entry | None:
    """The entry of a systematic name, if its encoder is known."""
    encoder_name, plus, decoder = name.rpartition("+")
    encoder = _find_encoder(encoder_name if plus else name)
    if encoder is None:
        return None
    if not plus:
        raise ArchError(f"{name} is an encoder; name a decoder with it, as {name}+mlp")
    return _paired(name, encoder, decoder)


register_resolver(_resolve_pair)


@register_family
@dataclass(frozen=True)
class ClassifierConfig:
    """The encoder called `encoder` with its classification head; see `archs.create_classifier`."""

    family: ClassVar[str] = "classifier"
    encoder: str

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """`(N, in_channels, H, W)` to `(N, num_classes)`.

        Raises:
            ArchError: no such encoder.
        """
        return create_classifier(self.encoder, num_classes, in_channels)
