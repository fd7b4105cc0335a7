"""MACs as thop counts them: by class of module, blind to everything that is not a module."""

import copy
import warnings
from collections import Counter
from importlib import metadata
from typing import Any

import torch
from torch import nn

from bench.counting.foreign import ForeignCount
from bench.errors import BenchError


def count_thop(model: nn.Module, size: tuple[int, int], in_channels: int = 3) -> ForeignCount:
    """thop's count of one image of `(in_channels, *size)`, on a CPU copy of `model` (thop leaves buffers behind).

    thop sees modules of exactly the classes it knows: no subclasses, no functional calls, no bare parameters. It
    counts transposed convolutions by their output, norms as 4 an element and bilinear `nn.Upsample` as 11.

    `unsupported` lists the called classes of modules without a rule that have parameters or no children, with their
    number of modules. Fractions (adaptive pooling) are rounded for each class.

    Raises:
        BenchError: the model cannot run at this size.
    """
    profile, known = _thop()
    bare = copy.deepcopy(model).to("cpu").eval()
    dtype = next((p.dtype for p in bare.parameters() if p.is_floating_point()), torch.float32)
    try:
        x = torch.zeros(1, in_channels, *size, dtype=dtype)
        total, _, layers = profile(bare, inputs=(x,), verbose=False, ret_layer_info=True)
    except Exception as error:
        raise BenchError(
            f"thop cannot run {type(model).__name__} on a {in_channels} x {size[0]} x {size[1]} input "
            f"({(str(error).strip() or type(error).__name__).splitlines()[0]}); the exact count does not need it"
        ) from error
    by_class: Counter[str] = Counter()
    _add_layers(bare, layers, by_class)
    by_class[type(bare).__name__] += total - sum(by_class.values())
    by_operator = {name: round(count) for name, count in by_class.items() if round(count)}
    counter = f"thop {metadata.version('thop')}"
    return ForeignCount(counter, sum(by_operator.values()), by_operator, _without_rule(bare, known))


def _thop() -> tuple[Any, dict]:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="distutils Version classes are deprecated", category=DeprecationWarning
        )
        from thop import profile
        from thop.profile import register_hooks
    return profile, register_hooks


def _add_layers(module: nn.Module, layers: dict, by_class: Counter[str]) -> None:
    """Walk thop's tree of (MACs, parameters, children): only its leaves count anything themselves."""
    children = dict(module.named_children())
    for name, (macs, _, below) in layers.items():
        if below:
            _add_layers(children[name], below, by_class)
        else:
            by_class[type(children[name]).__name__] += macs


def _without_rule(model: nn.Module, known: dict) -> dict[str, int]:
    blind = [m for m in model.modules() if type(m) not in known and _works_itself(m)]
    return dict(Counter(type(m).__name__ for m in blind))


def _works_itself(module: nn.Module) -> bool:
    own = any(True for _ in module.parameters(recurse=False))
    leaf = next(module.children(), None) is None
    return own or (leaf and not isinstance(module, nn.Identity))
