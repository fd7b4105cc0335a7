"""What a network has and its logits do not need: auxiliary heads, dropout, and work on the way to nothing."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import nn

from archs.decoders.unetformer import UNetFormerDecoder
from archs.decoders.upernet import UPerNet
from archs.deployment.norms import replace
from archs.errors import ArchError
from archs.layers import DropPath
from archs.lemevit import LeMeViTEncoder


class TrainingOnly(nn.Module):
    """Stands where a deployed network had a part that only training runs."""

    def forward(self, *args: Any) -> NoReturn:
        """Raises:
        ArchError: always.
        """
        raise ArchError("a deployed network has no auxiliary heads; train the one that it was made from")


def drop_unused(model: nn.Module) -> None:
    """Take out of `model`, in place, what its logits do not depend on in evaluation."""
    with torch.no_grad():
        for module in list(model.modules()):
            if isinstance(module, UPerNet | UNetFormerDecoder):
                module.aux_head = TrainingOnly()
            elif isinstance(module, LeMeViTEncoder):
                _drop_meta_tokens(module)
            elif isinstance(module, nn.modules.dropout._DropoutNd | DropPath):
                replace(model, module, nn.Identity())


def _drop_meta_tokens(encoder: LeMeViTEncoder) -> None:
    """The first transition acts on constants; the later ones and the final norms are read by the classifier only."""
    encoder.meta_tokens.table.data = encoder.stages[0].transition(encoder.meta_tokens.table.data)
    for stage in (encoder.stages[0], encoder.stages[3], encoder.stages[4]):
        stage.transition = nn.Identity()
    encoder.norm, encoder.norm_meta = nn.Identity(), nn.Identity()
