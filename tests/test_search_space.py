"""Spaces: every point is a valid config, and points and configs stand for each other."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_formula import ALL, S1, points

import archs
from bench.errors import BenchError
from bench.search.space import Dimension, Space, config_key
from bench.search.spaces import space_of

FREED = {
    "family's choice": space_of(S1),
    "everything": space_of(S1, ALL),
    "widths fixed": space_of(S1, ("conv_stages", "head_width", "depths")),
    "heads and widths": space_of(S1, ("widths", "head_width")),
    "split alone": space_of(replace(S1, widths=(24, 40, 96, 192)), ("conv_stages", "norm")),
}


@st.composite
def spaces_and_points(draw):
    space = FREED[draw(st.sampled_from(sorted(FREED)))]
    return space, draw(points(space))


@settings(deadline=None)
@given(spaces_and_points())
def test_every_point_is_a_valid_config_and_the_way_back_leads_to_it(drawn):
    space, params = drawn
    config = space.config(params)  # LALEConfig refuses widths that the heads do not divide
    assert config in space
    assert space.config(space.params(config)) == config
    assert space.settled(space.settled(params)) == space.settled(params) == space.params(config)


@settings(deadline=None)
@given(spaces_and_points())
def test_fixed_fields_keep_the_base(drawn):
    space, params = drawn
    config = space.config(params)
    for name in set(ALL) - set(space.free):
        assert getattr(config, name) == getattr(space.base, name)


@settings(deadline=None)
@given(points(FREED["everything"]))
def test_widths_never_fall_from_stage_to_stage(params):
    widths = FREED["everything"].config(params).widths
    assert list(widths) == sorted(widths)


@settings(deadline=None)
@given(points(FREED["everything"]))
def test_optuna_may_propose_each_point_and_no_other(params):
    spread = FREED["everything"].distributions()
    assert spread.keys() == params.keys()
    for name, code in params.items():
        assert spread[name]._contains(spread[name].to_internal_repr(code))


def test_names_and_switches_are_integers_and_even_numbers_are_themselves():
    spread = space_of(S1, ("norm", "mixer_mlp", "widths", "head_width")).distributions()
    assert (spread["widths.2"].low, spread["widths.2"].high, spread["widths.2"].step) == (32, 128, 16)
    assert (spread["norm"].low, spread["norm"].high) == (0, 3)
    assert (spread["mixer_mlp"].low, spread["mixer_mlp"].high) == (0, 1)
    assert (spread["head_width"].low, spread["head_width"].high) == (0, 2)  # 16, 32, 64 are uneven


@pytest.mark.parametrize("name", ["lale-s1", "lale-s2", "lale-s3", "lale-s4"])
def test_the_published_configs_are_points_of_the_default_space(name):
    assert archs.config(name) in space_of(S1)


def test_the_baselines_join_once_their_fields_are_free():
    space = space_of(S1, ("norm", "act", "decoder_act", "mixer_kernel", "mixer_mlp", "depths"))
    assert archs.config("lale-b-s2-k7") in space
    assert archs.config("lale-b-s2-k7") not in space_of(S1)


def test_a_base_outside_the_rows_is_a_point():
    base = replace(S1, depths=(1, 1, 6, 1), mixer_kernel=9, decoder_width=100)
    assert base in space_of(base, ("depths", "mixer_kernel", "decoder_width"))


def test_one_network_is_one_point():
    """Without ConvMixer stages the mixer's kernel changes nothing."""
    space = space_of(S1, ("conv_stages", "mixer_kernel"))
    assert space.config({"conv_stages": 0, "mixer_kernel": 7}) == space.config({"conv_stages": 0, "mixer_kernel": 3})


def test_fields_and_families_that_cannot_be_searched_are_named():
    with pytest.raises(BenchError, match=r"--free colour.*possible: widths"):
        space_of(S1, ("colour",))
    with pytest.raises(BenchError, match=r"'smp' has no search space.*lale"):
        space_of(archs.config("smp/unet-efficientnet_b0"))
    with pytest.raises(BenchError, match=r"norm='layernorm' is not in the space"):
        space_of(S1, ("widths",)).params(replace(S1, norm="layernorm"))
    with pytest.raises(BenchError, match=r"depths.3=9 is none of"):
        space_of(S1, ("depths",)).params(replace(S1, depths=(1, 1, 9, 1)))
    with pytest.raises(BenchError, match="nothing to change"):
        Space(S1, ())


@dataclass(frozen=True)
class OwnConfig:
    """A config of somebody else's."""

    family: ClassVar[str] = "own"
    width: int = 16
    flavour: str = "plain"


def test_any_config_dataclass_can_be_searched():
    space = Space(OwnConfig(), (Dimension("width", (8, 16, 32)), Dimension("flavour", ("plain", "spicy"))))
    config = space.config({"width": 2, "flavour": 1})
    assert config == OwnConfig(32, "spicy")
    assert space.params(config) == {"width": 2, "flavour": 1}


def test_keys_tell_configs_apart():
    configs = [S1, replace(S1, norm="layernorm"), archs.config("lale-s2")]
    assert len({config_key(config) for config in configs}) == 3
    assert config_key(archs.config("lale-s1")) == config_key(S1)
