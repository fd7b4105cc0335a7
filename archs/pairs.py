"""Encoders and decoders by name, and the systematic names that pair any of the one with any of the other.

`lwganet-l0` is that encoder under its authors' own decoder; `lwganet-l0+mlp` is the same under LALE's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from archs.errors import ArchError
from archs.registry import (
    Check,
    Entry,
    InputRule,
    Provenance,
    _nearest,
    register,
    register_family,
    register_resolver,
)
from archs.segmenter import DecoderConfig, EncoderConfig, PairConfig


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder that has a name of its own, with what is to be said of every network on it."""

    name: str
    config: EncoderConfig
    provenance: Provenance
    inputs: InputRule


_ENCODERS: dict[str, NamedEncoder] = {}
_DECODERS: dict[str, DecoderConfig] = {}


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


def register_pair(encoder: str, decoder: str, name: str = "", checks: Iterable[Check] = ()) -> Entry:
    """Enter a named encoder with a named decoder, as `name` or `<encoder>+<decoder>`."""
    body = _ENCODERS[encoder]
    config = PairConfig(body.config, _DECODERS[decoder])
    return register(name or f"{encoder}+{decoder}", config, body.provenance, body.inputs, checks)


def encoder_names() -> list[str]:
    """The encoders that have a name."""
    return sorted(_ENCODERS)


def decoder_names() -> list[str]:
    """The decoders that have a name."""
    return sorted(_DECODERS)


def named_encoder(name: str) -> NamedEncoder:
    """The encoder called `name`.

    Raises:
        ArchError: no such encoder; the sentence offers the nearest ones.
    """
    if name not in _ENCODERS:
        known = ", ".join(encoder_names())
        raise ArchError(f"there is no encoder {name!r}{_nearest(name, _ENCODERS)}; there are {known}")
    return _ENCODERS[name]


def create_backbone(name: str, in_channels: int = 3) -> nn.Module:
    """The encoder of `name` alone, in its dense-prediction form: `(N, C, H, W)` to its maps, finest first.

    Raises:
        ArchError: no such encoder.
    """
    return named_encoder(name).config.build_encoder(in_channels)


def create_classifier(name: str, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """The encoder of `name` with its classification head: `(N, C, H, W)` to `(N, num_classes)`.

    Raises:
        ArchError: no such encoder, or none with a classification head.
    """
    config = named_encoder(name).config
    if not hasattr(config, "build_classifier"):
        raise ArchError(f"{name} has no classification head; use create_backbone for its maps")
    return config.build_classifier(num_classes, in_channels)


def _resolve_pair(name: str) -> Entry | None:
    """The entry of a systematic name, if both halves are known."""
    encoder, plus, decoder = name.rpartition("+")
    if not plus or encoder not in _ENCODERS:
        return None
    if decoder not in _DECODERS:
        known = ", ".join(decoder_names())
        raise ArchError(f"there is no decoder {decoder!r}{_nearest(decoder, _DECODERS)}; there are {known}")
    body = _ENCODERS[encoder]
    return Entry(name, PairConfig(body.config, _DECODERS[decoder]), body.provenance, body.inputs)


register_resolver(_resolve_pair)
