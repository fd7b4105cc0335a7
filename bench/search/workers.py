"""Who works on a search, who of them lives, and how they share its trials.

Workers of a file hold locks that the system frees at their death. Workers of a server's database give Optuna's signs
of life; a lock of the server's sees to it that a dead worker's trial is queued again once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from bench.search.storage import Signs, fail_stale, has_heartbeat, is_file, server_lock, server_url, through_outages
from bench.search.trials import WORKER, missing, take_up

if TYPE_CHECKING:
    import optuna

POLL_S = 0.5  # how often to look whether other workers are through


class Crew(Protocol):
    """The workers of one storage."""

    def join(self) -> contextlib.AbstractContextManager[str]:
        """Be one of the workers while the block runs; gives the name under which trials are to be marked."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Wait until no other worker is in such a block."""

    def bury(self, study: optuna.Study) -> None:
        """Queue again what the storage itself knows to be abandoned."""

    def requeue(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue again what was found to be abandoned, once, whoever else does the same."""

    def is_dead(self, trial: FrozenTrial, me: str) -> bool:
        """Whether nobody works on a running trial any more, as far as the storage does not know it itself."""


def crew_of(url: str | None, folder: Path, signs: Signs | None = None) -> Crew:
    """The workers of a storage (see `open_storage`); those of a file lock files beside it, wherever their output is."""
    if not is_file(url):
        return ServerWorkers(server_url(url), signs or Signs())
    return Workers(Path(url.removeprefix("sqlite:///") + ".workers") if url else folder / "workers")


@dataclass(frozen=True)
class Workers:
    """The workers that share a folder. Each holds a lock on a file of its own for as long as it lives."""

    folder: Path

    @contextlib.contextmanager
    def join(self) -> Iterator[str]:
        """Be one of the workers while the block runs; gives the name under which trials are to be marked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        path = self.folder / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield name
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other worker is in such a block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".alone").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def bury(self, study: optuna.Study) -> None:
        """A file knows of nothing."""

    def requeue(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue again whatever was interrupted."""
        with self.alone():
            take_up(study, lambda other: False)

    def alive(self) -> set[str]:
        """Names of the workers that live; files of dead ones are removed."""
        living = set()
        for path in self.folder.glob("[0-9a-f]*"):
            if _is_held(path):
                living.add(path.name)
            else:
                path.unlink(missing_ok=True)
        return living

    def is_dead(self, trial: FrozenTrial, me: str) -> bool:
        """Whether nobody works on a running trial any more.

        A trial that bears no name was left in the moment between its creation and its first mark: it belongs to a
        dead worker if there is no other one alive.
        """
        others = self.alive() - {me}
        owner = trial.user_attrs.get(WORKER)
        return not others if owner is None else owner not in others


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass
class ServerWorkers:
    """The workers that share a server's database, on any hosts.

    Optuna's heartbeats tell which of them live, but for one gap: a trial gets its first sign of life only after it
    was proposed, and Optuna takes no trial for dead that never had one. Such a trial is dead once it was seen without
    a sign for the grace period.

    Dead trials are queued again as by Optuna's `RetryFailedTrialCallback`, but by a callback of our own: whoever marks
    a trial may die before it calls back, and the trial would be lost, so every worker looks for such trials; two may
    find the same one, so they do it under a lock; and the new trial keeps the slot of the old one.
    """

    url: str
    signs: Signs
    _first_seen: dict[int, float] = field(default_factory=dict, repr=False)

    @contextlib.contextmanager
    def join(self) -> Iterator[str]:
        """A name that no other worker has."""
        yield uuid.uuid4().hex

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Hold a lock of the server's."""
        return server_lock(self.url, "trials")

    def bury(self, study: optuna.Study) -> None:
        """Mark as failed what gave no sign of life for the grace period; Optuna then calls `requeue`."""
        fail_stale(study)

    def requeue(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue again whatever was interrupted."""
        with self.alone():
            take_up(study, lambda other: False)

    def is_dead(self, trial: FrozenTrial, me: str) -> bool:
        """Whether a running trial never gave a sign of life and was seen so for the grace period."""
        if trial.user_attrs.get(WORKER) == me or has_heartbeat(self.url, trial):
            return False
        first = self._first_seen.setdefault(trial._trial_id, time.monotonic())
        return time.monotonic() - first > self.signs.grace_s


@dataclass(frozen=True)
class Shift:
    """The work of one process on one study, beside any number of others.

    Attributes:
        study: Optuna's.
        crew: all its workers.
        wanted: how many trials are to be decided in all.
        objective: objective(trial, me) -> values.
        catch: exceptions of the objective that fail the trial alone.
        ended: hears each trial of this process that has ended.
        tell: hears what people should know.
    """

    study: optuna.Study
    crew: Crew
    wanted: int
    objective: Callable[[optuna.Trial, str], Any]
    catch: tuple[type[Exception], ...] = ()
    ended: Callable[[optuna.Study, FrozenTrial], None] = lambda study, trial: None
    tell: Callable[[str], None] = lambda text: None

    def work(self) -> None:
        """Trial after trial until as many are decided as wanted; what other workers run is waited for."""
        with self.crew.join() as me:
            while through_outages(partial(self._step, me), self.tell):
                pass

    def take_up(self, me: str) -> None:
        """Queue again what workers left that died in the meantime."""
        self.crew.bury(self.study)
        with self.crew.alone():
            take_up(self.study, partial(self.crew.is_dead, me=me))

    def trials(self) -> Sequence[FrozenTrial]:
        """All trials, not copied."""
        return self.study.get_trials(deepcopy=False)

    def left(self) -> int:
        """How many trials are still to be decided."""
        return missing(self.trials(), self.wanted)

    def _step(self, me: str) -> bool:
        """One trial, or a short wait where others hold all that is left; whether there is more to do."""
        self.take_up(me)
        left = self.left()
        if left <= 0:
            return False
        if left <= sum(trial.state == TrialState.RUNNING for trial in self.trials()):
            time.sleep(POLL_S)
            return True
        try:
            self.study.optimize(partial(self.objective, me=me), n_trials=1, catch=self.catch, callbacks=[self.ended])
        except (UpdateFinishedTrialError, ValueError) as error:
            if isinstance(error, ValueError) and not str(error).startswith("Cannot tell a"):  # as Optuna says it
                raise
            self.tell("a trial of this worker was given to another: it gave no sign of life for the grace period")
        return True
