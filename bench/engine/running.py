"""Measures the cells that are missing, one after another, beside any other process that does the same."""

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from bench.engine.cells import Cell, CellContext, Outcome, StudyInterrupted
from bench.engine.display import Display
from bench.engine.failures import Failure, describe, free_memory, is_full_disk
from bench.engine.helpers import helped
from bench.engine.planning import seconds_per_cost
from bench.errors import BenchError
from bench.records import Record, RecordStore, plain_json, private_parts

POLL_S = 0.2  # how often to look whether another process has finished or died


def run_cells(
    cells: Sequence[Cell],
    store: RecordStore,
    *,
    environment: Mapping[str, Any],
    console: Console | None = None,
    retry_failed: bool = False,
    alone: bool = False,
) -> list[Outcome]:
    """Measures every cell that has no record, and returns what is recorded of all of them.

    A cell that raises becomes a failed record with its reason, and the rest go on. Several processes may run the
    same cells over one folder: each cell is held by one of them, and what a killed one held is free at once. Equal
    cells are measured once. Untimed cells come first, on all cores; while the others run, nothing else does.

    Args:
        cells: the study, in the order it is to be measured.
        store: where records are looked up and written.
        environment: hardware and software, stored in each record (see `bench.records.environment`).
        console: where progress goes; standard error by default.
        retry_failed: measure again what is recorded as failed.
        alone: start no helpers for untimed cells (see `bench.engine.helpers`).

    Returns:
        One outcome a cell, in the order of `cells`.

    Raises:
        BenchError: determinants are not plain JSON, a record file is damaged, the disk is full. What was measured
            before is recorded.
        StudyInterrupted: Ctrl-C; the cell that ran goes on from its scratch folder next time.
    """
    run = _Run(cells, store, environment, retry_failed)
    with Display(len(run.cells), len(run.done), console) as display:
        try:
            untimed = run.untimed()
            with helped([] if alone else untimed, store, environment):
                run.finish(display, untimed)
            run.finish(display, run.missing())
        except KeyboardInterrupt:
            stop = StudyInterrupted(len(run.cells) - len(run.done))
            display.say(str(stop))
            raise stop from None
    return [run.outcome(cell) for cell in cells]


class _Run:
    """The state of one `run_cells`: which cells there are, and which have a final record."""

    def __init__(
        self, cells: Sequence[Cell], store: RecordStore, environment: Mapping[str, Any], retry_failed: bool
    ) -> None:
        self.store, self.environment = store, environment
        _check_shareable(cells, environment)
        self.cells = {cell.key: cell for cell in reversed(cells)}  # of equal cells the first one counts
        self.cells = {cell.key: self.cells[cell.key] for cell in cells}
        found = {key: record for key in self.cells if (record := store.get(key))}
        self.retried = {k: r for k, r in found.items() if retry_failed and r.status == "failed"}
        self.done = {
            key: Outcome(self.cells[key], record.status, record, fresh=False)
            for key, record in found.items()
            if key not in self.retried
        }
        for key in self.done:
            self._clear_scratch(key)

    def outcome(self, cell: Cell) -> Outcome:
        """The outcome of a cell, under the label it was asked for with."""
        known = self.done[cell.key]
        return Outcome(cell, known.status, known.record, known.fresh)

    def missing(self) -> list[Cell]:
        """The cells without a final record."""
        return [cell for cell in self.cells.values() if cell.key not in self.done]

    def untimed(self) -> list[Cell]:
        """Those of them that may be measured beside others: they come first, so that later nothing else runs."""
        return [cell for cell in self.missing() if cell.untimed]

    def finish(self, display: Display, cells: Sequence[Cell]) -> None:
        """Goes over these cells until all are done; those held elsewhere are looked at again later."""
        while missing := [cell for cell in cells if cell.key not in self.done]:
            got_on = [self._attempt(cell, display) for cell in missing]
            if not any(got_on):
                display.wait(len(missing))
                time.sleep(POLL_S)

    def _attempt(self, cell: Cell, display: Display) -> bool:
        """Settles one cell unless another process holds it; whether it is settled."""
        with self.store.claim(cell.key) as held:
            if not held:
                return False
            record = self.store.get(cell.key)  # another process may have written it since
            fresh = record is None or record == self.retried.get(cell.key)
            if fresh:
                display.begin(cell, self._left())
                record = self._measure(cell, display)
                self.store.put(record)
            self.done[cell.key] = Outcome(cell, record.status, record, fresh)
            shutil.rmtree(self.store.scratch(cell.key), ignore_errors=True)
        display.end(self.done[cell.key])
        return True

    def _measure(self, cell: Cell, display: Display) -> Record:
        """The cell's record, ok or failed.

        Raises:
            BenchError: the disk is full, which says nothing about the cell.
        """
        scratch = self.store.scratch(cell.key)
        start = time.perf_counter()
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            result = cell.run(CellContext(scratch, display.step))
            record = self._record(cell, result, time.perf_counter() - start)
        except Exception as error:
            if is_full_disk(error):
                raise _no_room(self.store) from error
            record = self._failed(cell, describe(error), time.perf_counter() - start)
        if record.status == "failed" or record.seconds > 1.0:  # a collection takes long beside a cell of milliseconds
            free_memory()  # after the except block: the exception's frames held the cell's model until here
        return record

    def _record(self, cell: Cell, result: Mapping[str, Any], seconds: float) -> Record:
        """The record of a success, refused here if it may not be written, so that only this cell fails."""
        record = Record.of(
            cell.kind, cell.determinants, result, environment=self.environment, seconds=seconds, cost=cell.cost
        )
        if found := private_parts(record.result, "result"):
            raise BenchError(f"the result names the machine, its user or an absolute path ({found[0]}): leave it out")
        return record

    def _failed(self, cell: Cell, failure: Failure, seconds: float) -> Record:
        """The record of a failure, without its partial result where that may not be written."""
        return Record.of(
            cell.kind,
            cell.determinants,
            _writable(failure.result),
            environment=self.environment,
            seconds=seconds,
            status="failed",
            reason=failure.reason,
            cost=cell.cost,
        )

    def _left(self) -> float | None:
        """Seconds until all is measured, from what is measured; None while a kind has no record yet."""
        rates = seconds_per_cost([outcome.record for outcome in self.done.values()])
        missing = [cell for key, cell in self.cells.items() if key not in self.done]
        if any(cell.kind not in rates for cell in missing):
            return None
        return sum(rates[cell.kind] * cell.cost for cell in missing)

    def _clear_scratch(self, key: str) -> None:
        """Removes what a kill between record and clearing left."""
        if self.store.scratch(key).exists():
            with self.store.claim(key) as held:
                if held:
                    shutil.rmtree(self.store.scratch(key), ignore_errors=True)


def _check_shareable(cells: Sequence[Cell], environment: Mapping[str, Any]) -> None:
    """Finds out before anything is measured that records could not be written.

    Raises:
        BenchError: the environment or a cell's determinants name the machine, its user or an absolute path.
    """
    found = private_parts(plain_json(environment, "environment", non_finite="null"), "environment")
    for cell in cells:
        found += private_parts(plain_json(cell.determinants, "determinants"), f"{cell.label}: determinants")
    if found:
        raise BenchError(
            "records are shared, so they may not name the machine, its user or an absolute path: leave out"
            f" {'; '.join(found[:3])}"
        )


def _writable(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A failed cell's partial result; what takes its place says why it cannot be kept."""
    try:
        plain = plain_json(result, "result", non_finite="null")
    except BenchError as error:
        return {"partial_result": f"left out: {error}"}
    found = private_parts(plain, "result")
    return {"partial_result": "left out: it names the machine, its user or a path"} if found else plain


def _no_room(store: RecordStore) -> BenchError:
    return BenchError(
        f"the disk is full (records go to {store.folder}): make room and start again; every record written before is"
        " safe, and the cell that ran goes on from its checkpoint"
    )
