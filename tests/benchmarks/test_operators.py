"""What the networks are made of: each norm, activation, stem, kind of block and decoder, eager, compiled, deployed."""

import pytest
from timing import FORMS, layer_in, map_in, part_in, time_module

from archs.layers import ACTIVATIONS, NORMS, make_act, make_norm

SIZE = 256
PARTS = {
    "stem conv3x3": ("lale-s1", "stem", {}),
    "stem conv7x7": ("lale-s1", "stem", {"stem": "conv7x7"}),
    "stem patchify": ("lale-s1", "stem", {"stem": "patchify"}),
    "blocks ConvMixer": ("lale-s1", "stage2", {}),
    "blocks transformer": ("lale-s1", "stage3", {}),
    "blocks LWGA": ("lwganet-l0", "stage2", {}),
    "decoder MLP": ("lale-s1", "decoder", {}),
    "decoder UNetFormer": ("lwganet-l0", "decoder", {}),
    "decoder UPerNet": ("lemevit-tiny", "decoder", {}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
def test_norm(benchmark, norm, form):
    time_module(benchmark, layer_in(form, make_norm(norm, 64)), map_in(form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activation(benchmark, act, form):
    time_module(benchmark, layer_in(form, make_act(act)), map_in(form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", PARTS)
def test_part(benchmark, part, form):
    name, key, overrides = PARTS[part]
    module, inputs = part_in(form, name, key, SIZE, **overrides)
    time_module(benchmark, module, *inputs)
