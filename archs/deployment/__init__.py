"""The deployed form of a network: the same function for inference, from fewer weights, operators and passes.

`archs.deploy` is the whole of it; `fold` its first half, the algebra on weights alone, whose parameters and MACs can
be worked out on paper.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from archs.deployment.flow import trace_flow
from archs.deployment.kernels import use_fast_kernels
from archs.deployment.linear import fold_linear_decoders
from archs.deployment.norms import Fold, find_folds, fold_norms
from archs.deployment.unused import drop_unused
from archs.errors import ArchError
from archs.registry import InputRule

__all__ = ["deploy", "fold"]

# One size that everything fits and one that nothing does, so that no padding or resize is taken for absent.
PROBES = ((224, 224), (131, 197))


def deploy(model: nn.Module, sizes: Sequence[tuple[int, int]] | None = None) -> nn.Module:
    """A new network for inference: in real numbers the same function of every input, in fewer operators.

    What is exact, that is, differs by the rounding of the weights' and activations' type only:

    - branches that timm's modules know how to merge (RepVGG's and the like) are merged;
    - projections, mixing and batch norm of LALE's and Segformer's decoders multiply out to one projection a map, at
      the map's own resolution (`archs.deployment.linear`);
    - batch norms go into the convolutions and linear layers around them wherever the recorded data flow shows that
      nothing else would notice (`archs.deployment.norms`); the others stay as they are;
    - RMSNorm's weight and StarReLU's scale and shift go into a 1x1 convolution behind; explicit attention becomes
      the fused operator (`archs.deployment.kernels`);
    - auxiliary heads, dropout and computations whose results nothing reads are left out.

    The arithmetic on weights is done in double precision and rounded once. Parts keep their names; parameters ask for
    no gradient; LALE runs channels-last inside, whatever it is given. Gradients of the input are not to be had:
    activations are overwritten. The given model is left as it is, and a deployed one is returned as it is.

    Args:
        sizes: (H, W) of images to record the data flow on, without computing; needed only for networks of your own
            that take neither 224x224 nor 131x197.

    Raises:
        ArchError: the network runs at none of the sizes.
    """
    if getattr(model, "deployed", False):
        return model
    with _working_copy(model) as work:
        _fold(work, sizes)
        use_fast_kernels(work)
    work.deployed = True
    return work


def fold(model: nn.Module, sizes: Sequence[tuple[int, int]] | None = None) -> nn.Module:
    """`deploy` without its choice of operators: weights multiplied out, unused parts left out, nothing else changed.

    Counters that know the operators of the trained network know these.
    """
    with _working_copy(model) as work:
        _fold(work, sizes)
    return work


@contextmanager
def _working_copy(model: nn.Module) -> Iterator[nn.Module]:
    """A copy in eval mode without gradients, in double precision inside the context and as the model was after it."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    work = copied.to(dtype=torch.float64, device=None if first.is_meta else "cpu")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # libraries that merge branches make new layers of the default type
    try:
        with torch.device(first.device if first.is_meta else "cpu"):
            yield work
    finally:
        torch.set_default_dtype(before)
    work.requires_grad_(False).to(first.device, first.dtype)


def _fold(model: nn.Module, sizes: Sequence[tuple[int, int]] | None) -> None:
    _merge_branches(model)
    drop_unused(model)
    fold_linear_decoders(model)
    fold_norms(model, _agreed_folds(model, sizes or _sizes(model)))


def _merge_branches(model: nn.Module) -> None:
    """Let timm's modules merge what they can (they name the method in three ways)."""
    for name, child in list(model.named_children()):
        if not type(child).__module__.startswith("timm."):
            _merge_branches(child)
            continue
        if hasattr(child, "fuse"):
            child = child.fuse()
            setattr(model, name, child)
        elif hasattr(child, "reparameterize"):
            child.reparameterize()
        elif hasattr(child, "switch_to_deploy"):
            child.switch_to_deploy()
        _merge_branches(child)


def _sizes(model: nn.Module) -> Sequence[tuple[int, int]]:
    rules = [rule for module in model.modules() if isinstance(rule := getattr(module, "rule", None), InputRule)]
    fixed = [rule.fixed for rule in rules if rule.fixed is not None]
    return fixed[:1] or PROBES


def _agreed_folds(model: nn.Module, sizes: Iterable[tuple[int, int]]) -> list[Fold]:
    """What can be folded at each of the sizes that the network takes."""
    in_channels = _in_channels(model)
    found: list[set[Fold]] = []
    refusals: list[str] = []
    for size in sizes:
        try:
            flow = trace_flow(model, size, in_channels)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            refusals.append(f"{size[0]}x{size[1]}: {str(error).strip().splitlines()[0]}")
        else:
            found.append(find_folds(model, flow))
    if not found:
        raise ArchError(
            f"{type(model).__name__} runs without values at none of the sizes that were tried "
            f"({'; '.join(refusals)}); name a size that it takes, as sizes=[(256, 256)]"
        )
    return sorted(set.intersection(*found), key=lambda fold: fold.norm)


def _in_channels(model: nn.Module) -> int:
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    return next((m.in_channels for m in convolutions), 3)
