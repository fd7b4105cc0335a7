"""Spaces: every point is a valid config, and points and configs stand for each other."""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_formula import ALL, S1, points

import archs
from bench.errors import BenchError
from bench.search.space import Dimension, Space, config_key
from bench.search.spaces import read_values, space_of

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
    assert (spread["norm"].low, spread["norm"].high) == (0, 4)
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
    with pytest.raises(BenchError, match=r"'smp' has no search space of its own.*decoder = .*--space FILE"):
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


def space_file(folder, text):
    path = folder / "space.toml"
    path.write_text(text)
    return path


def test_a_file_says_what_may_change_in_any_architecture(tmp_path):
    base = archs.config("lemevit-tiny+mlp")
    values = read_values(
        space_file(
            tmp_path,
            """
            depths = [1, 2, 3]
            widths = [[32, 64], [64, 96], [96, 128], [160, 192], [256, 320]]
            fusion = ["sum", "concat"]
            decoder.width = {from = 32, to = 96, step = 32}
            """,
        )
    )
    assert values["decoder"] == {"width": {"from": 32, "to": 96, "step": 32}}  # as TOML nests it
    space = space_of(base, values=values)
    assert space.free == ("encoder.depths", "encoder.widths", "decoder.fusion", "decoder.width")
    rows = {dimension.name: dimension.values for dimension in space.dimensions}
    assert rows["encoder.depths.4"] == (1, 2, 3, 8)  # the base's own joins
    assert rows["encoder.widths.2"] == (64, 96) and rows["decoder.width"] == (32, 64, 96, 128)
    for pick in (0, -1):
        config = space.config({dimension.name: dimension.codes[pick] for dimension in space.dimensions})
        assert config in space and space.config(space.params(config)) == config
        assert config.decoder.width == (32, 128)[pick]
    assert base in space


def test_what_a_config_refuses_goes_back_to_the_base(tmp_path):
    base = archs.config("lwganet-l0+mlp")
    space = space_of(base, values=read_values(space_file(tmp_path, "stem_width = [24, 30, 32]\nhead_width = [4, 8]")))
    found = {space.config({d.name: code for d, code in zip(space.dimensions, codes, strict=True)})
             for codes in itertools.product(*(d.codes for d in space.dimensions))}  # fmt: skip
    assert {archs.build(config, 7, 3) is not None for config in found} == {True} and base in found
    assert all(space.config(space.params(config)) == config for config in found)


def test_a_familys_rules_hold_for_values_from_a_file(tmp_path):
    space = space_of(S1, values=read_values(space_file(tmp_path, "widths = [48, 96, 160, 256]\nhead_width = [16, 32]")))
    assert space.dimensions[0].values == (32, 48, 96, 160, 256)
    falling = {"widths.1": 4, "widths.2": 0, "widths.3": 1, "widths.4": 0, "head_width": 1}
    assert space.config(falling).widths == (256, 256, 256, 256)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depths = ", "no search space that can be read"),
        ("depht = [1, 2]", "the field depht, which does not exist; did you mean depth"),
        ("norm = 'rmsnorm'", "gives norm no list of values"),
        ("norm = []", "gives norm no list of values"),
        ("norm = ['rmsnorm', 3]", "gives norm the value 3"),
        ("depths = [[1, 2], [1, 2]]", "gives depths 2 rows; it has 4 elements"),
        ("decoder_width = {from = 8}", "counts decoder_width by"),
        ("decoder_width = {from = 8, to = 16, stp = 4}", "counts decoder_width by"),
        ("norm = ['rmsnorm', 'layrnorm']", "gives norm the value 'layrnorm': .*layrnorm"),
        ("mixer_mlp = [0, 1]", "gives mixer_mlp the value 0"),
    ],
)
def test_a_file_that_means_nothing_gets_a_sentence(tmp_path, text, message):
    with pytest.raises(BenchError, match=message):
        space_of(S1, values=read_values(space_file(tmp_path, text)))
    with pytest.raises(BenchError, match="no search space that can be read"):
        read_values(tmp_path / "absent.toml")


def test_a_pair_of_other_parts_is_no_point_of_a_pairs_space(tmp_path):
    base = archs.config("lwganet-l0+mlp")
    space = space_of(base, values=read_values(space_file(tmp_path, "decoder.width = [64, 128]")))
    assert base in space
    others = [archs.config(name) for name in ("lemevit-tiny+mlp", "timm/mobilenetv4_conv_small+mlp")]
    assert not any(config in space for config in others)
    with pytest.raises(BenchError, match="other parts than the base"):
        space.params(others[0])
