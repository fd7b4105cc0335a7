"""Golden numbers: a deterministic fill of any network, and the seven figures that identify an output.

The fill depends on a tensor's role (weight, gain, bias, running statistic) and its element count only, so two
independent implementations of one architecture get the same weights whatever they call their parameters.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import archs
from bench.records.fingerprint import config_parts

INPUT_SALT = 1009


def noise(count: int, salt: int) -> np.ndarray:
    """U(i, salt) in [-1, 1) for i = 0..count-1, float64: an integer hash of the index, modulo 2^32."""
    h = np.arange(1, count + 1, dtype=np.uint32)
    h *= np.uint32(2654435761)
    h += np.uint32(salt * 40503 % 2**32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489917)
    h ^= h >> np.uint32(16)
    return h / 2.0**32 * 2 - 1


def golden_input(shape: Sequence[int]) -> Tensor:
    """The input of that shape, float64."""
    return torch.from_numpy(noise(prod(shape), INPUT_SALT)).reshape(tuple(shape))


@torch.no_grad()
def golden_fill(module: nn.Module, gain: float = 0.8, depthwise_gain: float | None = None) -> nn.Module:
    """Fill every parameter and batch-norm statistic of `module` in place; returns it, float64, in eval mode.

    depthwise_gain replaces `gain` in 4-D weights whose second dimension is 1.
    """
    module.double().eval()
    for name, parameter in module.named_parameters():
        parameter.copy_(_parameter_values(name, parameter, gain, depthwise_gain))
    for name, buffer in module.named_buffers():
        n = buffer.numel()
        if name.endswith("running_mean"):
            buffer.copy_(torch.from_numpy(0.1 * noise(n, n + 13)).reshape(buffer.shape))
        elif name.endswith("running_var"):
            buffer.copy_(torch.from_numpy(1 + 0.3 * noise(n, n + 17)).reshape(buffer.shape))
    return module


def _parameter_values(name: str, parameter: Tensor, gain: float, depthwise_gain: float | None) -> Tensor:
    n = parameter.numel()
    if parameter.ndim >= 2:
        depthwise = parameter.ndim == 4 and parameter.shape[1] == 1
        scale = depthwise_gain if depthwise and depthwise_gain is not None else gain
        values = scale * np.sqrt(3 * parameter.shape[0] / n) * noise(n, n)
    elif name.rpartition(".")[2].endswith("bias"):
        values = 0.1 * noise(n, n + 7)
    else:  # norm gains, and learned scalars that weigh branches
        values = 1 + 0.2 * noise(n, n)
    return torch.from_numpy(values).reshape(parameter.shape)


def golden_figures(output: Tensor) -> tuple[float, ...]:
    """Mean, mean absolute value, L2 norm, then the flat elements [0], [n//3], [n//2], [n-1]."""
    flat = output.detach().reshape(-1)
    n = flat.numel()
    picked = (flat[i].item() for i in (0, n // 3, n // 2, n - 1))
    return (flat.mean().item(), flat.abs().mean().item(), flat.norm().item(), *picked)


def assert_golden(output: Tensor, shape: Sequence[int], figures: Sequence[float]) -> None:
    """`output` has that shape and those figures, to the eight digits in which golden numbers are printed."""
    assert tuple(output.shape) == tuple(shape)
    found = golden_figures(output)
    wrong = [(a, b) for a, b in zip(found, figures, strict=True) if abs(a - b) > 1e-7 * abs(b) + 1e-12]
    assert not wrong, f"found, expected: {wrong}"


PINNED = Path(__file__).with_name("data") / "golden_outputs.json"
SIDE = 64
# Every family of ours, and every field of LALE and its decoder that chooses between functions.
NETWORKS = {
    "lale-s1": ("lale-s1", {}),
    "lale-s1, kernels of 7": ("lale-b-s1-k7", {}),
    **{f"lale-s1, {norm}": ("lale-s1", {"norm": norm}) for norm in ("layernorm", "batchnorm", "groupnorm", "batchrms")},
    **{f"lale-s1, {act}": ("lale-s1", {"act": act}) for act in ("gelu", "relu", "silu", "hardswish")},
    "lale-s1, fused attention": ("lale-s1", {"attention": "fused"}),
    "lwganet-l0": ("lwganet-l0", {}),
    "lwganet-l0+mlp": ("lwganet-l0+mlp", {}),
    "lemevit-tiny": ("lemevit-tiny", {}),
    "lemore": ("lemore", {}),
}


def pinned_config(label: str) -> Any:
    """The config of a network of `NETWORKS`."""
    name, changes = NETWORKS[label]
    return archs.fit_image_size(archs.config(name, **changes), (SIDE, SIDE))


def pinned_network(label: str) -> tuple[Any, list[int], list[float]]:
    """A network of `NETWORKS`: its config, the revisions of the configs in it, and the figures of its golden output."""
    config = pinned_config(label)
    model = golden_fill(archs.build(config, 7, 3))
    with torch.no_grad():
        output = model(golden_input((1, 3, SIDE, SIDE)))
    return config, [getattr(part, "revision", 1) for part in config_parts(config)], list(golden_figures(output))
