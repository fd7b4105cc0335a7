"""MACs as thop counts them: by class of module, blind to everything that is not a module."""

import warnings
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from typing import Any

from torch import Tensor, nn

from archs.errors import first_line
from archs.meta import OnMeta, images_for, meta_copy
from bench.counting.foreign import ForeignCount, on_cpu
from bench.errors import BenchError


def count_thop(model: nn.Module, size: tuple[int, int], in_channels: int = 3) -> ForeignCount:
    """thop's count of one image of `(in_channels, *size)`, on a copy of `model` (thop leaves buffers behind).

    thop sees modules of exactly the classes it knows: no subclasses, no functional calls, no bare parameters. It
    counts transposed convolutions by their output, norms as 4 an element and bilinear `nn.Upsample` as 11.

    `unsupported` lists the called classes of modules without a rule that have parameters or no children, with their
    number of modules. Fractions (adaptive pooling) are rounded for each class.

    Raises:
        BenchError: the model cannot run at this size.
    """
    profile, known = _thop()
    x = images_for(model, size, in_channels, device="cpu")
    try:
        bare, (total, _, layers) = _profile(profile, model, x)
    except Exception as error:
        raise BenchError(
            f"thop cannot run {type(model).__name__} on a {in_channels} x {size[0]} x {size[1]} input "
            f"({first_line(error)}); the exact count does not need it"
        ) from error
    by_class: Counter[str] = Counter()
    _add_layers(bare, layers, by_class)
    by_class[type(bare).__name__] += total - sum(by_class.values())
    by_operator = {name: round(count) for name, count in by_class.items() if round(count)}
    counter = f"thop {metadata.version('thop')}"
    return ForeignCount(counter, sum(by_operator.values()), by_operator, _without_rule(bare, known))


def _profile(profile: Callable, model: nn.Module, x: Tensor) -> tuple[nn.Module, Any]:
    """A copy of `model` as thop leaves it, and thop's answer: from shapes alone if the model runs without values."""
    settings = {"verbose": False, "ret_layer_info": True}
    try:
        bare = meta_copy(model)
        with OnMeta():
            return bare, profile(bare, inputs=(x.to("meta"),), **settings)
    except Exception:  # whatever it raises: a model that needs values gets them
        bare = on_cpu(model)
        return bare, profile(bare, inputs=(x,), **settings)


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
