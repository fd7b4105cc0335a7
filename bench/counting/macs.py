"""The exact count: parameters, multiply-accumulates, element operations, launches and traffic of one forward pass."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from bench.counting.trace import OperatorCall, totals, trace_forward

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


@dataclass(frozen=True)
class MacCount:
    """What one forward pass of `batch` images of `size` costs, by the rules of `bench.counting.rules`.

    All figures are of the whole batch. `calls` is the evidence; everything else is a sum over it.
    """

    size: tuple[int, int]
    batch: int
    in_channels: int
    calls: tuple[OperatorCall, ...]
    by_part: dict[str, int]
    weight_bytes: int
    peak_activation_bytes: int

    @cached_property
    def total(self) -> int:
        """Multiply-accumulates: convolutions, linear layers, matrix products, both products of attention."""
        return sum(call.macs for call in self.calls)

    @cached_property
    def by_operator(self) -> dict[str, int]:
        """Multiply-accumulates by operator."""
        return totals((call.operator, call.macs) for call in self.calls)

    @cached_property
    def elementwise(self) -> dict[str, int]:
        """Element operations by operator (norms, activations, resizing, pooling, ...), which `total` leaves out."""
        return totals((call.operator, call.operations) for call in self.calls if call.kind != "mac")

    @cached_property
    def unknown(self) -> dict[str, int]:
        """Operators that the rule table does not know, with their number of calls: `total` may lack their work."""
        return dict(Counter(call.operator for call in self.calls if call.kind == "unknown"))

    @cached_property
    def activations(self) -> int:
        """Elements written by all operators that are not views."""
        return sum(call.written for call in self.calls)

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes written by all operators that are not views."""
        return sum(call.written_bytes for call in self.calls)

    @cached_property
    def read_bytes(self) -> int:
        """Bytes of the tensors, weights included, that the operators take, no cache considered."""
        return sum(call.read_bytes for call in self.calls)

    @cached_property
    def launches(self) -> int:
        """Operators that are not views; the number moves a little between versions of PyTorch."""
        return sum(call.launches for call in self.calls)

    @property
    def arithmetic_intensity(self) -> float:
        """Multiply-accumulates for each byte that an operator-by-operator execution reads or writes."""
        return self.total / max(self.read_bytes + self.activation_bytes, 1)


def count_macs(model: nn.Module, size: tuple[int, int], in_channels: int = 3, batch: int = 1) -> MacCount:
    """Count one forward pass of `model` in eval mode on `batch` images of `(in_channels, *size)`.

    Runs on a copy on the meta device: nothing is computed, and `model` stays as it is.

    Raises:
        BenchError: the model cannot run on the meta device, or not at this size.
    """
    trace = trace_forward(model, size, in_channels, batch)
    by_part = totals((name, call.macs) for call, name in _by_part(model, trace.calls))
    weights = {id(t): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    return MacCount(
        (size[0], size[1]), batch, in_channels, trace.calls, by_part, sum(weights.values()), trace.peak_activation_bytes
    )


def _by_part(model: nn.Module, calls: tuple[OperatorCall, ...]) -> Iterator[tuple[OperatorCall, str]]:
    """Each call with the part that the innermost possible module around it belongs to."""
    owner: dict[int, str] = {}
    for name, part in parts_of(model).items():
        for module in part.modules():
            owner.setdefault(id(module), name)
    part_of = {name: owner[id(module)] for name, module in model.named_modules() if id(module) in owner}
    for call in calls:
        yield call, next((part_of[name] for name in reversed(call.scope) if name in part_of), REST)
