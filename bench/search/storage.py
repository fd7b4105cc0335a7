"""Where a search keeps its trials: SQLite in the output folder, a journal file, or any database Optuna can use.

A process that is killed while it writes to a journal file keeps the others waiting for half a minute: its lock is a
file, which the system does not free.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from bench.errors import BenchError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

HEARTBEAT_S, GRACE_S = 30, 120
LOCK_WAIT_S = 60  # SQLite lets one process write at a time
JOURNAL_ENDINGS = (".journal", ".log")


def is_file(url: str | None) -> bool:
    """Whether the storage is a file, so that its workers share a folder and file locks tell who lives."""
    return url is None or url.startswith("sqlite:") or url.endswith(JOURNAL_ENDINGS)


def open_storage(
    url: str | None, folder: Path, on_stale: Callable[[Study, FrozenTrial], None] | None = None
) -> BaseStorage:
    """The storage of a URL, or of the path of a journal file; `search.db` in the folder by default.

    Args:
        url: `sqlite:///path`, `postgresql://...` or another URL of SQLAlchemy, or a path ending in `.journal`.
        folder: the search's output folder; made if it is missing.
        on_stale: called for a trial of a server's database whose worker stopped giving signs of life.

    Raises:
        BenchError: the storage cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if url is not None and url.endswith(JOURNAL_ENDINGS):
            return JournalStorage(JournalFileBackend(url))
        if is_file(url):
            options = {"connect_args": {"timeout": LOCK_WAIT_S}}
            return RDBStorage(url or f"sqlite:///{folder / 'search.db'}", engine_kwargs=options)
        with experimental():
            return RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_S,
                heartbeat_stale_trial_callback=on_stale,
            )
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchError(
            f"the storage {url or folder} cannot be opened ({reason}); give sqlite:///FILE, postgresql://..., "
            "or a path ending in .journal"
        ) from error


def fail_stale(study: Study) -> None:
    """Mark trials of a server's database as failed whose workers stopped giving signs of life."""
    with experimental():
        optuna.storages.fail_stale_trials(study)


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
