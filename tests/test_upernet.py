"""UPerNet as a decoder of any hierarchical encoder; its golden outputs stand with LeMeViT's, which it came with."""

from dataclasses import replace

import pytest
import torch
from golden import golden_fill
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from archs.decoders.upernet import UPerNet, UPerNetConfig
from archs.errors import ArchError
from archs.segmenter import Segmenter

WIDTHS, STRIDES = (8, 12, 16, 24), (4, 8, 16, 32)
SMALL = UPerNetConfig(width=16, aux_width=8, dropout=0.0)


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def maps(n: int, height: int, width: int) -> list[torch.Tensor]:
    return [
        torch.randn(n, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(WIDTHS, STRIDES, strict=True)
    ]


def decoder() -> UPerNet:
    return golden_fill(SMALL.build_decoder(WIDTHS, STRIDES, 5)).float()


@pytest.mark.parametrize(
    "widths,head,auxiliary",
    [
        ((64, 128, 192, 320), 28_293_637, 444_165),
        ((96, 192, 320, 384), 28_834_309, 739_077),
        ((96, 192, 384, 512), 29_719_045, 886_533),
    ],
)
def test_parameters_of_head_and_auxiliary_head(widths, head, auxiliary):
    with torch.device("meta"):
        built = UPerNetConfig().build_decoder(widths, STRIDES, 5)
    assert (size_of(built) - size_of(built.aux_head), size_of(built.aux_head)) == (head, auxiliary)
    assert sum(map(size_of, built.parts().values())) == size_of(built)
    assert next(reversed(built.parts())) == "aux_head"


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 90), st.integers(1, 90))
@torch.no_grad()
def test_logits_have_the_finest_maps_size_and_images_do_not_mix(n, height, width):
    built, features = decoder(), maps(n, height, width)
    logits, auxiliary = built.forward_aux(features)
    assert torch.equal(logits, built(features))
    assert logits.shape == (n, 5, *features[0].shape[-2:])
    assert auxiliary.shape == (n, 5, *features[2].shape[-2:])
    assert torch.allclose(built([x[:1] for x in features]), logits[:1], atol=1e-5)


@torch.no_grad()
def test_every_map_reaches_the_logits_and_one_the_auxiliary_ones():
    built, features = decoder(), maps(1, 64, 64)
    logits, auxiliary = built.forward_aux(features)
    for i in range(4):
        changed = [-x if i == j else x for j, x in enumerate(features)]
        other, other_auxiliary = built.forward_aux(changed)
        assert not torch.allclose(other, logits, atol=1e-3)
        assert torch.equal(other_auxiliary, auxiliary) == (i != 2)


class Maps(nn.Module):
    """An encoder of plain averages, so that all parameters are the decoder's."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        wide = x.repeat(1, WIDTHS[-1], 1, 1)
        return [nn.functional.avg_pool2d(wide[:, :width], s) for width, s in zip(WIDTHS, STRIDES, strict=True)]


def test_gradients_reach_the_auxiliary_head_through_forward_aux_only():
    model = Segmenter(Maps(), decoder()).train()
    x = torch.randn(2, 1, 64, 96)
    model(x).square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {f"decoder.aux_head.{name}" for name, _ in model.decoder.aux_head.named_parameters()}
    logits, [(weight, auxiliary)] = model.forward_aux(x)
    assert weight == 0.4
    assert logits.shape == auxiliary.shape == (2, 5, 64, 96)
    auxiliary.square().sum().backward()
    assert all(p.grad.any() for p in model.parameters())


def test_dropout_acts_in_training_only():
    built = UPerNetConfig(width=16, aux_width=8, dropout=0.5).build_decoder(WIDTHS, STRIDES, 5)
    features = maps(2, 64, 64)
    assert not torch.equal(built.train()(features), built(features))
    assert torch.equal(built.eval()(features), built(features))


def test_a_batch_of_one_trains_not_but_infers():
    built = SMALL.build_decoder(WIDTHS, STRIDES, 5)
    with pytest.raises(ArchError, match="batch of 1"):
        built.train()(maps(1, 64, 64))
    assert built.eval()(maps(1, 64, 64)).shape == (1, 5, 16, 16)
    several = replace(SMALL, pool_bins=(2, 4))
    assert (SMALL.min_train_batch, several.min_train_batch) == (2, 1)
    assert several.build_decoder(WIDTHS, STRIDES, 5).train()(maps(1, 64, 64)).shape == (1, 5, 16, 16)


@pytest.mark.parametrize("strides", [(16, 16, 16, 16), (32,), (8, 4)])
def test_encoders_of_one_stride_are_refused(strides):
    with pytest.raises(ArchError, match="growing stride"):
        SMALL.build_decoder(WIDTHS[: len(strides)], strides, 5)


@pytest.mark.parametrize(
    "fields", [{"width": 0}, {"aux_width": 0}, {"pool_bins": (1, 0)}, {"pool_bins": ()}, {"dropout": 1.0}]
)
def test_impossible_configs_are_refused_with_a_sentence(fields):
    with pytest.raises(ArchError, match="not possible"):
        UPerNetConfig(**fields)
