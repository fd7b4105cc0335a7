"""Measures the cells that are missing, alone or beside other processes that do the same."""

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console

from bench.engine.cells import Cell, CellContext, Outcome, StudyInterrupted, seconds_per_cost
from bench.engine.display import Display
from bench.engine.failures import describe, found_no_memory, free_memory, is_full_disk
from bench.engine.helpers import Helpers, Teller
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
) -> list[Outcome]:
    """Measures every cell that has no record, and returns what is recorded of all of them.

    A cell that raises becomes a failed record with its reason, and the rest go on. Several processes may run the
    same cells over one folder: each cell is held by one of them, and what a killed one held is free at once. Equal
    cells are measured once. Short untimed cells come first, one process a core; then timed ones, while nothing else
    runs; then long untimed ones (trainings), again one process a core, each on one thread. A single cell that is left
    has all threads. The record's environment names the threads, where it names any.

    Args:
        cells: the study, in the order it is to be measured.
        store: where records are looked up and written.
        environment: hardware and software, stored in each record (see `bench.records.environment`).
        console: where progress goes; standard error by default.
        retry_failed: measure again what is recorded as failed.

    Returns:
        One outcome a cell, in the order of `cells`.

    Raises:
        BenchError: determinants are not plain JSON, a record file is damaged, the disk is full. What was measured
            before is recorded.
        StudyInterrupted: Ctrl-C; the cells that ran go on from their scratch folders next time.
    """
    failed = {r.key: r for cell in cells if (r := store.get(cell.key)) and r.status == "failed"} if retry_failed else {}
    run = Run(cells, store, environment, failed)
    with Display(len(run.cells), len(run.done), console) as display:
        try:
            run.finish_all(display)
        except KeyboardInterrupt:
            stop = StudyInterrupted(len(run.cells) - len(run.done))
            display.say(str(stop))
            raise stop from None
    return [run.outcome(cell) for cell in cells]


Shown = Display | Teller
"""What a run tells of itself: to people, or in a helper to the process that started it."""


class Run:
    """The state of one run: which cells there are, and which have a final record.

    Args:
        cells: the study.
        store: where records are looked up and written.
        environment: stored in each record.
        retried: failed records that are not final, by key.
        shared: whether other processes measure beside this one. A cell that then finds no memory is put off.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        store: RecordStore,
        environment: Mapping[str, Any],
        retried: Mapping[str, Record],
        shared: bool = False,
    ) -> None:
        store.refuse_outdated()
        self.store, self.environment, self.retried = store, environment, retried
        _check_shareable(cells, environment)
        self.cells = {cell.key: cell for cell in reversed(cells)}  # of equal cells the first one counts
        self.cells = {cell.key: self.cells[cell.key] for cell in cells}
        found = {key: record for key in self.cells if (record := store.get(key))}
        self.done = {
            key: Outcome(self.cells[key], record.status, record, fresh=False)
            for key, record in found.items()
            if record != retried.get(key)
        }
        self.shared, self.put_off, self.helpers = shared, set[str](), Helpers()
        for key in self.done:
            self._clear_scratch(key)

    def outcome(self, cell: Cell) -> Outcome:
        """The outcome of a cell, under the label it was asked for with."""
        known = self.done[cell.key]
        return Outcome(cell, known.status, known.record, known.fresh)

    def finish_all(self, display: Display) -> None:
        """Everything that is missing: short cells on all cores, timed cells alone, long cells on all cores."""
        missing = [cell for cell in self.cells.values() if cell.key not in self.done]
        self._finish_shared(display, [cell for cell in missing if cell.untimed and not cell.long])
        self.finish(display, [cell for cell in missing if not cell.untimed])
        self._finish_shared(display, [cell for cell in missing if cell.untimed and cell.long])

    def _finish_shared(self, display: Display, cells: Sequence[Cell]) -> None:
        with Helpers.started(cells, self.store, self.environment, self.retried) as self.helpers:
            self.shared = len(self.helpers) > 0
            self.finish(display, cells)
        self.shared, self.helpers = False, Helpers()
        self.put_off.clear()
        self.finish(display, cells)

    def finish(self, display: Shown, cells: Sequence[Cell]) -> None:
        """Goes over these cells until all are done or put off; those held elsewhere are looked at again later."""
        while missing := [cell for cell in cells if not self._settled(cell.key)]:
            got_on = [self._attempt(cell, display) for cell in missing]
            if not any(got_on):
                if elsewhere := {cell.key for cell in missing} - self.helpers.running:
                    display.wait(len(elsewhere))
                time.sleep(POLL_S)
                self._listen(display)

    def _settled(self, key: str) -> bool:
        return key in self.done or key in self.put_off

    def _attempt(self, cell: Cell, display: Shown) -> bool:
        """Settles one cell unless another process holds it; whether it is settled."""
        if self._settled(cell.key):  # a helper did since the caller looked
            return True
        with self.store.claim(cell.key) as held:
            if not held:
                return False
            record = self.store.get(cell.key)  # another process may have written it since
            self._listen(display)  # if it was a helper, it has said so before it let the claim go
            if self._settled(cell.key):
                return True
            fresh = record is None or record == self.retried.get(cell.key)
            if fresh:
                display.begin(cell.key, cell.label, self._left())
                record = self._measure(cell, display)
                if self.shared and found_no_memory(record):
                    self._put_off(cell.key, display)
                    return True
                self.store.put(record)
            shutil.rmtree(self.store.scratch(cell.key), ignore_errors=True)
            assert record is not None, "one that is not fresh is there"
            self._settle(cell.key, record, fresh, display)
        return True

    def _settle(self, key: str, record: Record, fresh: bool, display: Shown) -> None:
        self.done[key] = Outcome(self.cells[key], record.status, record, fresh)
        display.end(key, str(self.done[key]))

    def _put_off(self, key: str, display: Shown) -> None:
        self.put_off.add(key)
        display.drop(key)

    def _listen(self, display: Shown) -> None:
        """Shows what helpers have said."""
        for event, key, *step in self.helpers.events():
            if event == "begin":
                display.begin(key, self.cells[key].label, self._left())
            elif event == "step":
                done, total, note = step
                display.step(key, int(done), int(total), note)
            elif event == "end" and (record := self.store.get(key)):
                self._settle(key, record, True, display)
            elif event == "drop":
                self._put_off(key, display)
            elif event == "lost":  # its claim is free
                display.drop(key)

    def _measure(self, cell: Cell, display: Shown) -> Record:
        """The cell's record, ok or failed.

        Raises:
            BenchError: the disk is full, which says nothing about the cell.
        """
        scratch = self.store.scratch(cell.key)

        def progress(done: int, total: int, note: str) -> None:
            display.step(cell.key, done, total, note)
            self._listen(display)

        start = time.perf_counter()
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            result = cell.run(CellContext(scratch, progress))
            record = self._record(cell, result, time.perf_counter() - start)
            if found := private_parts(record.result, "result"):  # refused here, so that only this cell fails
                raise BenchError(
                    f"the result names the machine, its user or an absolute path ({found[0]}): leave it out"
                )
        except Exception as error:
            if is_full_disk(error):
                raise _no_room(self.store) from error
            seconds, failure = time.perf_counter() - start, describe(error)
            record = self._record(cell, _writable(failure.result), seconds, status="failed", reason=failure.reason)
        if record.status == "failed" or record.seconds > 1.0:  # a collection takes long beside a cell of milliseconds
            free_memory()  # after the except block: the exception's frames held the cell's model until here
        return record

    def _record(self, cell: Cell, result: Mapping[str, Any], seconds: float, **failed: Any) -> Record:
        # Of this process now: beside others it has one.
        threads = {"threads": torch.get_num_threads()} if "threads" in self.environment else {}
        return Record.of(
            cell.kind,
            cell.determinants,
            result,
            environment={**self.environment, **threads},
            seconds=seconds,
            cost=cell.cost,
            about=cell.about,
            **failed,
        )

    def _left(self) -> float | None:
        """Seconds until all is measured, from what is measured; None while a kind has no record yet."""
        rates = seconds_per_cost([outcome.record for outcome in self.done.values()])
        missing = [cell for key, cell in self.cells.items() if key not in self.done]
        if any(cell.kind not in rates for cell in missing):
            return None
        at_once = 1 + len(self.helpers)
        return sum(rates[cell.kind] * cell.cost / (at_once if cell.untimed else 1) for cell in missing)

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
        found += private_parts(plain_json(cell.about, "about"), f"{cell.label}: about")
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
