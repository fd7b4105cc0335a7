"""One study on many hosts: its cells wait in an Optuna storage, and whoever is free takes the next.

Each cell is a trial that is queued once. Its record travels through the storage, so that the hosts need no disk in
common: at the end every host that waited has all records. What the storage does about dead workers is said in
`bench.search.workers`.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.engine import Cell, StudyInterrupted, run_cells
from bench.engine.display import Display
from bench.errors import BenchError
from bench.records import Record
from bench.records.environment import environment
from bench.study.run import StudyPlan

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

    from bench.search.storage import Signs

CELL, RECORD = "cell", "record"


class NoCell(Exception):
    """A trial for which there was no cell left: another worker was quicker."""


def share_study(
    plan: StudyPlan,
    storage: str,
    *,
    console: Console | None = None,
    signs: Signs | None = None,
    job: Mapping[str, Any] | None = None,
) -> None:
    """Measure what is missing together with every other process that shares the same cells over the same storage.

    Args:
        plan: the study; its records are written to its own store, those of other hosts as well.
        storage: as for a search; PostgreSQL for several hosts.
        console: where progress goes; standard error by default.
        signs: how workers of a server's database tell that they live.
        job: what a worker on another host needs to join, as JSON.

    Raises:
        BenchError: the storage cannot be opened, or stayed away for too long.
        StudyInterrupted: Ctrl-C; the same study goes on from there.
    """
    from bench.search.storage import quiet

    plan.manifest.save(plan.folder)
    with quiet():
        _Shared(plan, storage, signs, job).run(console)


def shared_name(plan: StudyPlan) -> str:
    """A name that two plans share exactly if they consist of the same cells."""
    digest = hashlib.sha256("\n".join(cell.key for cell in plan.cells).encode()).hexdigest()[:12]
    return f"study-{plan.manifest.study}-{digest}"


class _Shared:
    """One process's part of a shared study."""

    def __init__(self, plan: StudyPlan, storage: str, signs: Signs | None, job: Mapping[str, Any] | None) -> None:
        from bench.search.storage import open_storage, opening
        from bench.search.study import JOB
        from bench.search.workers import crew_of

        self.plan = plan
        self.cells = list({cell.key: cell for cell in plan.cells}.values())
        self.crew = crew_of(storage, plan.folder, signs)
        with opening(storage), self.crew.alone():
            self.study = self._open(open_storage(storage, plan.folder, signs, self.crew.requeue))
            self._queue()
            if job is not None:
                self.study.set_user_attr(JOB, {**job, "trials": len(self.cells)})

    def _open(self, storage: BaseStorage) -> optuna.Study:
        import optuna

        sampler = optuna.samplers.RandomSampler(seed=0)  # never asked for a cell: see `_trial`
        return optuna.create_study(
            study_name=shared_name(self.plan), storage=storage, sampler=sampler, load_if_exists=True
        )

    def _queue(self) -> None:
        """Every cell once, also if the process that began with it was killed."""
        from bench.search.trials import POINT

        queued = {trial.user_attrs[POINT][CELL] for trial in self.study.get_trials() if POINT in trial.user_attrs}
        for number in sorted(set(range(len(self.cells))) - queued):
            self.study.enqueue_trial({CELL: number}, user_attrs={POINT: {CELL: number}})

    def run(self, console: Console | None) -> None:
        """Work until every cell is measured by somebody, then fetch what others have measured."""
        from bench.search.workers import Shift

        with Display(len(self.cells), self._decided(), console) as display:
            shift = Shift(
                self.study,
                self.crew,
                len(self.cells),
                objective=partial(self._trial, display=display),
                catch=(NoCell,),
                tell=display.say,
            )
            try:
                shift.work()
            except KeyboardInterrupt:
                raise StudyInterrupted(shift.left()) from None
            self._fetch()

    def _decided(self) -> int:
        from bench.search.trials import is_decided

        return sum(is_decided(trial) for trial in self.study.get_trials(deepcopy=False))

    def _trial(self, trial: optuna.Trial, me: str, display: Display) -> float:
        """Measure one cell. A trial that was not queued is one too many: cells are never drawn."""
        from bench.search.trials import POINT, SURPLUS, WORKER

        trial.set_user_attr(WORKER, me)
        if POINT not in trial.user_attrs:
            trial.set_user_attr(SURPLUS, True)
            raise NoCell
        cell = self.cells[trial.suggest_int(CELL, 0, len(self.cells) - 1)]
        outcome = self._measure(cell, display)
        trial.set_user_attr("label", cell.label)
        trial.set_user_attr("fresh", outcome.fresh)
        trial.set_user_attr(RECORD, pack_record(outcome.record))
        display.done = self._decided()
        display.end(cell.key, str(outcome))
        return outcome.record.seconds

    def _measure(self, cell: Cell, display: Display) -> Any:
        from dataclasses import replace

        display.begin(cell.key, cell.label)
        progress = partial(display.step, cell.key)
        shown = replace(cell, run=lambda context: cell.run(replace(context, progress=progress)))
        where = environment(self.plan.manifest.device)
        return run_cells([shown], self.plan.store, environment=where, console=Console(quiet=True))[0]

    def _fetch(self) -> None:
        """Records of other hosts, into this one's store."""
        for trial in self.study.get_trials(deepcopy=False):
            if RECORD in trial.user_attrs:
                record = unpack_record(trial.user_attrs[RECORD])
                if record.key not in self.plan.store:
                    self.plan.store.put(record)


def pack_record(record: Record) -> str:
    """A record as text of a tenth of its length."""
    return base64.b85encode(zlib.compress(record.to_text().encode(), 9)).decode()


def unpack_record(text: str) -> Record:
    """The record that `pack_record` wrote; checked like a file.

    Raises:
        BenchError: it is damaged.
    """
    try:
        return Record.from_text(zlib.decompress(base64.b85decode(text)).decode())
    except (ValueError, zlib.error) as error:
        raise BenchError(f"a record in the storage is damaged ({error}): delete its trial there") from None
