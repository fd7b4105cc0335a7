"""What people see of a run: bars on a terminal, one line a cell everywhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.engine.cells import Cell, Outcome

LOG_EVERY_S = 60.0  # without a terminal, how often a long cell says how far it is


class Display:
    """Progress of a run as a context manager; without a terminal only the lines are printed.

    Args:
        total: cells of the run.
        recorded: how many of them are recorded already.
        console: where to; standard error by default.
    """

    def __init__(self, total: int, recorded: int, console: Console | None) -> None:
        self.console = console or Console(stderr=True)
        self.total, self.done = total, recorded
        self._label, self._waiting, self._said = "", "", time.monotonic()
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
        self._study = self._bars.add_task("cells", total=total, completed=recorded, note="")
        self._cell = self._bars.add_task("", total=None, visible=False, note="")

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, cell: Cell, left_s: float | None) -> None:
        """A cell starts; `left_s` is about how long all that is missing will take."""
        self._bars.update(self._study, note=f"about {duration(left_s)} left" if left_s is not None else "")
        self._label, self._said = cell.label, time.monotonic()
        self._bars.reset(self._cell, total=None, visible=True, description=escape(cell.label), note="")

    def step(self, done: int, total: int, note: str) -> None:
        """The running cell got on: `done` of `total` steps."""
        self._bars.update(self._cell, completed=done, total=total, note=escape(note))
        if not self.console.is_terminal and time.monotonic() - self._said > LOG_EVERY_S:
            self.say(f"    {self._label}: {done}/{total} {note}")

    def end(self, outcome: Outcome) -> None:
        """A cell has its record."""
        self.done += 1
        self._bars.update(self._study, completed=self.done)
        self._bars.update(self._cell, visible=False)
        self.say(f"[{self.done}/{self.total}] {_line(outcome)}")

    def wait(self, held: int) -> None:
        """Nothing to do but to wait for cells that other processes hold."""
        note = f"waiting for cells that other processes hold: {held}"
        self._bars.update(self._study, note=note)
        if not self.console.is_terminal and note != self._waiting:
            self.say(note)
        self._waiting = note

    def say(self, text: str) -> None:
        """One line of its own."""
        self._said = time.monotonic()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _line(outcome: Outcome) -> str:
    took = f"in {duration(outcome.record.seconds)}" if outcome.fresh else "by another process"
    if outcome.status == "failed":
        return f"{outcome.cell.label}: FAILED {took}: {outcome.record.reason}"
    return f"{outcome.cell.label}: ok {took}"
