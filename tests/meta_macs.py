"""Multiply-accumulates by PyTorch's own counter on the meta device, where it sees every product."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

LINEAR_OPERATORS = ("convolution", "addmm", "mm")  # convolutions and linears, and nothing of attention


def meta_macs(module: nn.Module, *inputs: Tensor) -> dict[str, dict[str, int]]:
    """MACs by module path ("Global" is the whole), then by operator; module and inputs on the meta device."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return {
        path: {str(operator).rpartition(".")[2]: flops // 2 for operator, flops in counts.items()}
        for path, counts in counter.get_flop_counts().items()
    }
