"""What is measured: segmentation networks as plain torch modules, and the registry that names them.

>>> import archs
>>> archs.names("lale-s*")
['lale-s1', 'lale-s2', 'lale-s3', 'lale-s4']
>>> model = archs.create("lale-s1", num_classes=5, norm="layernorm")
"""

from pathlib import Path
from typing import Any

from torch import nn

from archs import catalogue as _catalogue
from archs.deployment import deploy
from archs.errors import ArchError
from archs.official.loading import LoadReport, load_official
from archs.pairs import create_backbone, create_classifier, decoder_names, encoder_names
from archs.registry import (
    ArchConfig,
    Check,
    Entry,
    InputRule,
    Provenance,
    entry,
    family_of,
    fit_image_size,
    names,
    override,
    register,
    register_family,
)
from archs.saved import from_dict, load_config, save_config, to_dict

DEFAULT = "lale-s1"
"""The architecture that commands take where none is named."""

__all__ = [
    "DEFAULT",
    "ArchConfig",
    "ArchError",
    "Check",
    "Entry",
    "InputRule",
    "LoadReport",
    "Provenance",
    "config",
    "create",
    "create_backbone",
    "create_classifier",
    "decoder_names",
    "deploy",
    "encoder_names",
    "entry",
    "family_of",
    "fit_image_size",
    "from_dict",
    "load_config",
    "load_official",
    "names",
    "override",
    "register",
    "register_family",
    "save_config",
    "to_dict",
]


def config(name: str | Path, **overrides: Any) -> ArchConfig:
    """The config of a name, or of a saved config's path (ending in .json), with fields overridden.

    Raises:
        ArchError: an unknown name or field (the sentence offers the nearest), or an impossible value.
    """
    if str(name).endswith(".json"):
        return override(load_config(name), **overrides)
    return override(entry(str(name)).config, **overrides)


def create(name: str | Path, num_classes: int = 7, in_channels: int = 3, **overrides: Any) -> nn.Module:
    """A network that maps `(N, in_channels, H, W)` to logits `(N, num_classes, H, W)`, with random weights.

    Args:
        name: a registered or systematic name, or the path of a saved config.
        num_classes: at least 2.
        in_channels: at least 1.
        overrides: fields of the config; `decoder.width` and the like as `**{"decoder.width": 64}`.

    Raises:
        ArchError: an unknown name or field, or an impossible value.
    """
    return build(config(name, **overrides), num_classes, in_channels)


def build(chosen: ArchConfig, num_classes: int = 7, in_channels: int = 3) -> nn.Module:
    """The network of a config; see `create`."""
    if num_classes < 2:
        raise ArchError(f"num_classes={num_classes} is not possible; a segmenter needs at least 2")
    if in_channels < 1:
        raise ArchError(f"in_channels={in_channels} is not possible; give at least 1")
    return chosen.build(num_classes, in_channels)


_catalogue.register_all()
