"""Layers against their formulas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archs.layers import BatchRMSNorm, RMSNorm


def norm_of(channels: int) -> BatchRMSNorm:
    norm = BatchRMSNorm(channels).double()
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels) + 0.5)
        norm.bias.copy_(torch.rand(channels) - 0.5)
    return norm


@given(channels=st.integers(1, 6), batch=st.integers(1, 3), side=st.integers(1, 5), shift=st.floats(-3, 3))
def test_batch_rms_norm_is_its_formula_in_training_and_a_batch_norm_in_evaluation(channels, batch, side, shift):
    norm = norm_of(channels)
    norm.momentum = 1.0  # evaluation then remembers the one batch that it has seen
    x = torch.randn(batch, channels, side, side + 1, dtype=torch.double) + shift
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    expected = x / (x.square().mean() + norm.eps).sqrt() * weight + bias
    torch.testing.assert_close(norm(x), expected)
    assert not norm.running_mean.any()
    torch.testing.assert_close(norm.eval()(x), expected)


def test_batch_rms_norm_of_one_position_is_rms_norm():
    norm, plain = norm_of(7), RMSNorm(7, eps=1e-5).double()
    with torch.no_grad():
        norm.bias.zero_()
        plain.weight.copy_(norm.weight)
    x = torch.randn(1, 7, 1, 1, dtype=torch.double)
    torch.testing.assert_close(norm(x), plain(x))


def test_the_gradient_goes_through_the_mean_square():
    norm = norm_of(3)
    x = torch.randn(2, 3, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, norm.weight, norm.bias))
    norm.bias.data.zero_()
    torch.testing.assert_close(norm(1000 * x), norm(x), rtol=1e-4, atol=1e-8)  # no scale of the input is seen


@pytest.mark.parametrize(("momentum", "expected"), [(0.25, [1.75, 1.5625]), (None, [4.0, 2.5])])
def test_the_average_of_the_mean_squares(momentum, expected):
    norm = BatchRMSNorm(2)
    norm.momentum = momentum
    for value, average in zip((2.0, 1.0), expected, strict=True):
        norm(torch.full((1, 2, 2, 2), value))
        assert norm.running_var.tolist() == pytest.approx([average] * 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_half_precision_keeps_its_type_and_layout_and_sums_in_float(layout):
    norm = BatchRMSNorm(4)
    x = (torch.randn(8, 4, 64, 64) * 300).bfloat16().contiguous(memory_format=layout)
    y = norm(x)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=layout)
    assert y.float().square().mean().item() == pytest.approx(1, rel=1e-2)
    large = torch.full((1, 4, 64, 64), 300, dtype=torch.half)  # its squares are beyond half precision
    assert norm(large).isfinite().all()
