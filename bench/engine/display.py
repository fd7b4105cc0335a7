"""What people see of a run: a bar for all, one for each thing that runs, one line a thing that is done."""

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LOG_EVERY_S = 60.0  # without a terminal, how often a long cell says how far it is


class Display:
    """Progress of a run as a context manager; without a terminal only the lines are printed.

    Args:
        total: how many there are, of what `what` names.
        done: how many of them are done already.
        console: where to; standard error by default.
        what: name of the bar for all.
    """

    def __init__(self, total: int, done: int = 0, console: Console | None = None, what: str = "cells") -> None:
        self.console = console or Console(stderr=True)
        self.total, self.done = total, done
        self._running: dict[str, tuple[TaskID, str]] = {}
        self._said: dict[str, float] = {}
        self._waiting = ""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._all = self._bars.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> "Display":
        if self.done < self.total:  # a bar that is full from its beginning would only flash
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, key: str, label: str, left_s: float | None = None) -> None:
        """Something starts; `left_s` is about how long all that is missing will take."""
        self._bars.update(self._all, note=f"about {duration(left_s)} left" if left_s is not None else "")
        self.drop(key)
        self._running[key] = (self._bars.add_task(escape(label), total=None, note=""), label)
        self._said[key] = time.monotonic()

    def step(self, key: str, done: int, total: int, note: str) -> None:
        """It got on: `done` of `total` steps."""
        if key not in self._running:
            return
        task, label = self._running[key]
        self._bars.update(task, completed=done, total=total, note=escape(note))
        if not self.console.is_terminal and time.monotonic() - self._said[key] > LOG_EVERY_S:
            self._said[key] = time.monotonic()
            self.say(f"    {label}: {done}/{total} {note}")

    def drop(self, key: str) -> None:
        """It runs no more."""
        if key in self._running:
            self._bars.remove_task(self._running.pop(key)[0])

    def end(self, key: str, line: str) -> None:
        """It is done, as `line` says."""
        self.done += 1
        self.drop(key)
        self._bars.update(self._all, completed=self.done)
        self.say(f"[{self.done}/{self.total}] {line}")

    def wait(self, held: int) -> None:
        """Nothing to do but to wait for cells that other processes hold."""
        note = f"waiting for cells that other processes hold: {held}"
        self._bars.update(self._all, note=note)
        if not self.console.is_terminal and note != self._waiting:
            self.say(note)
        self._waiting = note

    def say(self, text: str) -> None:
        """One line of its own."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
