"""One worker's part: take a trial, do its work, tell the result, until all are decided."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from bench.engine.distributed.storage import REASON, WORKER, missing, through_outages
from bench.engine.distributed.workers import Workers

POLL_S = 0.5  # how often to look whether other workers are through

Objective = Callable[[optuna.Trial], float | Sequence[float]]
"""Does the work of a trial; may be called again for the same trial, so what takes long is answered from records."""


@dataclass(frozen=True)
class WorkLoop:
    """The work of one process on one study, beside any number of others.

    Attributes:
        study: Optuna's.
        workers: all of its storage.
        wanted: how many trials are to be decided in all.
        objective: the work.
        catch: exceptions of the objective that fail the trial alone, with the reason that they give.
        fresh: what a new trial holds from its beginning, given all trials there are; None for nothing.
        ended: hears each trial that this process has decided.
        tell: hears what people should know.
    """

    study: optuna.Study
    workers: Workers
    wanted: int
    objective: Objective
    catch: tuple[type[Exception], ...] = ()
    fresh: Callable[[Sequence[FrozenTrial]], FrozenTrial | None] = lambda trials: None
    ended: Callable[[FrozenTrial], None] = lambda trial: None
    tell: Callable[[str], None] = lambda text: None

    def run(self) -> None:
        """Trial after trial until as many are decided as wanted; what other workers run is waited for."""
        with self.workers.join() as me:
            while (trial_id := self._next(me)) is not None:
                with self.workers.beating(trial_id):
                    self._decide(trial_id)
        self.study._storage.remove_session()

    def trials(self) -> Sequence[FrozenTrial]:
        """All trials, not copied."""
        return self.study.get_trials(deepcopy=False)

    def left(self) -> int:
        """How many trials are still to be decided."""
        return missing(self.trials(), self.wanted)

    def _next(self, me: str) -> int | None:
        """The id of a trial that is now this worker's; None once all are decided."""
        while through_outages(self.left, self.tell) > 0:
            trial_id = through_outages(partial(self._take, me), self.tell)
            if trial_id is not None:
                return trial_id
            time.sleep(POLL_S)
        return None

    def _take(self, me: str) -> int | None:
        """Take what a dead worker left, what waits in the queue, or a new trial; None where nothing is left to take."""
        with self.workers.lock():
            trial_id = self._available(me)
            if trial_id is not None:
                self.workers.beat(trial_id)
                self.study._storage.set_trial_user_attr(trial_id, WORKER, me)
            return trial_id

    def _available(self, me: str) -> int | None:
        storage, trials = self.study._storage, self.trials()
        for trial in self.workers.abandoned(self.study, trials, me):
            return trial._trial_id
        if missing(trials, self.wanted) <= sum(trial.state == TrialState.RUNNING for trial in trials):
            return None
        for trial in trials:
            if trial.state == TrialState.WAITING:  # queued by hand
                storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                return trial._trial_id
        return storage.create_new_trial(self.study._study_id, self.fresh(trials))

    def _decide(self, trial_id: int) -> None:
        """Do the work of a trial and tell the result; without one the trial is left for whoever comes next."""
        try:
            values, reason = through_outages(partial(self._values, trial_id), self.tell)
        except UpdateFinishedTrialError:
            return self.tell("another worker has decided this one's trial: it had sent no heartbeat for too long")
        except BaseException:
            with contextlib.suppress(Exception):
                self.study._storage.set_trial_user_attr(trial_id, WORKER, None)
            raise
        return self.ended(through_outages(partial(self._finish, trial_id, values, reason), self.tell))

    def _values(self, trial_id: int) -> tuple[float | Sequence[float] | None, str]:
        try:
            return self.objective(optuna.Trial(self.study, trial_id)), ""
        except self.catch as failure:
            return None, str(failure) or type(failure).__name__

    def _finish(self, trial_id: int, values: Any, reason: str) -> FrozenTrial:
        """The decided trial. Another worker may have decided it, if this one sent no heartbeat for too long."""
        storage = self.study._storage
        trial = storage.get_trial(trial_id)
        with contextlib.suppress(UpdateFinishedTrialError):
            if reason:
                storage.set_trial_user_attr(trial_id, REASON, reason)
            state = TrialState.FAIL if reason else TrialState.COMPLETE
            self.study.tell(trial.number, values, state, skip_if_finished=True)
        return storage.get_trial(trial_id)


def note(trial: optuna.Trial, tell: Callable[[str], None], **notes: Any) -> None:
    """Write down what came of a trial's work, also while the server is away: the work is not to be done again."""
    for name, value in notes.items():
        through_outages(partial(trial.set_user_attr, name, value), tell)
