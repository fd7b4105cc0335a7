"""Processes that measure beside this one: they run the same cells over the same records, and claims keep them apart.

A helper is a fresh interpreter, not a fork: a fork of a process that has computed on several threads may hang. It gets
its cells by its standard input, which stays open, so that it ends with the process that started it, however that ends,
and it tells by its standard output what it does, one JSON list a line. Each computes on one thread: two processes with
two OpenMP threads each on two cores wait actively for each other, and a training step takes ten times as long.

On a GPU several trainings share the device, one for each `GPU_EACH` bytes that are free, at most one a core. That is an
assumption about their size, not a limit: one that finds no memory is measured again when nothing else runs.
"""

import contextlib
import io
import json
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Any

import numpy as np
import torch

from bench.engine.cells import Cell
from bench.records import Record, RecordStore
from bench.records.environment import usable_cores

SHORT_EACH = 8  # fewer short cells than these for each process are measured sooner than another interpreter has started
GPU_EACH = 8 << 30  # bytes of a GPU's memory for each process
HOST_GIB_EACH = 3.0  # GiB of the machine's memory for each process
LARGE = 1 << 20  # bytes from which an array is handed over by a file, once, instead of with each cell
STEP_EVERY_S = 1.0  # how often a helper says how far it is
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # glibc gives memory back and asks for it anew with every large map, each page at a fault: it may keep what it has
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
START = "from bench.engine.helpers import help_out; help_out()"

Event = tuple[str, ...]
"""("begin", key), ("step", key, done, total, note), ("end", key) with a record, ("drop", key) without one, and
("lost", key) for what a helper measured that has ended."""


def most_processes(cells: int, long: bool, environment: Mapping[str, Any]) -> int:
    """How many processes so many untimed cells are worth on this machine, this one included."""
    if environment.get("device") == "cuda":
        room = torch.cuda.mem_get_info(environment.get("gpu_index"))[0] // GPU_EACH
    else:
        room = int((environment.get("memory_gib") or 2 * HOST_GIB_EACH) // HOST_GIB_EACH)
    return max(1, min(usable_cores(), cells // (1 if long else SHORT_EACH), room))


class Helpers:
    """The helpers of a block of cells (none, as made without arguments); none outlives the block, or the process."""

    def __init__(self, helpers: "Sequence[_Helper]" = ()) -> None:
        self._all = helpers

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        cells: Sequence[Cell],
        store: RecordStore,
        environment: Mapping[str, Any],
        retried: Mapping[str, Record],
    ) -> "Iterator[Helpers]":
        """While the block runs, helpers measure `cells`, and this process has one thread as each of them has.

        There are none where one process is enough, and cells that cannot be pickled are left to this process, which
        changes nothing but the time.
        """
        threads, helpers = torch.get_num_threads(), _start(cells, store, environment, retried)
        try:
            if helpers:
                torch.set_num_threads(1)
            yield cls(helpers)
        finally:
            torch.set_num_threads(threads)
            for helper in helpers:
                helper.stop()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def running(self) -> set[str]:
        """Keys of the cells that helpers are measuring, as far as they were listened to."""
        return {helper.key for helper in self._all}

    def events(self) -> Iterator[Event]:
        """What helpers have said since the last call. A record that one of them wrote was said before its claim was
        let go, so that who finds a record and then asks here knows whether it was a helper's."""
        for helper in self._all:
            yield from helper.events()


def _start(
    cells: Sequence[Cell], store: RecordStore, environment: Mapping[str, Any], retried: Mapping[str, Record]
) -> "list[_Helper]":
    long = all(cell.long for cell in cells)
    if most_processes(len(cells), long, environment) < 2:
        return []
    with tempfile.TemporaryFile() as file:  # helpers hold it open
        arrays = _Arrays(file)
        sent = [pickled for cell in cells if (pickled := arrays.pickled(cell)) is not None]
        job = pickle.dumps((sent, store.folder.absolute(), dict(environment), dict(retried)))
        wanted = most_processes(len(sent), long, environment) - 1
        return [_Helper(job, file.fileno()) for _ in range(wanted)]


class _Arrays:
    """Large arrays on their way to helpers: those of a memory map by its file, others by one nameless file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._placed: dict[int, tuple[np.ndarray, tuple]] = {}

    def pickled(self, cell: Cell) -> bytes | None:
        """The cell without its large arrays; None if it cannot be pickled."""
        buffer = io.BytesIO()
        pickler: Any = pickle.Pickler(buffer)
        pickler.persistent_id = self._place
        try:
            pickler.dump(cell)
        except (pickle.PicklingError, AttributeError, TypeError):  # of a class that has no name to import it by
            return None
        return buffer.getvalue()

    def _place(self, value: object) -> tuple | None:
        """Where a helper finds an array: file (None: the nameless one), offset, type, shape."""
        if not isinstance(value, np.ndarray) or value.nbytes < LARGE or value.dtype.hasobject:
            return None
        if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap) and value.flags.c_contiguous:
            return str(value.filename), value.offset, value.dtype.str, value.shape
        if id(value) not in self._placed:
            start = self._file.seek(0, os.SEEK_END)
            self._file.write(np.ascontiguousarray(value).data)
            self._file.flush()
            self._placed[id(value)] = value, (None, start, value.dtype.str, value.shape)  # held: an id is used again
        return self._placed[id(value)][1]


def start_interpreter(code: str, *arguments: str, **options: Any) -> subprocess.Popen:
    """A fresh interpreter of one thread that runs `code`, its standard input a pipe; other options are Popen's."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],  # -P: of what lies in the working folder nothing is imported
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what goes wrong in a helper is met again by who started it, and said there
        start_new_session=True,  # Ctrl-C is for the process that shows the progress
        env={**os.environ, **ENVIRONMENT, **import_paths()},
        **options,
    )


def import_paths() -> dict[str, str]:
    """The environment in which another interpreter finds what this one does."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class _Helper:
    """One process, seen from the one that started it; `key`: of the cell that it measures, or empty."""

    def __init__(self, job: bytes, arrays: int) -> None:
        self._process = start_interpreter(START, str(arrays), stdout=subprocess.PIPE, pass_fds=(arrays,))
        self._said, self.key = b"", ""
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        threading.Thread(target=_hand_over, args=(self._in, job), daemon=True).start()

    def events(self) -> Iterator[Event]:
        while (said := self._read()) is not None:
            if not said:  # the process has ended
                if self.key:
                    yield "lost", self.key
                self.key = ""
                return
            *lines, self._said = (self._said + said).split(b"\n")
            for line in lines:
                event = tuple(json.loads(line))
                self.key = event[1] if event[0] in ("begin", "step") else ""
                yield event

    def _read(self) -> bytes | None:
        """What there is to read; nothing at the end; None while there is nothing yet."""
        try:
            return os.read(self._out.fileno(), 1 << 16)
        except BlockingIOError:
            return None

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._in.close()
        self._out.close()


def _hand_over(pipe: IO[bytes], job: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # it may be gone before it has read
        pipe.write(job)
        pipe.flush()


class Teller:
    """Stands where the display stands in the process that people look at: says the same, one line an event."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._told, self._begun = descriptor, 0.0, ""

    def begin(self, key: str, label: str, left_s: float | None = None) -> None:
        """A cell starts."""
        self._begun = key
        self.tell("begin", key)

    def step(self, key: str, done: int, total: int, note: str) -> None:
        """The cell got on."""
        if time.monotonic() - self._told > STEP_EVERY_S:
            self._told = time.monotonic()
            self.tell("step", key, done, total, note)

    def drop(self, key: str) -> None:
        """The cell is put off."""
        self.tell("drop", key)

    def end(self, key: str, line: str) -> None:
        """The cell has its record, and is still held. One that was found recorded is nobody's news."""
        if key == self._begun:
            self.tell("end", key)

    def wait(self, held: int) -> None:
        """Nobody needs to know."""

    def tell(self, *event: str | int) -> None:
        """Say one event; whoever listened may be gone."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(event).encode() + b"\n")


def help_out() -> None:
    """What a helper does."""
    pipe, teller = sys.stdin.buffer, Teller(os.dup(1))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no event
    sent, folder, environment, retried = pickle.load(pipe)  # from the process that started this one, by their own pipe
    end_with(pipe)
    torch.set_num_threads(1)
    arrays = os.fdopen(int(sys.argv[1]), "rb")
    cells = [cell for sendable in sent if (cell := _unpickled(sendable, arrays)) is not None]
    from bench.engine.running import Run

    Run(cells, RecordStore(folder), environment, retried, shared=True).finish(teller, cells)


def _unpickled(sendable: bytes, arrays: IO[bytes]) -> Cell | None:
    unpickler: Any = pickle.Unpickler(io.BytesIO(sendable))
    unpickler.persistent_load = partial(_find, arrays=arrays)
    try:
        return unpickler.load()
    except (ImportError, AttributeError, FileNotFoundError):  # of a class that only a script has, under another name
        return None


def _find(place: tuple, arrays: IO[bytes]) -> np.ndarray:
    file, offset, kind, shape = place
    return np.memmap(file or arrays, np.dtype(kind), mode="c", offset=offset, shape=shape)


def end_with(pipe: IO[bytes]) -> None:
    """End this process at once when the other end of the pipe is closed: claims are freed by the system."""

    def wait() -> None:
        pipe.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
