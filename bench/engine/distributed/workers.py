"""How the workers of a storage know of each other: which of them live, and whose turn it is to take a trial.

Workers of a file hold locks that the system frees at their death. Workers of a server send Optuna's heartbeats. Taking
a trial happens under one lock, so a running trial that bears no name was left by a worker that died while it took it.
"""

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from bench.engine.distributed.storage import (
    SQLITE,
    WORKER,
    Heartbeat,
    is_file,
    open_storage,
    opening,
    server_lock,
    server_url,
)


@dataclass(frozen=True)
class FileWorkers:
    """The workers that share a folder. Each holds a lock on a file of its own for as long as it lives."""

    folder: Path

    def lock(self) -> FileLock:
        """Wait until no other worker is in such a block: one lock for all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    @contextlib.contextmanager
    def join(self) -> Iterator[str]:
        """Be one of the workers while the block runs; gives the name that is put on trials, that of the locked file."""
        name = uuid.uuid4().hex
        with self.lock():
            own = FileLock(self.folder / name)
            own.acquire()
        try:
            yield name
        finally:
            own.release()
            self._remove(name)

    def abandoned(self, study: optuna.Study, trials: Sequence[FrozenTrial], me: str) -> list[FrozenTrial]:
        """The running trials that nobody works on (ask under the lock, between two trials of `me`): those without
        a name, or with that of a worker whose lock is free."""
        return [t for t in trials if t.state == TrialState.RUNNING and not self._is_alive(t.user_attrs.get(WORKER), me)]

    def _is_alive(self, name: str | None, me: str) -> bool:
        if name is None or name == me:
            return False
        probe = FileLock(self.folder / name)
        try:
            probe.acquire(blocking=False)
        except Timeout:
            return True
        probe.release()
        self._remove(name)
        return False

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):  # another may be looking at it, which keeps it where files are locked so
            (self.folder / name).unlink()

    def beat(self, trial_id: int) -> None:
        """The lock says enough."""

    def beating(self, trial_id: int) -> contextlib.AbstractContextManager[None]:
        """The lock says enough."""
        return contextlib.nullcontext()


@dataclass(frozen=True)
class ServerWorkers:
    """The workers that share a server's database, on any hosts; Optuna's heartbeats tell which of them live."""

    url: str
    storage: RDBStorage

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Wait until no other worker is in such a block: a lock of the server's."""
        return server_lock(self.url, "trials")

    @contextlib.contextmanager
    def join(self) -> Iterator[str]:
        """Be one of the workers while the block runs; gives the name that is put on trials."""
        yield uuid.uuid4().hex

    def abandoned(self, study: optuna.Study, trials: Sequence[FrozenTrial], me: str) -> list[FrozenTrial]:
        """The running trials that nobody works on (ask under the lock, between two trials of `me`): those without
        a name, and those whose last heartbeat is older than the grace period."""
        stale = set(self._stale(study))
        names = {t.number: t.user_attrs.get(WORKER) for t in trials if t.state == TrialState.RUNNING}
        return [t for t in trials if t.number in names and (names[t.number] in (None, me) or t._trial_id in stale)]

    def _stale(self, study: optuna.Study) -> list[int]:
        """Nobody is stale until the server has been up for the grace period: while it was away, none could beat."""
        from sqlalchemy import text

        up = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
        with self.storage.engine.connect() as connection:
            seconds = float(connection.execute(up).scalar_one())
        return [] if seconds < (self.storage.grace_period or 0) else self.storage._get_stale_trial_ids(study._study_id)

    def beat(self, trial_id: int) -> None:
        """Before the worker's name is put on the trial: a trial with a name and no heartbeat is never stale."""
        self.storage.record_heartbeat(trial_id)

    @contextlib.contextmanager
    def beating(self, trial_id: int) -> Iterator[None]:
        """Optuna's own thread ends at the first outage; this one sends the next heartbeat all the same."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.storage.heartbeat_interval):
                with contextlib.suppress(StorageInternalError):
                    self.storage.record_heartbeat(trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


Workers = FileWorkers | ServerWorkers


def open_shared(url: str | None, folder: Path, heartbeat: Heartbeat) -> tuple[BaseStorage, Workers]:
    """The storage (see `open_storage`) and its workers; those of a file keep their locks beside it.

    Raises:
        BenchError: the storage cannot be opened.
    """
    if url is None or is_file(url):
        file = url.removeprefix("sqlite:///") if url else folder / SQLITE
        workers = FileWorkers(Path(f"{file}.workers"))
        with opening(url or str(folder)), workers.lock():  # two workers may be about to make the tables
            return open_storage(url, folder), workers
    storage = open_storage(url, folder, heartbeat)
    assert isinstance(storage, RDBStorage)
    return storage, ServerWorkers(server_url(url), storage)
