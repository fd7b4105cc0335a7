"""Bytes on disk: against real files and worked-out sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file
from torch import nn

import archs
from bench.counting import measure_storage
from bench.counting.storage import TYPES, file_bytes
from bench.errors import BenchError

# From the specification of LALE: the papers' rule, MiB, to three digits.
PAPER_MIB = {
    "lale-s1": 5.979,
    "lale-s2": 9.966,
    "lale-s3": 13.953,
    "lale-s4": 17.941,
    "smp/linknet-efficientnet_b0": 16.062,
    "smp/pan-efficientnet_b0": 15.805,
    "smp/unet-efficientnet_b0": 24.019,
}


@pytest.mark.parametrize("name", PAPER_MIB)
def test_the_papers_rule(name):
    assert round(measure_storage(archs.create(name)).paper_mib, 3) == PAPER_MIB[name]


def test_the_papers_rule_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    parameters = 4 * (3 * 8 * 9 + 8 + 8 + 8)
    buffers = 4 * (8 + 8) + 8  # running statistics, and an int64 that counts batches
    assert measure_storage(model).paper_mib == (parameters + buffers) / 2**20


def test_the_papers_rule_speaks_of_float32_whatever_the_model_is_in():
    model = nn.Linear(5, 5)
    assert measure_storage(model.to(torch.bfloat16)).paper_mib == 4 * 30 / 2**20


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 9), depth=st.integers(1, 4), bias=st.booleans())
def test_bytes_are_those_of_the_file(tmp_path_factory, width, depth, bias):
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(width, width, 3, bias=bias), nn.BatchNorm2d(width))]
    model = nn.Sequential(*layers)
    path = tmp_path_factory.mktemp("file") / "weights.safetensors"
    for name, dtype in (("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}, path)
        assert measure_storage(model).file_bytes[name] == path.stat().st_size


@pytest.mark.parametrize("name", ["lale-s1", "lale-b-s1-k7", "smp/unet-efficientnet_b0", "timm/convnext_atto+mlp"])
def test_bytes_are_those_of_the_file_of_a_whole_network(name):
    model = archs.create(name)
    assert measure_storage(model).file_bytes["float32"] == len(save(model.state_dict()))
    assert measure_storage(model.to("meta")) == measure_storage(archs.create(name))


def test_bytes_with_every_type_and_awkward_names():
    model = nn.Module()
    for i, dtype in enumerate(TYPES):
        model.register_buffer(f'é{i}"', torch.zeros(3 * i + 1, 7).to(dtype))
    assert file_bytes(model) == len(save(model.state_dict()))


def test_a_type_that_the_format_lacks_is_named():
    model = nn.Module()
    model.register_buffer("phase", torch.zeros(3, dtype=torch.complex128))
    with pytest.raises(BenchError, match=r"phase is of type torch.complex128, which .* cannot hold: convert it first"):
        measure_storage(model)


def test_half_types_halve_the_weights_but_not_the_header():
    sizes = measure_storage(nn.Linear(1000, 1000, bias=False)).file_bytes
    weights = 1000 * 1000
    assert 4 * weights < sizes["float32"] < 4 * weights + 200
    assert 2 * weights < sizes["float16"] < 2 * weights + 200
    assert 2 * weights < sizes["bfloat16"] < 2 * weights + 200


def test_tied_and_overlapping_tensors_are_stored_once():
    model = nn.ModuleList([nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)])
    apart = measure_storage(model).file_bytes["float32"]
    model[1].weight = model[0].weight
    tied = measure_storage(model)
    assert 64 * 64 * 4 < tied.file_bytes["float32"] < apart - 64 * 64 * 4 + 200
    assert tied.paper_mib == 64 * 64 * 4 / 2**20


def test_a_view_of_a_larger_tensor_takes_its_own_size():
    model = nn.Module()
    model.register_buffer("corner", torch.arange(10_000.0).view(100, 100)[:10, :10])
    assert 400 < measure_storage(model).file_bytes["float32"] < 400 + 200


def test_tensors_without_elements_and_models_without_tensors():
    model = nn.Module()
    model.register_buffer("none", torch.empty(0))
    model.register_buffer("neither", torch.empty(0))
    assert measure_storage(model).file_bytes["float32"] > 0
    assert measure_storage(nn.ReLU()).paper_mib == 0


def test_measuring_leaves_the_model_alone(tmp_path):
    model = archs.create("lale-s1")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_storage(model)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    after = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
