"""What a figure depends on beside the config: the versions of the libraries whose code is part of the network."""

from __future__ import annotations

from archs import ArchConfig

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
    parts = (config, getattr(config, "encoder", config), getattr(config, "decoder", config))
    families = {getattr(part, "family", "") for part in parts}
    return tuple(package for family in families for package in LIBRARIES.get(family, ()))
