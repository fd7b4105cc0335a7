"""Of the many registered networks, those that a quick run tries: one of each kind. All the others are slow tests."""

import pytest

import archs

QUICK = (
    "lale-s1",
    "lwganet-l0",
    "lwganet-l0+mlp",
    "lemevit-tiny",
    "lemevit-tiny+mlp",
    "lemore",
    "lemore+mlp",
    "smp/unet-efficientnet_b0",
    "smp/dpt-fastvit_sa12",
    "timm/convnext_atto+mlp",
)


def marks(name):
    """None for a representative, `slow` for any other."""
    return () if name in QUICK else (pytest.mark.slow,)


def every_network():
    """All registered names as parameters of a test."""
    return [pytest.param(name, marks=marks(name)) for name in archs.names()]
