"""How the benchmarks time: on what device, in which form, and when a call is over."""

import torch
from torch import nn

import archs
from archs.deployment.kernels import use_fast_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FORMS = ("eager", "compiled", "deployed")


def synchronised(call, *inputs):
    """Call, then wait for the device: what is queued is not done."""
    result = call(*inputs)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return result


def time_module(benchmark, module, *inputs, rounds=20):
    """Rounds of one call each, after warm-up calls that also compile what is to be compiled."""
    with torch.inference_mode():
        benchmark.pedantic(synchronised, args=(module, *inputs), rounds=rounds, warmup_rounds=3)


def compiled(module):
    """The module compiled anew."""
    torch.compiler.reset()
    return torch.compile(module, dynamic=False)


def layer_in(form, layer):
    """A norm or an activation in one of the forms, on the device."""
    layer = nn.Sequential(layer).eval().to(DEVICE)
    if form == "deployed":
        use_fast_kernels(layer)
    return compiled(layer) if form == "compiled" else layer


def map_in(form):
    """A map of 64 channels, in the memory format in which networks of this form keep theirs."""
    layout = torch.channels_last if form == "deployed" else torch.contiguous_format
    return torch.rand(1, 64, 64, 64, device=DEVICE).to(memory_format=layout)


def part_in(form, name, part, size, **overrides):
    """A named part of a network in one of the forms, and what it is given inside the network for one image."""
    model = archs.create(name, **overrides).eval()
    model = (archs.deploy(model) if form == "deployed" else model).to(DEVICE)
    module, given = {**model.parts(), "decoder": model.decoder}[part], []
    hook = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    with torch.inference_mode():
        model(torch.rand(1, 3, size, size, device=DEVICE))
    hook.remove()
    inputs = tuple(_copied(value) for value in given[0])
    return (compiled(module) if form == "compiled" else module), inputs


def _copied(value):
    """Deployed modules overwrite activations: time them on a copy."""
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value.clone()
