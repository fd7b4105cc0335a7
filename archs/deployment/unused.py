"""What a network has and its logits do not need: auxiliary heads, dropout, and work on the way to nothing."""

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from archs.deployment.flow import Flow
from archs.deployment.norms import replace
from archs.errors import ArchError
from archs.layers import DropPath
from archs.lemevit import LeMeViTEncoder

DROPOUTS = nn.Dropout.__module__


class LeftOut(nn.Module):
    """Stands where the network had a part that did not run: an auxiliary head, or what only a classifier reads."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises:
        ArchError: always.
        """
        raise ArchError(f"a deployed network has no {self.name}, which its logits do not need; run the trained one")


def drop_unread(model: nn.Module, flow: Flow) -> None:
    """Take out, in place, the largest parts of which the pass called no module and read no weight."""
    needed = {str(value.name) for value, readers in flow.readers.items() if readers} | flow.called
    held = [*model.named_modules(remove_duplicate=False), *_tensors(model)]
    _drop_below(model, "", {id(part) for name, part in held if name in needed})


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Weights and buffers under every name that they have."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def _drop_below(module: nn.Module, prefix: str, needed: set[int]) -> None:
    """What is needed under one of its names (a head that two levels share) is needed under the others."""
    for name, child in list(module.named_children()):
        path = f"{prefix}{name}"
        weights = [tensor for _, tensor in _tensors(child)]
        if weights and not needed & set(map(id, (*weights, *child.modules()))):
            setattr(module, name, LeftOut(path))
        else:
            _drop_below(child, f"{path}.", needed)


def _is_inert(module: nn.Module) -> bool:
    """Dropout of torch's own, or ours; a subclass may do anything in its forward pass."""
    kind = type(module)
    return kind is DropPath or (issubclass(kind, nn.modules.dropout._DropoutNd) and kind.__module__ == DROPOUTS)


def drop_inert(model: nn.Module) -> None:
    """Take out, in place, what does nothing in evaluation, or nothing that the output depends on."""
    replace(model, {module: nn.Identity() for module in model.modules() if _is_inert(module)})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LeMeViTEncoder):
                _drop_meta_tokens(module)


def _drop_meta_tokens(encoder: LeMeViTEncoder) -> None:
    """The first transition acts on constants; the last two are for the meta tokens that the classifier reads."""
    stages: Any = encoder.stages
    encoder.meta_tokens.table.data = stages[0].transition(encoder.meta_tokens.table.data)
    for stage in (stages[0], stages[3], stages[4]):
        stage.transition = nn.Identity()
