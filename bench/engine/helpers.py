"""Processes that count beside this one: they run the same cells over the same records, and claims keep them apart.

A helper is a fresh interpreter, not a fork: a fork of a process that has computed on several threads may hang. It gets
its cells by its standard input, which stays open, so that it ends with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import torch
from rich.console import Console

from bench.engine.cells import Cell
from bench.records import RecordStore
from bench.records.environment import usable_cores

CELLS_EACH = 8  # fewer than these for each process are counted sooner than another interpreter has started
START = "from bench.engine.helpers import help_out; help_out()"


@contextlib.contextmanager
def helped(cells: Sequence[Cell], store: RecordStore, environment: Mapping[str, Any]) -> Iterator[None]:
    """While the block runs, other processes measure `cells` too, one a core, each on one thread, this one included.

    There are none where a single core may be used or the cells are few, and cells that cannot be pickled are left to
    this process, which changes nothing but the time. At the block's end helpers are stopped.
    """
    sent = [sendable for cell in cells if (sendable := _pickled(cell)) is not None]
    wanted = min(usable_cores(), len(sent) // CELLS_EACH) - 1
    if wanted <= 0:
        yield
        return
    job = pickle.dumps((sent, store.folder.absolute(), dict(environment)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    helpers = [_start(job) for _ in range(wanted)]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for helper in helpers:
            helper.kill()
            helper.communicate()


def _pickled(cell: Cell) -> bytes | None:
    try:
        return pickle.dumps(cell)
    except (pickle.PicklingError, AttributeError, TypeError):  # a config of a class that has no name to import it by
        return None


def _start(job: bytes) -> subprocess.Popen:
    settings = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    helper = subprocess.Popen(
        [sys.executable, "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what goes wrong in a helper is met again here, and said here
        start_new_session=True,  # Ctrl-C is for the process that shows the progress
        env={**os.environ, **settings},
    )
    threading.Thread(target=_hand_over, args=(helper.stdin, job), daemon=True).start()
    return helper


def _hand_over(pipe: IO[bytes], job: bytes) -> None:
    with contextlib.suppress(OSError):  # it may be gone before it has read
        pipe.write(job)
        pipe.flush()


def help_out() -> None:
    """What a helper does."""
    pipe = sys.stdin.buffer
    sent, folder, environment = pickle.load(pipe)  # from the process that started this one, by their own pipe
    cells = [cell for sendable in sent if (cell := _unpickled(sendable)) is not None]
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    torch.set_num_threads(1)
    from bench.engine.running import run_cells

    run_cells(cells, RecordStore(folder), environment=environment, console=Console(quiet=True), alone=True)


def _unpickled(sendable: bytes) -> Cell | None:
    try:
        return pickle.loads(sendable)
    except (ImportError, AttributeError):  # of a class that only a script has, whose name is another one here
        return None


def _end_with(pipe: IO[bytes]) -> None:
    """Ends this process at once when the other end of the pipe is closed: claims are freed by the system."""
    pipe.read()
    os._exit(1)
