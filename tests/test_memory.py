"""Peak memory: worked out by hand for small networks, and properties of real ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

import archs
from bench.counting import count_macs
from bench.counting.memory import peak_inference_bytes, peak_training_bytes
from bench.errors import BenchError

FLOAT = 4


class Chain(nn.Module):
    """1x1 convolutions of one width, each one's input freed as soon as nobody needs it."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_inference_frees_as_it_goes(depth):
    weights, one_map = depth * 4 * 4 * FLOAT, 2 * 4 * 8 * 8 * FLOAT
    # the caller holds the input all along; beside it a layer's input and output
    alive = one_map * (2 if depth == 1 else 3)
    assert peak_inference_bytes(Chain(4, depth), (8, 8), batch=2, in_channels=4) == weights + alive


@pytest.mark.parametrize("depth", [2, 5])
def test_training_keeps_every_activation(depth):
    """At 64x64 with 2 channels the weights hardly matter: maps kept for the way back, and the loss at the end."""
    one_map = 2 * 64 * 64 * FLOAT
    short, long = (peak_training_bytes(Chain(2, d), (64, 64), in_channels=2) for d in (depth, depth + 1))
    extra_weights = 4 * FLOAT * 4 + 2 * FLOAT  # weight, gradient, two moments; AdamW counts steps as a tensor
    assert one_map <= long - short <= one_map + extra_weights


def test_training_holds_gradients_and_both_moments():
    model = Chain(64, 2)  # many weights, one pixel
    weights = 2 * 64 * 64 * FLOAT
    peak = peak_training_bytes(model, (1, 1), in_channels=64)
    assert 4 * weights <= peak <= 6 * weights  # AdamW's update needs a temporary or two of one layer's size


def test_auxiliary_heads_are_part_of_training():
    class WithHead(Chain):
        def forward_aux(self, x: Tensor) -> tuple[Tensor, list[tuple[float, Tensor]]]:
            y = self(x)
            return y, [(0.4, y * 2)]

    plain, with_head = Chain(2, 2), WithHead(2, 2)
    assert peak_inference_bytes(plain, (32, 32), in_channels=2) == peak_inference_bytes(
        with_head, (32, 32), in_channels=2
    )
    assert peak_training_bytes(with_head, (32, 32), in_channels=2) > peak_training_bytes(plain, (32, 32), in_channels=2)


def test_the_same_on_every_run_and_near_the_count_without_arithmetic():
    model = archs.create("lale-s1")
    peak = peak_inference_bytes(model, (64, 64))
    assert peak == peak_inference_bytes(model, (64, 64))
    count = count_macs(model, (64, 64))
    assert peak == pytest.approx(count.weight_bytes + count.peak_activation_bytes, rel=0.01)
    assert peak_training_bytes(model, (32, 32), batch=2) > 4 * count.weight_bytes


def test_memory_grows_with_batch_by_its_activations():
    model = Chain(4, 3)
    one, three = (peak_inference_bytes(model, (8, 8), batch=batch, in_channels=4) for batch in (1, 3))
    weights = 3 * 16 * FLOAT
    assert three - weights == 3 * (one - weights)


def test_measuring_leaves_the_model_alone():
    model = archs.create("lale-s1").eval()
    before = copy.deepcopy(model.state_dict())
    peak_inference_bytes(model, (32, 32))
    peak_training_bytes(model, (32, 32), batch=2)
    after = model.state_dict()
    assert not model.training
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("measure", [peak_inference_bytes, peak_training_bytes])
def test_a_model_that_fails_is_named(measure):
    with pytest.raises(BenchError, match=r"memory of Conv2d .* batch 2 of 3 x 8 x 8 on cpu"):
        measure(nn.Conv2d(5, 5, 1), (8, 8), batch=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_allocators_peak_on_a_gpu():
    model = Chain(64, 3)
    maps, weights = 8 * 64 * 64 * 64 * FLOAT, 3 * 64 * 64 * FLOAT
    for measure in (peak_inference_bytes, peak_training_bytes):
        on_gpu = measure(model, (64, 64), batch=8, device="cuda", in_channels=64)
        assert on_gpu >= 2 * maps + weights
        assert on_gpu >= 0.9 * measure(model, (64, 64), batch=8, in_channels=64)
