"""What a figure depends on, as the determinants of its record: the one place where networks and settings are spelled.

Fields that have their default are left out, so that a field that is added later, with a default, changes no key that
there was before. What such a field meant at the time stands in the record's `about`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import archs
from archs import ArchConfig
from archs.saved import has_default
from bench.records.fingerprint import config_parts, network_fingerprint

LIBRARIES = {
    "smp": ("segmentation-models-pytorch", "timm"),
    "dpt": ("segmentation-models-pytorch", "timm"),
    "timm": ("timm",),
}


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, by name."""
    from importlib.metadata import version

    return {package: version(package) for package in sorted(set(packages))}


def network_libraries(config: ArchConfig) -> tuple[str, ...]:
    """The packages whose code is part of the network, beside torch."""
    families = {part.family for part in config_parts(config)}
    return tuple(package for family in families for package in LIBRARIES.get(family, ()))


def network_determinants(config: ArchConfig, num_classes: int, in_channels: int) -> dict[str, Any]:
    """A network as determinants: its config, the fingerprint of what that builds, its classes and channels."""
    return {
        "config": archs.to_dict(config, defaults=False),
        "network": network_fingerprint(config, num_classes, in_channels),
        "num_classes": num_classes,
        "in_channels": in_channels,
    }


def networks_determinants(configs: Mapping[str, ArchConfig], num_classes: int, in_channels: int) -> dict[str, Any]:
    """Several networks as determinants, by label."""
    return {
        "configs": {label: archs.to_dict(config, defaults=False) for label, config in configs.items()},
        "networks": {label: network_fingerprint(config, num_classes, in_channels) for label, config in configs.items()},
        "num_classes": num_classes,
        "in_channels": in_channels,
    }


def changed_fields(setting: Any) -> dict[str, Any]:
    """Fields of a dataclass that do not have their default, as its `to_dict` spells them.

    What `to_dict` leaves out determines nothing.
    """
    spelled = setting.to_dict()
    found = {field.name: field for field in fields(setting)}
    return {name: v for name, v in spelled.items() if not has_default(found[name], getattr(setting, name))}
