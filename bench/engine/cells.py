"""What a study hands to the engine, and what it gets back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bench.engine.display import duration
from bench.records import Record, record_key

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
