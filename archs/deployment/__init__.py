"""The deployed form of a network: the same function for inference, from fewer weights, operators and passes.

`archs.deploy` is the whole of it; `fold` its first half, the algebra on weights alone, whose parameters and MACs can
be worked out on paper.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from archs.deployment.flow import Flow, trace_flow
from archs.deployment.kernels import use_fast_kernels
from archs.deployment.linear import fold_linear_decoders
from archs.deployment.norms import fold_norms, is_hooked
from archs.deployment.search import find_folds
from archs.deployment.unused import drop_inert, drop_unread
from archs.errors import ArchError, first_line
from archs.registry import InputRule

__all__ = ["deploy", "fold"]

# To record the data flow at. The first fits nothing, so that every padding, crop and resize is there; at sizes that
# fit some are left out, which puts nothing new between a layer and its norm.
SIZES = ((131, 197), (224, 224))


def deploy(model: nn.Module, size: tuple[int, int] | None = None, in_channels: int | None = None) -> nn.Module:
    """A new network for inference: in real numbers the same function of every input, in fewer operators.

    What is exact, that is, differs by the rounding of the weights' and activations' type only:

    - branches that timm's modules know how to merge (RepVGG's and the like) are merged;
    - projections, mixing and batch norm of LALE's and Segformer's decoders multiply out to one projection a map, at
      the map's own resolution (`archs.deployment.linear`);
    - batch norms go into the convolutions and linear layers around them wherever the recorded data flow shows that
      nothing else would notice (`archs.deployment.search`); the others stay as they are;
    - RMSNorm's weight and StarReLU's scale and shift go into a 1x1 convolution behind; explicit attention becomes
      the fused operator (`archs.deployment.kernels`);
    - what never runs in evaluation (auxiliary heads, dropout, layers left over from a classifier) is left out.

    The arithmetic on weights is done in double precision and rounded once. Parts keep their names; parameters ask for
    no gradient; LALE runs channels-last inside, whatever it is given. Gradients of the input are not to be had:
    activations are overwritten. The given model is left as it is, and a deployed one is returned as it is.

    Args:
        size: (H, W) of an image to record the data flow on, without computing; needed only for a network of your own
            that takes neither 131x197 nor 224x224.
        in_channels: of its input; without it, what its first convolution takes.

    Raises:
        ArchError: the network does not run at that size, or not without values.
    """
    if getattr(model, "deployed", False):
        return model
    with _working_copy(model) as work:
        _fold(work, size, in_channels)
        use_fast_kernels(work)
    work.deployed = True  # type: ignore[assignment]  # a plain attribute: nn.Module's types allow for tensors only
    return work


def fold(model: nn.Module, size: tuple[int, int] | None = None, in_channels: int | None = None) -> nn.Module:
    """`deploy` without its choice of operators: weights multiplied out, unused parts left out, nothing else changed.

    Counters that know the operators of the trained network know these.
    """
    with _working_copy(model) as work:
        _fold(work, size, in_channels)
    return work


@contextmanager
def _working_copy(model: nn.Module) -> Iterator[nn.Module]:
    """A copy in eval mode without gradients: in double precision inside the context, then as the model is."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    work = copy.deepcopy(model).eval()
    work.to("meta" if first.is_meta else "cpu", torch.float64)
    yield work
    work.requires_grad_(False).to(first.device, first.dtype)


def _fold(model: nn.Module, size: tuple[int, int] | None, in_channels: int | None) -> None:
    with _new_layers_like(next(model.parameters(), torch.empty(0))):
        _merge_branches(model)
    fold_linear_decoders(model)
    drop_inert(model)
    flow = _flow(model, size, in_channels or _in_channels(model))
    folds = find_folds(model, flow)
    drop_unread(model, flow)
    fold_norms(model, folds)


@contextmanager
def _new_layers_like(parameter: Tensor) -> Iterator[None]:
    """Layers that a library makes without saying of which type, and where, are made like `parameter`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(parameter.dtype)
    try:
        with parameter.device:
            yield
    finally:
        torch.set_default_dtype(before)


def _merge_branches(model: nn.Module) -> None:
    """Let timm's modules merge the branches that they can; three conventions name the method."""
    for name, child in list(model.named_children()):
        if type(child).__module__.startswith("timm.") and not any(map(is_hooked, child.modules())):
            child = _merged(child)
            setattr(model, name, child)
        _merge_branches(child)


def _merged(module: Any) -> nn.Module:
    if hasattr(module, "fuse"):
        return module.fuse()
    if hasattr(module, "reparameterize"):
        module.reparameterize()
    elif hasattr(module, "switch_to_deploy"):
        module.switch_to_deploy()
    return module


def _flow(model: nn.Module, size: tuple[int, int] | None, in_channels: int) -> Flow:
    """The data flow at `size`, else at the first of our own that the network takes."""
    refusals: list[str] = []
    for height, width in [size] if size else _sizes(model):
        try:
            return trace_flow(model, (height, width), in_channels)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            refusals.append(f"{height}x{width}: {first_line(error)}")
    raise ArchError(
        f"the data flow of {type(model).__name__} cannot be recorded without values ({'; '.join(refusals)}); "
        f"give a size that it takes, as size=(256, 256), and its bands (now {in_channels}), as in_channels=3, and see "
        "that no step needs a tensor's content"
    )


def _sizes(model: nn.Module) -> Sequence[tuple[int, int]]:
    rules = [rule for module in model.modules() if isinstance(rule := getattr(module, "rule", None), InputRule)]
    fixed = [rule.fixed for rule in rules if rule.fixed is not None]
    return fixed[:1] or SIZES


def _in_channels(model: nn.Module) -> int:
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    return next((m.in_channels for m in convolutions), 3)
