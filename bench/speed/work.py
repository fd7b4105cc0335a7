"""The compulsory work of a call: what no runtime can leave out."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bench.counting import count_macs
from bench.errors import BenchError
from bench.speed.protocol import DTYPES
from bench.speed.roofline import Work


def compulsory_work(forms: Iterable[nn.Module], x: Tensor, precision: str) -> Work:
    """Exact MACs, and bytes of weights, input and output once, of a call on `x`: of the cheapest of `forms`.

    `forms` are networks that compute the same, on `x`'s device and of its type: a runtime that rewrites what it is
    given may run any of them, so that only the least is compulsory.
    """
    works = [_work(form, x, precision) for form in forms]
    counted = [work.macs for work in works if work.macs is not None]
    return Work(min(counted, default=None), min(work.bytes for work in works), precision)


def _work(model: nn.Module, x: Tensor, precision: str) -> Work:
    weights, output = _run(model, x)
    itemsize = DTYPES[precision].itemsize
    moved = 0 if output.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() else x.numel() + output.numel()
    try:
        macs = count_macs(model, (x.shape[-2], x.shape[-1]), x.shape[1], x.shape[0]).total
    except BenchError:
        macs = None
    return Work(macs, (weights + moved) * itemsize, precision)


@torch.inference_mode()
def _run(model: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """The number of weights in modules that are called (an auxiliary head is not), and the output."""
    used: dict[int, int] = {}

    def note(module: nn.Module, *_: object) -> None:
        used.update({id(p): p.numel() for p in module.parameters(recurse=False)})

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        output = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return sum(used.values()), output
