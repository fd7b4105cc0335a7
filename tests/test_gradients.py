"""What trains faster is the same function with the same gradients; whoever evaluates, counts or exports sees the
operators of the published form."""

import pytest
import torch
from torch import nn

import archs
from archs.decoders.mlp import MLPDecoder, MLPDecoderConfig
from archs.gradients import RMSNormFunction, StarReLUFunction
from archs.layers import RMSNorm, StarReLU


def test_gradients_by_hand_are_those_of_the_values():
    x = torch.randn(2, 5, 3, 4, dtype=torch.double, requires_grad=True)
    weight = torch.rand(5, dtype=torch.double, requires_grad=True)
    scale, shift = (torch.tensor([v], dtype=torch.double, requires_grad=True) for v in (0.9, -0.4))
    assert torch.autograd.gradcheck(lambda *given: RMSNormFunction.apply(*given, 1e-6), (x, weight))
    assert torch.autograd.gradcheck(StarReLUFunction.apply, (x, scale, shift))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("make", [lambda: RMSNorm(24), StarReLU])
def test_training_and_evaluation_are_one_function(make, layout):
    layer = make()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    gradient, found = torch.randn(4, 24, 6, 7), []
    for training in (True, False):
        x = torch.randn(4, 24, 6, 7, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
        layer.train(training).zero_grad()
        y = layer(x.requires_grad_())
        assert ("FunctionBackward" in type(y.grad_fn).__name__) == training
        y.backward(gradient)
        found.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for ours, written_out in zip(*found, strict=True):
        torch.testing.assert_close(ours, written_out, rtol=1e-4, atol=1e-5)


def test_the_decoder_multiplied_out_is_the_decoder():
    torch.manual_seed(0)
    decoder = MLPDecoder((4, 6, 8), 5, MLPDecoderConfig()).double()
    decoder.norm.eval()
    decoder.dropout.eval()
    maps = [torch.randn(2, width, side, side + 1, dtype=torch.double) for width, side in ((4, 12), (6, 5), (8, 3))]
    found = []
    for training in (True, False):
        decoder.training = training
        given = [x.clone().requires_grad_() for x in maps]
        decoder.zero_grad()
        y = decoder(given)
        y.square().sum().backward()
        found.append([y, *(x.grad for x in given), *(p.grad.clone() for p in decoder.parameters())])
    for ours, published in zip(*found, strict=True):
        torch.testing.assert_close(ours, published)


def test_a_training_step_of_lale_is_that_of_its_published_form():
    """With all of it, in float32, drop path and dropout off: the gradients of a whole network."""
    found = []
    for published in (False, True):
        torch.manual_seed(0)
        model = archs.create("lale-s1", drop_path=0.0)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout2d):
                module.eval()
            elif published and isinstance(module, RMSNorm | StarReLU | MLPDecoder):
                module.training = False
        model(torch.rand(2, 3, 64, 64)).square().mean().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    scale = max(gradient.abs().max() for gradient in found[1])
    for ours, written_out in zip(*found, strict=True):
        torch.testing.assert_close(ours, written_out, rtol=1e-3, atol=1e-5 * float(scale))
