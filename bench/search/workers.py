"""Which processes of a search on this machine are alive, told by file locks that the system frees at their death."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial

from bench.search.trials import WORKER


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
