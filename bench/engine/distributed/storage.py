"""Where shared work is kept: SQLite in the output folder, a journal file, or a PostgreSQL server.

SQLite is for one machine: it lets one process write at a time, and its locks do not hold on network disks. A journal
file serves several machines that share a disk whose locks hold (most NFS of version 4). PostgreSQL serves any number
of hosts that share nothing else: workers send heartbeats, and a restart of the server is waited for.

A worker puts its name on a trial while it works on it. A running trial without a name, or with that of a dead worker,
is continued by the next worker as the same trial: so a search that was killed proposes the same points as one that was
not, and no cell is lost."""

import contextlib
import logging
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from bench.engine.failures import chain
from bench.errors import BenchError

T = TypeVar("T")
LOCK_WAIT_S = 60  # SQLite lets one process write at a time
JOURNAL_ENDINGS = (".journal", ".log")
POSTGRES = ("postgresql://", "postgres://")
DRIVER = "postgresql+psycopg://"  # named, since SQLAlchemy's own choice changed between its versions
POSSIBLE = "give sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE, or a path ending in .journal"
SQLITE = "search.db"  # in the output folder, where no storage is named
OUTAGE_S = 900.0
"""How long a server may be away before its workers give up."""
RETRY_S = 1.0


@dataclass(frozen=True)
class Heartbeat:
    """Heartbeats of the workers of a server's database; the same for all workers of a search.

    Attributes:
        grace_s: seconds without a heartbeat after which a worker counts as dead, and its trial is continued by
            another.
    """

    grace_s: int = 120

    def __post_init__(self) -> None:
        if self.grace_s < 2:
            raise BenchError(f"--grace {self.grace_s} is shorter than two heartbeats: give 2 seconds or more")

    @property
    def interval_s(self) -> int:
        """Seconds between two heartbeats: four of them fit into the grace period."""
        return max(1, self.grace_s // 4)


def is_file(url: str | None) -> bool:
    """Whether the storage is a file, so that file locks tell which workers live."""
    return url is None or url.startswith("sqlite:") or url.endswith(JOURNAL_ENDINGS)


def server_url(url: str) -> str:
    """The URL with its driver: `postgresql://...` means psycopg."""
    for scheme in POSTGRES:
        if url.startswith(scheme):
            return DRIVER + url.removeprefix(scheme)
    return url


def open_storage(url: str | None, folder: Path, heartbeat: Heartbeat | None = None) -> BaseStorage:
    """The storage of a URL, or of the path of a journal file; `search.db` in the folder by default.

    Args:
        url: `sqlite:///path`, `postgresql://...`, or a path ending in `.journal`.
        folder: the output folder; made if it is missing.
        heartbeat: of the workers of a server.

    Raises:
        BenchError: the storage cannot be opened.
    """
    with opening(url or str(folder)):
        if not is_file(url):
            return _open_server(server_url(url or ""), heartbeat or Heartbeat())
        folder.mkdir(parents=True, exist_ok=True)
        if url is not None and url.endswith(JOURNAL_ENDINGS):
            return JournalStorage(JournalFileBackend(url, _JournalLock(url)))
        options = {"connect_args": {"timeout": LOCK_WAIT_S}}
        return RDBStorage(url or f"sqlite:///{folder / SQLITE}", engine_kwargs=options)


class _JournalLock(JournalFileOpenLock):
    """A lock that the system frees at its holder's death; Optuna's own keeps the others waiting for half a minute."""

    def __init__(self, journal: str) -> None:
        self._lock = FileLock(f"{journal}.writing")

    def acquire(self) -> bool:
        return bool(self._lock.acquire())

    def release(self) -> None:
        self._lock.release()


def _open_server(url: str, heartbeat: Heartbeat) -> RDBStorage:
    if not url.startswith(DRIVER):
        raise ValueError("no such kind of storage")
    options = {"pool_pre_ping": True, "connect_args": _connect_args()}
    with experimental(), server_lock(url, "tables"):  # two workers may be about to make them
        return RDBStorage(url, options, heartbeat_interval=heartbeat.interval_s, grace_period=heartbeat.grace_s)


def _connect_args() -> dict[str, Any]:
    """A dead host must not keep a worker waiting for the minutes that the system would."""
    return {"connect_timeout": 10, "keepalives_idle": 30}


@contextlib.contextmanager
def server_lock(url: str, name: str) -> Iterator[None]:
    """Hold a lock of PostgreSQL, which goes with its connection."""
    from sqlalchemy import NullPool, create_engine, text

    engine = create_engine(url, poolclass=NullPool, connect_args=_connect_args())
    with engine.connect() as connection:  # no pool: once closed it is gone, and the lock with it
        connection.execute(text(f"SELECT pg_advisory_lock({zlib.crc32(f'lale-bench {name}'.encode())})"))
        yield


@contextlib.contextmanager
def opening(url: str) -> Iterator[None]:
    """One sentence for whatever goes wrong while a storage is opened, without the password."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        shown = without_password(url)
        if is_locked(error):
            raise BenchError(
                f"the database {shown} is locked by another program, which has held it for {LOCK_WAIT_S} seconds: "
                "close that program and start again"
            ) from error
        missing = isinstance(error, ImportError) and server_url(url).startswith(DRIVER)
        said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = "its driver is missing: pip install 'lale-bench[postgres]'" if missing else said[0].strip()
        raise BenchError(f"the storage {shown} cannot be opened ({reason}); {POSSIBLE}") from error


def without_password(url: str) -> str:
    """The URL as it may be shown; of what is no URL, only what stands before a password may."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        found = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        return url if "@" not in url and "password" not in url.lower() else f"{url.partition(':')[0]}:..."
    hidden = {key: "***" for key in found.query if "password" in key.lower()}
    return found.update_query_dict(hidden).render_as_string(hide_password=True)


def is_outage(error: BaseException) -> bool:
    """Whether a server could not be reached or broke off, rather than refused; a file is never away."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    for one in chain(error):
        if isinstance(one, DBAPIError) and isinstance(one.orig, sqlite3.Error):
            return False
        if isinstance(one, OperationalError | InterfaceError | PendingRollbackError):
            return True
        if isinstance(one, DBAPIError) and (one.connection_invalidated or _broke_off(one.orig)):
            return True
    return False


def is_locked(error: BaseException) -> bool:
    """Whether another program holds the lock of an SQLite file."""
    found = [getattr(one, "orig", one) for one in chain(error)]  # SQLAlchemy keeps what it wraps there
    return any(isinstance(one, sqlite3.OperationalError) and "locked" in str(one) for one in found)


def _broke_off(error: BaseException | None) -> bool:
    """By PostgreSQL's own code: connection exceptions (08), a server that stops, starts or recovers (57P)."""
    state = getattr(error, "sqlstate", None) or ""
    return state.startswith(("08", "57P"))


def through_outages(step: Callable[[], T], tell: Callable[[str], None]) -> T:
    """Do a step, and again after the server was away or the file was locked.

    Args:
        step: what may be done again from its beginning.
        tell: hears once what is waited for.

    Raises:
        BenchError: the server stayed away for longer than `OUTAGE_S`.
    """
    since = None
    while True:
        try:
            return step()
        except Exception as error:  # whichever one an outage ends up as
            locked = is_locked(error)
            if not (locked or is_outage(error)):
                raise
            what = "the database file is locked by another program" if locked else "the database does not answer"
            if since is None:
                since = time.monotonic()
                tell(f"{what}; waiting")
            if time.monotonic() - since > OUTAGE_S:
                raise BenchError(
                    f"{what}, for {OUTAGE_S / 60:.0f} minutes now; what was decided is in it: start again once it can "
                    "be written"
                ) from error
            time.sleep(RETRY_S)


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


WORKER, REASON = "worker", "reason"


def is_decided(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it has its values, or it failed and says why."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and REASON in trial.user_attrs)


def missing(trials: Sequence[FrozenTrial], wanted: int) -> int:
    """How many trials are still to be decided."""
    return wanted - sum(is_decided(trial) for trial in trials)
