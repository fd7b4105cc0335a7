"""MACs as fvcore and thop count them, with what they did not see.

fvcore's is the rule behind most published "GFLOPs" of this field; thop counts by class of module, blind to everything
that is not a module."""

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from archs.errors import first_line
from archs.meta import OnMeta, images_for, meta_copy
from bench.errors import BenchError


@dataclass(frozen=True)
class ForeignCount:
    """A count as the named tool gives it, under its own rules.

    `by_operator` uses the tool's own names (fvcore: operators; thop: classes of modules) and sums to `macs`.
    `unsupported` holds what it met and counted as nothing, with the number of times.
    """

    counter: str
    macs: int
    by_operator: dict[str, int]
    unsupported: dict[str, int]


def on_cpu(model: nn.Module) -> nn.Module:
    """A copy in eval mode on the CPU, since tools leave traces behind; zeros where a model has no values (`meta`)."""
    own = copy.deepcopy(model).eval()
    if not any(tensor.is_meta for tensor in (*own.parameters(), *own.buffers())):
        return own.to("cpu")
    own.to_empty(device="cpu")
    for tensor in (*own.parameters(), *own.buffers()):
        tensor.detach().zero_()
    return own


def count_fvcore(model: nn.Module, size: tuple[int, int], in_channels: int = 3) -> ForeignCount:
    """fvcore's default count of one image of `(in_channels, *size)`, on a CPU copy of `model` in eval mode.

    Besides convolutions and matrix products it counts bilinear resizing (4 an element written), batch norm (2), layer
    and group norm (5) and adaptive pooling (1 an element read), and it counts fused attention as nothing.

    Raises:
        BenchError: the model cannot be traced at this size.
    """
    bare = on_cpu(model)
    x = images_for(bare, size, in_channels, device="cpu")
    try:
        with _quiet():
            analysis = _analysis(bare, x)
            by_operator = {name: round(count) for name, count in analysis.by_operator().items()}
            unsupported = dict(analysis.unsupported_ops())
    except Exception as error:
        raise BenchError(
            f"fvcore cannot trace {type(model).__name__} on a {in_channels} x {size[0]} x {size[1]} input "
            f"({first_line(error)}); the exact count does not need it"
        ) from error
    version = metadata.version("fvcore")
    return ForeignCount(f"fvcore {version}", sum(by_operator.values()), by_operator, unsupported)


def _analysis(model: nn.Module, x: Tensor) -> Any:
    from fvcore.nn import FlopCountAnalysis  # compiles TorchScript as it is imported, and is told off for it

    return FlopCountAnalysis(model, x)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what is in the result anyway (unsupported operators) and what tracing says of fixed sizes."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", message=".*`torch.jit.*` is deprecated.*")
            yield
    finally:
        logger.setLevel(level)


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
