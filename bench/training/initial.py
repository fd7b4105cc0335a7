"""Initial weights of a network under a seed: drawn in the network's order, or each by its own name.

In the network's order one layer more moves every draw that follows, so that two variants of one seed begin as unlike as
two seeds. By name they begin alike wherever names and shapes agree.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from archs import ArchConfig
from bench.training.recipe import Recipe
from bench.training.tiles import derive_seed, seed_everything


def initial_network(config: ArchConfig, num_classes: int, in_channels: int, recipe: Recipe, seed: int) -> nn.Module:
    """The config's network with its initial weights under `seed`, drawn as the recipe's `init` says."""
    seed_everything(seed)
    if recipe.init == "order":
        return config.build(num_classes=num_classes, in_channels=in_channels)
    with _Writes() as writes:
        model = config.build(num_classes=num_classes, in_channels=in_channels)
    for name, parameter in model.named_parameters():
        torch.manual_seed(derive_seed(seed, f"init {name}"))
        writes.repeat(parameter)
    return model


class _Writes(TorchDispatchMode):
    """Remembers every operation that wrote into a tensor while a network was built, whoever's code it was.

    Repeated on a parameter under a seed of its own they draw it anew from its own distribution: libraries initialise
    in many ways, but all of them by writes such as `uniform_`, `erfinv_`, `mul_` (Kaiming, truncated normal). A
    parameter that was made from a random expression instead of written keeps its values.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[int, list[tuple[Any, Sequence[Any], Mapping[str, Any]]]] = defaultdict(list)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function._schema.is_mutable and args and isinstance(args[0], Tensor):
            self._of[_memory(args[0])].append((function, args, kwargs))  # holds the tensor, so no memory is used twice
        return function(*args, **kwargs)

    def repeat(self, parameter: nn.Parameter) -> None:
        """All writes into the memory of this parameter, once more, in their order."""
        with torch.no_grad():
            for function, args, kwargs in self._of[_memory(parameter)]:
                function(*args, **kwargs)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
