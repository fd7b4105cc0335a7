"""Where another counter's figure differs from the exact one: the differences, operator by operator, add up."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from bench.counting import count_fvcore, count_macs, count_thop
from bench.counting.foreign import ForeignCount
from bench.counting.macs import MacCount
from bench.counting.trace import OperatorCall
from bench.errors import BenchError

# fvcore's names and the dispatcher's, by what they are; the dispatcher takes linear, matmul and einsum apart.
PRODUCTS = "linear, matmul, einsum"
FAMILIES = {
    "convolution": "convolution",
    "conv": "convolution",
    "linear": PRODUCTS,
    "mm": PRODUCTS,
    "addmm": PRODUCTS,
}
FAMILIES |= {"bmm": PRODUCTS, "baddbmm": PRODUCTS, "addbmm": PRODUCTS, "mv": PRODUCTS, "addmv": PRODUCTS}
FAMILIES |= {"dot": PRODUCTS, "vdot": PRODUCTS, "_scaled_mm": PRODUCTS, "matmul": PRODUCTS, "einsum": PRODUCTS}


@dataclass(frozen=True)
class Difference:
    """`foreign - exact` for one kind of operator.

    `verdict`: "skipped" (the other counter has 0), "added" (the exact count keeps it apart from MACs) or "counted
    otherwise" (both count it, by different rules).
    """

    operator: str
    exact: int
    foreign: int

    @property
    def difference(self) -> int:
        """Positive where the other counter has more."""
        return self.foreign - self.exact

    @property
    def verdict(self) -> str:
        """Which of the three it is."""
        if not self.foreign:
            return "skipped"
        return "counted otherwise" if self.exact else "added"


@dataclass(frozen=True)
class Reconciliation:
    """The way from an exact count to another counter's: `exact + sum(row.difference for row in rows) == foreign`."""

    counter: str
    exact: int
    foreign: int
    rows: tuple[Difference, ...]


def reconcile(model: nn.Module, size: tuple[int, int], counter: str) -> Reconciliation:
    """Where the count of "fvcore" or "thop" differs from the exact one, for one image of `size`.

    Raises:
        BenchError: another counter, or one that cannot count the model.
    """
    if counter not in COUNTERS:
        raise BenchError(f"there is no counter {counter!r} to compare with; there are {', '.join(COUNTERS)}")
    count, compare = COUNTERS[counter]
    return compare(count_macs(model, size), count(model, size))


def reconcile_fvcore(exact: MacCount, foreign: ForeignCount) -> Reconciliation:
    """Set fvcore's operators against those of the exact count of the same model, size and batch of 1."""
    return _reconcile(
        exact,
        foreign,
        ours=_sums(exact, lambda call: FAMILIES.get(call.operator, call.operator)),
        theirs=_renamed(foreign, lambda name: FAMILIES.get(name, name)),
    )


def reconcile_thop(exact: MacCount, foreign: ForeignCount) -> Reconciliation:
    """Set thop's classes of modules against the operators that the exact count saw run inside modules of that class.

    What a module computes by itself, not through a child, is the module's.
    """
    operators: dict[str, list[str]] = {}
    for call in exact.calls:
        if call.macs and call.operator not in operators.setdefault(call.module_class, []):
            operators[call.module_class].append(call.operator)
    labels = {name: f"{name}: {', '.join(inside)}" for name, inside in operators.items()}
    return _reconcile(
        exact,
        foreign,
        ours=_sums(exact, lambda call: labels.get(call.module_class, call.module_class)),
        theirs=_renamed(foreign, lambda name: labels.get(name, name)),
    )


COUNTERS = {"fvcore": (count_fvcore, reconcile_fvcore), "thop": (count_thop, reconcile_thop)}


def _reconcile(exact: MacCount, foreign: ForeignCount, ours: Counter, theirs: Counter) -> Reconciliation:
    names = dict.fromkeys([*ours, *theirs])
    rows = (Difference(name, ours[name], theirs[name]) for name in names if ours[name] != theirs[name])
    largest_first = sorted(rows, key=lambda row: -abs(row.difference))
    return Reconciliation(foreign.counter, exact.total, foreign.macs, tuple(largest_first))


def _sums(exact: MacCount, label: Callable[[OperatorCall], str]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for call in exact.calls:
        if call.macs:
            sums[label(call)] += call.macs
    return sums


def _renamed(foreign: ForeignCount, label: Callable[[str], str]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for name, count in foreign.by_operator.items():
        sums[label(name)] += count
    return sums
