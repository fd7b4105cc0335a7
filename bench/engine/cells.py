"""What a study hands to the engine, what it gets back, and about how long that would take."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bench.engine.display import duration
from bench.records import Record, RecordStore, record_key

Progress = Callable[[int, int, str], None]
"""progress(done, total, note): how far the running cell is, in steps of its own."""


@dataclass(frozen=True)
class CellContext:
    """What a running cell may use.

    Attributes:
        scratch: an existing folder of the cell's own; it survives a kill and goes away once the record is written,
            so a training keeps its checkpoints there. Its name is the cell's key.
        progress: to be called now and then with how far the cell is; cheap.
    """

    scratch: Path
    progress: Progress


@dataclass(frozen=True)
class Cell:
    """One measurement of a study, not made yet.

    Attributes:
        kind: what sort of measurement it is, as "train"; see `Record`.
        label: how people call it, in progress and plans; it does not determine anything.
        determinants: everything that the result depends on; plain JSON. Equal cells are measured once.
        about: what its readers want to know beside; plain JSON, determines nothing (see `Record`).
        run: measures; returns the result as plain JSON, or raises. An exception becomes a failed record;
            `CellFailed` keeps a partial result.
        cost: size in any unit that is the same for all cells of the kind; only for estimates of time.
        untimed: whether nothing in it is timed and one core is enough, so that it may be measured beside others, by
            another process if `run` can be pickled. A timed cell is measured alone.
        long: whether an untimed cell takes minutes (a training), so that a process of its own pays from two cells on.
    """

    kind: str
    label: str
    determinants: Mapping[str, Any]
    run: Callable[[CellContext], Mapping[str, Any]] = field(repr=False, compare=False)
    cost: float = 1.0
    untimed: bool = False
    long: bool = False
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def key(self) -> str:
        """The key of the cell's record.

        Raises:
            BenchError: a determinant is not plain JSON.
        """
        return record_key(self.kind, self.determinants)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: the cell.
        status: "ok" or "failed", as its record says.
        record: its record.
        fresh: whether this run measured it; False if it was recorded already or another run did.
    """

    cell: Cell
    status: Literal["ok", "failed"]
    record: Record
    fresh: bool

    def __str__(self) -> str:
        took = f"in {duration(self.record.seconds)}" if self.fresh else "by another process"
        if self.status == "failed":
            return f"{self.cell.label}: FAILED {took}: {self.record.reason}"
        return f"{self.cell.label}: ok {took}"


class CellFailed(Exception):
    """Raised by a cell that failed but has something to show, as a training that turned non-finite.

    Args:
        reason: one sentence, recorded as it is.
        result: the partial result, plain JSON.
    """

    def __init__(self, reason: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.result = dict(result or {})


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run: everything measured so far is recorded; `str` says how to go on.

    Attributes:
        remaining: cells without a record.
    """

    def __init__(self, remaining: int) -> None:
        super().__init__(
            f"stopped with {remaining} {'cell' if remaining == 1 else 'cells'} to go; what was measured is recorded,"
            " and the same command goes on from there"
        )
        self.remaining = remaining


@dataclass(frozen=True)
class Planned:
    """One cell of a plan.

    Attributes:
        cell: the cell.
        status: "ok" or "failed" as recorded, or "missing".
        estimate_s: seconds that measuring it would take, from the records of its kind; None while there are none;
            0 where it is recorded, or equals an earlier cell of the plan.
    """

    cell: Cell
    status: Literal["ok", "failed", "missing"]
    estimate_s: float | None


def plan(cells: Sequence[Cell], store: RecordStore, *, retry_failed: bool = False) -> list[Planned]:
    """What `run_cells` would find and do, cell by cell, without doing it.

    Raises:
        BenchError: a cell's determinants are not plain JSON, its record file is damaged, or the folder holds records of
            an earlier schema.
    """
    store.refuse_outdated()
    rates = seconds_per_cost(store.all())
    seen: set[str] = set()
    planned = []
    for cell in cells:
        record = store.get(cell.key)
        if retry_failed and record is not None and record.status == "failed":
            record = None
        due = record is None and cell.key not in seen
        estimate = _estimate(cell, rates) if due else 0.0
        planned.append(Planned(cell, record.status if record else "missing", estimate))
        seen.add(cell.key)
    return planned


def seconds_per_cost(records: Sequence[Record]) -> dict[str, float]:
    """By kind, the median over its successful records of seconds per unit of cost."""
    rates: dict[str, list[float]] = {}
    for record in records:
        if record.status == "ok" and record.cost > 0:
            rates.setdefault(record.kind, []).append(record.seconds / record.cost)
    return {kind: statistics.median(values) for kind, values in rates.items()}


def _estimate(cell: Cell, rates: dict[str, float]) -> float | None:
    return rates[cell.kind] * cell.cost if cell.kind in rates else None
