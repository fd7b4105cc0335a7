"""What operators return on the meta device is what PyTorch says, asked for the first time or again."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archs import meta
from archs.meta import OnMeta, meta_copy, result_on_meta

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(meta, "_remembered", {})


def looks(tree):
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return [(t.shape, t.stride(), t.dtype, t.device, t.untyped_storage().nbytes()) for t in tensors]


class Compared(TorchDispatchMode):
    """Asks twice and compares with PyTorch's own answer, operator by operator."""

    def __init__(self):
        super().__init__()
        self.compared = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not func._schema.is_mutable:
            plain = looks(func(*args, **kwargs))
            for _ in range(2):
                assert looks(result_on_meta(func, args, kwargs)) == plain, func
            self.compared += 1
        return func(*args, **kwargs)


def network(width, norm):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1),
        norm(width),
        nn.GELU(),
        nn.MaxPool2d(2, return_indices=False),
        nn.Conv2d(width, width, 3, groups=width),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Flatten(2),
        nn.LayerNorm(16),
        nn.Linear(16, 5),
        nn.Softmax(1),
    ).to("meta")


@given(st.integers(1, 5), st.sampled_from([nn.BatchNorm2d, nn.InstanceNorm2d, nn.Identity]), st.booleans())
@settings(max_examples=20)
def test_every_operator_of_a_network(width, norm, channels_last):
    x = torch.empty(2, 3, 16, 16, device="meta")
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    with torch.no_grad(), Compared() as seen:
        network(width, norm).eval()(x)
    assert seen.compared >= 8


def test_what_is_asked_again_is_not_worked_out_again():
    x = torch.empty(2, 8, 5, 5, device="meta")
    result_on_meta(aten.gelu.default, (x,), {})
    (known,) = meta._remembered.values()
    assert known.shape == (2, 8, 5, 5)
    first, second = (result_on_meta(aten.gelu.default, (like,), {}) for like in (x, torch.empty_like(x)))
    assert first.untyped_storage()._cdata != second.untyped_storage()._cdata
    assert len(meta._remembered) == 1


@pytest.mark.parametrize(
    ("func", "arguments"),
    [
        (aten.view.default, ([20],)),  # the schema says that it is a view
        (aten._unsafe_view.default, ([20],)),  # it does not
        (aten.add_.Tensor, (1,)),
        (aten.detach.default, ()),
    ],
)
def test_another_look_at_an_argument_stays_one(func, arguments):
    for _ in range(2):
        x = torch.empty(4, 5, device="meta")
        out = result_on_meta(func, (x, *arguments), {})
        assert out.untyped_storage()._cdata == x.untyped_storage()._cdata
    assert not meta._remembered


def test_equal_numbers_of_different_types_are_different_questions():
    x = torch.empty(3, dtype=torch.int64, device="meta")
    for number, dtype in ((2, torch.int64), (2.0, torch.float32), (True, torch.int64), (2, torch.int64)):
        assert result_on_meta(aten.mul.Scalar, (x, number), {}).dtype == dtype
    torch.set_default_dtype(torch.float64)
    try:
        assert result_on_meta(aten.mul.Scalar, (x, 2.0), {}).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_tensors_elsewhere_are_computed():
    with OnMeta():
        assert F.gelu(torch.zeros(3)).tolist() == [0, 0, 0]
        assert (torch.arange(4) + 1).tolist() == [1, 2, 3, 4]
    assert not meta._remembered


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(meta, "MOST_REMEMBERED", 4)
    for side in range(1, 12):
        result_on_meta(aten.gelu.default, (torch.empty(side, device="meta"),), {})
        assert 1 <= len(meta._remembered) <= 4


def test_a_copy_has_shapes_and_no_values_and_leaves_the_model_alone():
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    model[1].weight = model[0].weight
    model[0].scale = torch.ones(2)
    bare = meta_copy(model)
    assert bare[1].weight is bare[0].weight and bare[0].scale.is_meta and not bare.training
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert model.training and not model[0].weight.is_meta and model[0].scale.tolist() == [1, 1]
