"""Where a search keeps its trials: SQLite in the output folder, a journal file, or a PostgreSQL server.

SQLite is for one machine: it lets one process write at a time, and its locks do not hold on network disks. A journal
file serves several machines that share a disk whose locks hold (most NFS of version 4); it gives no signs of life, so
a machine that dies is only noticed by those that see its locks, and a process killed while it writes keeps the others
waiting for half a minute. PostgreSQL serves any number of hosts that share nothing else: workers give signs of life,
a dead worker's trial is queued again after the grace period, and a restart of the server is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from bench.errors import BenchError

if TYPE_CHECKING:
    from optuna.study import Study

LOCK_WAIT_S = 60  # SQLite lets one process write at a time
JOURNAL_ENDINGS = (".journal", ".log")
POSTGRES = ("postgresql://", "postgres://")
DRIVER = "postgresql+psycopg://"  # named, since SQLAlchemy's own choice changed between its versions
OUTAGE_S = 900.0
"""How long a server may be away before its workers give up."""
RETRY_S = 1.0


@dataclass(frozen=True)
class Signs:
    """Signs of life that workers of a server's database give; the same for all workers of a search.

    Attributes:
        grace_s: seconds without a sign after which a worker counts as dead, and its trial is queued again. A trial
            whose proposal takes longer than this would count as dead too.
    """

    grace_s: int = 120

    def __post_init__(self) -> None:
        if self.grace_s < 2:
            raise BenchError(f"--grace {self.grace_s} is too short for signs of life: give 2 seconds or more")

    @property
    def interval_s(self) -> int:
        """Seconds between two signs: four of them fit into the grace period."""
        return max(1, self.grace_s // 4)


def is_file(url: str | None) -> bool:
    """Whether the storage is a file, so that its workers share a folder and file locks tell who lives."""
    return url is None or url.startswith("sqlite:") or url.endswith(JOURNAL_ENDINGS)


def server_url(url: str) -> str:
    """The URL with its driver: `postgresql://...` means psycopg."""
    for scheme in POSTGRES:
        if url.startswith(scheme):
            return DRIVER + url.removeprefix(scheme)
    return url


def connect_args(url: str) -> dict[str, Any]:
    """A dead host must not keep a worker waiting for the minutes that the system would."""
    return {"connect_timeout": 10, "keepalives_idle": 30} if url.startswith(DRIVER) else {}


def open_storage(
    url: str | None,
    folder: Path,
    signs: Signs | None = None,
    on_stale: Callable[[Study, FrozenTrial], None] | None = None,
) -> BaseStorage:
    """The storage of a URL, or of the path of a journal file; `search.db` in the folder by default.

    Args:
        url: `sqlite:///path`, `postgresql://...` or another URL of SQLAlchemy, or a path ending in `.journal`.
        folder: the search's output folder; made if it is missing.
        signs: how often workers of a server give signs of life.
        on_stale: called for a trial of a server's database whose worker stopped giving them.

    Raises:
        BenchError: the storage cannot be opened.
    """
    with opening(url or str(folder)):
        if not is_file(url):
            return _open_server(server_url(url), signs or Signs(), on_stale)
        folder.mkdir(parents=True, exist_ok=True)
        if url is not None and url.endswith(JOURNAL_ENDINGS):
            return JournalStorage(JournalFileBackend(url))
        options = {"connect_args": {"timeout": LOCK_WAIT_S}}
        return RDBStorage(url or f"sqlite:///{folder / 'search.db'}", engine_kwargs=options)


@contextlib.contextmanager
def opening(url: str) -> Iterator[None]:
    """One sentence for whatever goes wrong while a storage is opened, without the password."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        missing = isinstance(error, ImportError) and server_url(url).startswith(DRIVER)
        said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = "its driver is missing: pip install 'lale-bench[postgres]'" if missing else said[0].strip()
        raise BenchError(
            f"the storage {without_password(url)} cannot be opened ({reason}); give sqlite:///FILE, "
            "postgresql://USER:PASSWORD@HOST/DATABASE, or a path ending in .journal"
        ) from error


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _open_server(url: str, signs: Signs, on_stale: Callable[[Study, FrozenTrial], None] | None) -> RDBStorage:
    options = {"pool_pre_ping": True, "connect_args": connect_args(url)}
    with experimental(), server_lock(url, "tables"):  # two workers may be about to make them
        return ServerStorage(
            url,
            options,
            heartbeat_interval=signs.interval_s,
            grace_period=signs.grace_s,
            heartbeat_stale_trial_callback=on_stale,
        )


@contextlib.contextmanager
def server_lock(url: str, name: str) -> Iterator[None]:
    """Hold a lock of PostgreSQL, which goes with its connection; other databases are left without."""
    from sqlalchemy import NullPool, create_engine, text

    engine = create_engine(url, poolclass=NullPool, connect_args=connect_args(url))
    with engine.connect() as connection:  # no pool: once closed it is gone, and the lock with it
        if url.startswith("postgresql"):
            connection.execute(text(f"SELECT pg_advisory_lock({zlib.crc32(f'lale-bench {name}'.encode())})"))
        yield


class ServerStorage(RDBStorage):
    """Optuna's storage on a database server, where the end of a training outlives a restart of the server.

    Only what may safely be said twice is said again: signs of life, notes on a trial, and its end. Everything else
    fails and is left to the worker's loop, which waits for the server and goes on (see `through_outages`).
    """

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign of life; one that does not get through is made up for by the next."""
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Nobody counts as dead until the server has been up for the grace period: while it was away, none could
        give a sign of life."""
        return [] if self._is_back_too_shortly() else super()._get_stale_trial_ids(study_id)

    def _is_back_too_shortly(self) -> bool:
        from sqlalchemy import text

        if self.engine.dialect.name != "postgresql":
            return False
        up = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
        with self.engine.connect() as connection:
            return float(connection.execute(up).scalar()) < self.grace_period

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """A note on a trial."""
        _insist(lambda: super(ServerStorage, self).set_trial_user_attr(trial_id, key, value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """The start of a trial is tried once: whether it was this worker that got it must be certain."""
        if not state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)

        def finish() -> bool:
            try:
                return super(ServerStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if self.get_trial(trial_id).values == (None if values is None else list(values)):
                    return True  # said before the server went away
                raise

        return _insist(finish) if values is not None else super().set_trial_state_values(trial_id, state, values)


def _insist(say: Callable[[], Any]) -> Any:
    """Say it until the server has heard it.

    Raises:
        StorageInternalError: an error that is no outage, or an outage of more than `OUTAGE_S`.
    """
    deadline = time.monotonic() + OUTAGE_S
    while True:
        try:
            return say()
        except StorageInternalError as error:
            if not is_outage(error) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def is_outage(error: BaseException | None) -> bool:
    """Whether a server could not be reached or broke off, rather than refused; a file is never away.

    The first error in the chain need not tell: Optuna trips over its own handling of an outage, for one.
    """
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    while error is not None:
        if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
            return False
        if isinstance(error, OperationalError | InterfaceError | PendingRollbackError):
            return True
        if isinstance(error, DBAPIError) and (error.connection_invalidated or _broke_off(error.orig)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _broke_off(error: BaseException | None) -> bool:
    """By PostgreSQL's own code: connection exceptions (08), a server that stops, starts or recovers (57P)."""
    state = getattr(error, "sqlstate", None) or ""
    return state.startswith(("08", "57P"))


def through_outages(step: Callable[[], Any], tell: Callable[[str], None]) -> Any:
    """Do a step, and again after the server was away.

    Args:
        step: what may be done again from its beginning.
        tell: hears that the server is away.

    Raises:
        BenchError: the server stayed away for longer than `OUTAGE_S`.
    """
    since = None
    while True:
        try:
            return step()
        except Exception as error:  # whichever one an outage ends up as
            if not is_outage(error):
                raise
            since = since or time.monotonic()
            if time.monotonic() - since > OUTAGE_S:
                raise BenchError(
                    f"the database has not answered for {OUTAGE_S / 60:.0f} minutes; what was decided is in it: "
                    "start the worker again once it is back"
                ) from error
            tell("the database is away; waiting for it")
            time.sleep(RETRY_S)


def fail_stale(study: Study) -> None:
    """Mark trials of a server's database as failed whose workers stopped giving signs of life."""
    with experimental():
        optuna.storages.fail_stale_trials(study)


def has_heartbeat(url: str, trial: FrozenTrial) -> bool:
    """Whether a trial of a server's database ever gave a sign of life."""
    from sqlalchemy import NullPool, create_engine, text

    query = text("SELECT count(*) FROM trial_heartbeats WHERE trial_id = :trial")
    with create_engine(url, poolclass=NullPool, connect_args=connect_args(url)).connect() as connection:
        return bool(connection.execute(query, {"trial": trial._trial_id}).scalar())


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental (heartbeats, names of objectives) without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing below an error while the block runs; its level is put back afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
