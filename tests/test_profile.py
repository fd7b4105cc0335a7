"""The profile of a training: every part is there, and backward passes stand apart."""

from tinyland import tinyland

import archs
from bench.training.profile import BANDS, BATCH, LOSS, VALIDATION, profile_training
from bench.training.recipe import recipe_named


def test_a_profile_names_what_a_training_consists_of():
    found = profile_training(archs.config("lale-s1"), tinyland(32, 32, train=4), recipe_named("smoke"))
    assert {BATCH, LOSS, VALIDATION, BANDS, "optimiser", "gradient clipping", "matrix products"} <= found.keys()
    for part in ("norm", "activation", "convolution", "depthwise convolution", "resizing"):
        assert min(found[part], found[f"{part}, backward"]) > 0
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert not any("forward" in part for part in found)
