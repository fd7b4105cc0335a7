"""A search as its storage has it at this moment, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from bench.engine.distributed import open_storage, quiet, without_password
from bench.errors import BenchError
from bench.report.columns import Column, Format, column
from bench.report.tables import rich_table
from bench.search.front import SearchResult, read_result

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = [
    column("variant"),
    column("params"),
    Column("macs", "MACs", Format(".3g", 1e-9, "G"), "low"),
    Column("f1", "Validation F1", "percent", "high"),
]


@dataclass(frozen=True)
class SearchState:
    """One search: its decided trials, and how many trials run at this moment."""

    result: SearchResult
    running: int

    def table(self) -> Table:
        """The front so far, by cost."""
        frame = self.result.frame()
        front = frame[frame["front"]].drop_duplicates("variant").sort_values("macs")
        return rich_table(front, COLUMNS, f"{self.result.name}: the front so far, F1 on validation tiles")

    def sentence(self) -> str:
        """How far it is."""
        failed = sum(not trial.objectives for trial in self.result.trials)
        return f"{len(self.result.trials)} trials decided, {failed} of them failed; {self.running} running now."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        frame = self.result.frame()
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return {"name": self.result.name, "running": self.running, "trials": rows}


def read_storage(url: str) -> list[SearchState]:
    """Every search of a storage that has decided a trial.

    Raises:
        BenchError: the storage cannot be opened, or holds none.
    """
    with quiet():
        storage = open_storage(url, Path())
        studies = [
            optuna.load_study(study_name=summary.study_name, storage=storage)
            for summary in optuna.get_all_study_summaries(storage)
        ]
        searches = [study for study in studies if len(study.directions) > 1]  # shared studies have one
        found = [_state(study) for study in searches]
    found = [state for state in found if state.result.trials]
    if not found:
        raise BenchError(f"{without_password(url)} holds no search that has decided a trial")
    return found


def _state(study: optuna.Study) -> SearchState:
    running = sum(trial.state == TrialState.RUNNING for trial in study.get_trials(deepcopy=False))
    return SearchState(read_result(study, study.metric_names or ()), running)
