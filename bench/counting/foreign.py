"""What somebody else's counter is given to run, and its answer, with what it did not see."""

import copy
from dataclasses import dataclass

from torch import nn


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
