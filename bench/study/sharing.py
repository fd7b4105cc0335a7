"""One study on many hosts: its cells lie in an Optuna storage, and whoever is free takes the next.

Each cell is one trial. Its record travels through the storage, so that the hosts need no disk in common: at the end
every host that waited has all records.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.engine import Cell, Outcome, StudyInterrupted, run_cells
from bench.engine.display import Display
from bench.errors import BenchError
from bench.records import Record
from bench.records.environment import environment
from bench.study.run import save_manifest

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from bench.engine.distributed import Heartbeat
    from bench.study.run import StudyPlan

CELL, RECORD, JOB = "cell", "record", "job"
VERSION = 3  # of what a job says


def share_study(
    plan: StudyPlan,
    storage: str,
    *,
    data: str | None = None,
    console: Console | None = None,
    heartbeat: Heartbeat | None = None,
) -> None:
    """Measure what is missing together with every other process that shares the same cells over the same storage.

    Args:
        plan: the study; its records are written to its own store, those of other hosts as well.
        storage: see `bench.engine.distributed.open_storage`; PostgreSQL for several hosts.
        data: the study's data source; given by the host that begins, so that workers can join by the storage alone.
        console: where progress goes; standard error by default.
        heartbeat: of the workers of a server's database.

    Raises:
        BenchError: the storage cannot be opened, or stayed away for too long, or the study was settled look by look.
        StudyInterrupted: Ctrl-C; the same study goes on from there.
    """
    from bench.engine.distributed import Heartbeat, quiet

    save_manifest(plan)
    heartbeat = heartbeat or Heartbeat()
    with quiet():
        shared = _Shared(plan, storage, heartbeat)
        if data is not None:
            shared.post({"data": data, "grace_s": heartbeat.grace_s})
        shared.run(console)


def shared_name(plan: StudyPlan) -> str:
    """A name that two plans share exactly if they consist of the same cells."""
    digest = hashlib.sha256("\n".join(cell.key for cell in plan.cells).encode()).hexdigest()[:12]
    return f"study-{plan.manifest.study}-{digest}"


class _Shared:
    """One process's part of a shared study."""

    def __init__(self, plan: StudyPlan, storage: str, heartbeat: Heartbeat) -> None:
        import optuna

        from bench.engine.distributed import open_shared

        self.plan = plan
        self.cells = list({cell.key: cell for cell in plan.cells}.values())
        opened, self.workers = open_shared(storage, plan.folder, heartbeat)
        sampler = optuna.samplers.RandomSampler(seed=0)  # never asked: a trial is made with its cell
        self.study = optuna.create_study(
            study_name=shared_name(plan), storage=opened, sampler=sampler, load_if_exists=True
        )

    def post(self, conditions: Mapping[str, Any]) -> None:
        """Leave in the storage what a worker on another host needs to join (see `bench.search.jobs`)."""
        about = {"kind": "study", "version": VERSION, "manifest": self.plan.manifest.to_dict()}
        self.study.set_user_attr(JOB, {**about, **conditions, "trials": len(self.cells)})

    def run(self, console: Console | None) -> None:
        """Work until every cell is measured by somebody, then fetch what others have measured."""
        from bench.engine.distributed import WorkLoop, missing

        count = len(self.cells)
        done = count - missing(self.study.get_trials(deepcopy=False), count)
        with Display(count, done, console) as display:
            loop = WorkLoop(
                self.study, self.workers, count, partial(self._measured, display), fresh=self._next, tell=display.say
            )
            try:
                loop.run()
            except KeyboardInterrupt:
                raise StudyInterrupted(loop.left()) from None
            self._fetch()

    def _next(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        """A trial for the first cell that has none; whoever queues trials by hand may have failed some."""
        import optuna
        from optuna.trial import TrialState

        from bench.engine.distributed import is_decided

        taken = {t.params.get(CELL) for t in trials if is_decided(t) or not t.state.is_finished()}
        number = min(set(range(len(self.cells))) - taken)
        choice = optuna.distributions.IntDistribution(0, len(self.cells) - 1)
        return optuna.trial.create_trial(state=TrialState.RUNNING, params={CELL: number}, distributions={CELL: choice})

    def _measured(self, display: Display, trial: optuna.Trial) -> float:
        from bench.engine.distributed import missing, note

        cell = self.cells[trial.suggest_int(CELL, 0, len(self.cells) - 1)]
        outcome = self._outcome(cell, display)
        note(trial, display.say, label=cell.label, fresh=outcome.fresh, record=pack_record(outcome.record))
        display.done = len(self.cells) - missing(self.study.get_trials(deepcopy=False), len(self.cells))
        display.end(cell.key, str(outcome))
        return outcome.record.seconds

    def _outcome(self, cell: Cell, display: Display) -> Outcome:
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
