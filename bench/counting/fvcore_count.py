"""MACs as fvcore counts them: the rule behind most published "GFLOPs" of this field."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from archs.errors import first_line
from archs.meta import images_for
from bench.counting.foreign import ForeignCount, on_cpu
from bench.errors import BenchError


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
