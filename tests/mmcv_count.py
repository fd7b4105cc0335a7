"""MMCV's complexity counter, by its rule: what papers that train with MMSegmentation print as GFLOPs.

Convolutions and linears count a multiply-accumulate as 1 and their bias as 1 an element written, batch norm 2 an
element, ReLU and ReLU6 1, pooling modules 1 an element read. Whatever runs as a function, attention products and
resizing included, is not seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

RECTIFIERS = (nn.ReLU, nn.ReLU6)


def _cost(module: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(module, nn.Conv2d | nn.Linear):
        products = module.weight[0].numel()  # of one output element
        return y.numel() * (products + (module.bias is not None))
    if isinstance(module, nn.BatchNorm2d):
        return 2 * x.numel()
    return x.numel() if isinstance(module, (*RECTIFIERS, nn.AdaptiveAvgPool2d)) else 0


@contextmanager
def mmcv_count(module: nn.Module) -> Iterator[list[int]]:
    """Collects the cost of every layer of `module` that runs meanwhile; their sum is the counter's figure."""
    costs: list[int] = []
    hooks = [
        leaf.register_forward_hook(lambda m, args, y: costs.append(_cost(m, args[0], y)))
        for leaf in module.modules()
        if not list(leaf.children())
    ]
    yield costs
    for hook in hooks:
        hook.remove()
