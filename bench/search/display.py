"""What people see of a search: a bar for the trials, one for the running training, a line a trial."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.search.trials import CONFIG_KEY, REASON, SURPLUS, missing

if TYPE_CHECKING:
    from bench.search.study import SearchPlan


class SearchDisplay:
    """Progress of a search as a context manager; without a terminal only the lines are printed."""

    def __init__(self, plan: SearchPlan, console: Console | None) -> None:
        self._plan = plan
        self.console = console or Console(stderr=True)
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
        self._said = ""
        self._trials = self._bars.add_task("trials", total=plan.trials, note="")
        self._training = self._bars.add_task("training", total=None, visible=False, note="")

    def __enter__(self) -> SearchDisplay:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, study: Study) -> None:
        """The search starts or goes on."""
        done = self._count(study)
        self.say(f"search {study.study_name}: {done} of {self._plan.trials} trials decided; {self._plan.budget}")

    def step(self, done: int, total: int, note: str) -> None:
        """The running training got on."""
        self._bars.update(self._training, completed=done, total=total, note=note, visible=True)

    def end(self, study: Study, trial: FrozenTrial) -> None:
        """A trial has ended; called by Optuna."""
        if SURPLUS in trial.user_attrs:
            return
        done = self._count(study)
        self._bars.update(self._training, visible=False)
        self.say(f"[{done}/{self._plan.trials}] {_line(trial, self._plan.objectives)}")

    def _count(self, study: Study) -> int:
        done = self._plan.trials - missing(study.get_trials(deepcopy=False), self._plan.trials)
        self._bars.update(self._trials, completed=done)
        return done

    def say(self, text: str) -> None:
        """One line, once in a row."""
        if text == self._said:
            return
        self._said = text
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _line(trial: FrozenTrial, objectives: tuple[str, ...]) -> str:
    key = trial.user_attrs.get(CONFIG_KEY, "")
    if trial.state != TrialState.COMPLETE:
        return f"{key}: FAILED: {trial.user_attrs.get(REASON, 'interrupted')}"
    shown = ", ".join(_figure(name, value) for name, value in zip(objectives, trial.values, strict=True))
    return f"{key}: {shown}{'' if trial.user_attrs.get('fresh') else ' (recorded)'}"


def _figure(name: str, value: Any) -> str:
    units = {"f1": ("F1 {:.4f}", 1), "params": ("{:.3f} M parameters", 1e-6), "macs": ("{:.4f} GMACs", 1e-9)}
    form, scale = units.get(name, ("{:.2f} ms", 1))
    return form.format(value * scale)
