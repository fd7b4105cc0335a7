"""Parameters, all and by part, and the one answer to "which parts has this model?"."""

from dataclasses import dataclass

from torch import nn

REST = "rest"  # what belongs to no part


@dataclass(frozen=True)
class ParamCount:
    """Numbers of parameters; a tensor shared between modules counts once, in the first part that holds it."""

    total: int
    trainable: int
    by_part: dict[str, int]


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The model's own `parts()` in forward order, else its direct children by name."""
    named = getattr(model, "parts", None)
    return dict(named()) if callable(named) else dict(model.named_children())


def count_params(model: nn.Module) -> ParamCount:
    """Count the parameters of `model`; those outside all parts appear as `rest`."""
    seen: set[int] = set()
    by_part = {name: _unseen(part, seen) for name, part in parts_of(model).items()}
    rest = _unseen(model, seen)
    if rest:
        by_part[REST] = rest
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return ParamCount(sum(by_part.values()), trainable, by_part)


def _unseen(module: nn.Module, seen: set[int]) -> int:
    fresh = [p for p in module.parameters() if id(p) not in seen]
    seen.update(map(id, fresh))
    return sum(p.numel() for p in fresh)
