"""Configs: changed by their fields, all at once or not at all; saved and read; families that stay their own."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import nn

import archs
from archs.lale import LALEConfig, LALEEncoder
from bench.counting import count_params


def test_changes_are_made_at_once_whatever_their_order():
    wanted = archs.config("lale-s1", head_width=16, widths=(32, 48, 80, 112))
    assert archs.config("lale-s1", widths=(32, 48, 80, 112), head_width=16) == wanted
    assert archs.config("lwganet-l0", heads=6, width=48) == archs.config("lwganet-l0", width=48, heads=6)
    pair = archs.config("lale-s1+mlp", **{"decoder.width": 64, "stem_width": 24})
    assert (pair.decoder.width, pair.encoder.stem_width) == (64, 24)


def test_lists_in_lists_are_tuples_and_survive_being_saved(tmp_path):
    found = archs.config("lemore", expansions=[[1], [1], [1], [1]])
    assert hash(found) and archs.load_config(archs.save_config(found, tmp_path / "c.json")) == found


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("lale-s1", {"depths": 2}, r"lale cannot have depths=2 .*; now it has depths=\(1, 1, 1, 1\)"),
        ("lale-s1", {"decoder_width": "64"}, "decoder_width='64' is not possible; give a whole number"),
        ("lale-s1", {"mixer_kernel": 3.0}, "mixer_kernel=3.0 is not possible; give a whole number"),
        ("lale-s1", {"drop_path": "0.1"}, "drop_path='0.1' is not possible; give a number"),
        ("lale-s1", {"mixer_mlp": "no"}, "mixer_mlp='no' is not possible; give true or false"),
        ("lemore", {"key_width": 0}, "key_width=0"),
        ("lwganet-l0+mlp", {"decoder": "upernet"}, "decoder='upernet' is not possible: it is a config"),
        ("lale-s1+mlp", {"decoder_width": 64}, "own head, which this pair does not have; .* are decoder.width"),
        ("lale-s1+mlp", {"encoder.dropout": 0.5}, "own head, which this pair does not have"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_a_sentence(name, changes, said):
    with pytest.raises(archs.ArchError, match=said):
        archs.config(name, **changes)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "a config is written as"),
        ({"config": "lale-s1"}, "a config is written as .* not as 'lale-s1'"),
        ({"config": {"family": ["lale"]}}, "no architecture family"),
        ({"config": {"family": "lale", "depths": 2}}, "fields of this lale config do not fit"),
        ({"config": {"family": "mlp"}}, "holds a part of a network"),
        ({"config": {"family": "pair", "encoder": "lale-s1", "decoder": {"family": "mlp"}}}, "config with build_enc"),
        ({"config": {"family": "pair", "encoder": {"family": "mlp"}, "decoder": {"family": "lale"}}}, "build_encoder"),
    ],
)
def test_a_file_that_holds_no_network_is_refused_in_a_sentence(tmp_path, document, said):
    (tmp_path / "c.json").write_text(json.dumps({"format": "lale-bench config 1", **document}))
    with pytest.raises(archs.ArchError, match=said):
        archs.load_config(tmp_path / "c.json")


def test_a_family_of_ours_stays_ours():
    """A subclass that inherited the family replaced it: saved networks and their weights became others."""

    @dataclass(frozen=True)
    class WiderHead(LALEConfig):
        pass

    with pytest.raises(archs.ArchError, match=r"family 'lale' of LALEConfig.*family: ClassVar\[str\] = 'widerhead'"):
        archs.register("wider-head", WiderHead(), archs.Provenance("none", 2026, "tests", "MIT"))
    assert type(archs.from_dict({"family": "lale"})) is LALEConfig and "wider-head" not in archs.names()


@dataclass(frozen=True)
class OwnEncoderConfig:
    family: ClassVar[str] = "own-encoder"
    width: int = 8

    def build_encoder(self, in_channels: int) -> nn.Module:
        return LALEEncoder(LALEConfig(widths=(8, 16, 32, 32), head_width=16, stem_width=self.width), in_channels)

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        return nn.Conv2d(in_channels, num_classes, 1)


def test_a_registered_network_with_an_encoder_pairs_with_every_decoder():
    if "own-encoder" not in archs.names():
        archs.register("own-encoder", OwnEncoderConfig(), archs.Provenance("none", 2026, "tests", "MIT"))
    for name in ("own-encoder+mlp", "lale-b-s1-k7+mlp"):
        assert count_params(archs.create(name, num_classes=3)).total > 0
