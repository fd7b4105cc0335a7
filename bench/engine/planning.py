"""What a run would do, and about how long it would take."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.engine.cells import Cell
from bench.records import Record, RecordStore


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

    @property
    def recorded(self) -> bool:
        """Whether there is a record, ok or failed."""
        return self.status != "missing"


def plan(cells: Sequence[Cell], store: RecordStore) -> list[Planned]:
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
