"""Every check figure of the registry, held against what the instruments find."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from torch import nn

import archs
from bench.counting import count_fvcore, count_macs, count_params, count_thop, measure_storage
from bench.errors import BenchError

Instrument = Callable[[nn.Module, tuple[int, int]], float]
Measured = Callable[[str, tuple[int, int]], float]

INSTRUMENTS: dict[str, Instrument] = {
    "params": lambda model, size: count_params(model).total,
    "macs": lambda model, size: count_macs(model, size).total,
    "fvcore_macs": lambda model, size: count_fvcore(model, size).macs,
    "thop_macs": lambda model, size: count_thop(model, size).macs,
    "paper_mib": lambda model, size: measure_storage(model).paper_mib,
}


@dataclass(frozen=True)
class CheckResult:
    """One check: `found` is None, with the reason in `problem`, where the instrument could not measure."""

    name: str
    quantity: str
    expected: float
    found: float | None
    ok: bool
    source: str
    problem: str = ""


def verify(names: Iterable[str]) -> Iterator[CheckResult]:
    """Measure each check figure of the named architectures; a model is built once for each number of classes.

    Yields results as they come, so that a caller can show progress.

    Raises:
        archs.errors.ArchError: a name is not registered.
    """
    for name in names:
        entry = archs.entry(name)
        checks = sorted(entry.checks, key=lambda check: check.num_classes)
        for num_classes, group in groupby(checks, key=lambda check: check.num_classes):
            measured = _instruments(archs.create(name, num_classes=num_classes).eval())
            for check in group:
                yield _compare(name, check, measured)


def _instruments(model: nn.Module) -> Measured:
    """Figures of one model, each measured once for each size."""
    return cache(lambda quantity, size: INSTRUMENTS[quantity](model, size))


def _compare(name: str, check: "archs.Check", measured: Measured) -> CheckResult:
    if check.quantity not in INSTRUMENTS:
        problem = f"no instrument measures {check.quantity!r}; there are {', '.join(INSTRUMENTS)}"
        return CheckResult(name, check.quantity, check.value, None, False, check.source, problem)
    try:
        found = measured(check.quantity, check.size)
    except BenchError as error:
        return CheckResult(name, check.quantity, check.value, None, False, check.source, str(error))
    ok = abs(found - check.value) <= check.tolerance
    return CheckResult(name, check.quantity, check.value, found, ok, check.source)
