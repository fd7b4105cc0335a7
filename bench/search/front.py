"""What a search has found: its trials, the front, and how the front grew.

The scores in here ranked the trials, so those of the front are too good on average: they are not for reporting. The
front is trained anew on other seeds for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

import archs
from bench.engine.distributed import REASON, is_decided
from bench.search.space import CONFIG_KEY

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SearchedTrial:
    """One decided trial.

    Attributes:
        slot: its position in the search, from 0.
        config: what was trained; `key` names it.
        cost: params, macs and mib.
        objectives: one value an objective; none if the training failed, for `reason`.
        record: key of the training's record.
        fresh: whether the search trained it itself; False if a record answered.
        latency_ms: measured, where a limit or an objective asked for it.
        on_front: whether no other trial is at least as good in every objective and better in one.
    """

    slot: int
    key: str
    config: Any
    cost: dict[str, float]
    objectives: tuple[float, ...]
    record: str | None
    fresh: bool
    latency_ms: float | None
    reason: str
    on_front: bool


@dataclass(frozen=True)
class SearchResult:
    """A search's trials in the order of their slots, and the front among them."""

    name: str
    objectives: tuple[str, ...]
    trials: tuple[SearchedTrial, ...]

    @property
    def front(self) -> list[SearchedTrial]:
        """The trials that no other one beats, each config once, from low to high cost."""
        first: dict[str, SearchedTrial] = {}
        for trial in self.trials:
            if trial.on_front:
                first.setdefault(trial.key, trial)
        return sorted(first.values(), key=lambda trial: trial.objectives[1])

    def frame(self) -> pd.DataFrame:
        """One row a trial: slot, variant, costs, objectives, front, record, status and reason."""
        import pandas as pd

        return pd.DataFrame([_row(trial, self.objectives) for trial in self.trials])


def read_result(study: Study, objectives: Sequence[str]) -> SearchResult:
    """The decided trials of a study."""
    front = {trial.number for trial in study.best_trials}
    trials = study.get_trials(deepcopy=False)
    decided = [trial for trial in trials if is_decided(trial)]
    found = [_searched(trial, slot, trial.number in front) for slot, trial in enumerate(decided)]
    return SearchResult(study.study_name, tuple(objectives), tuple(found))


def save_front(result: SearchResult, folder: Path | str, **also: Any) -> list[Path]:
    """Write each member of the front as a config that `archs.create` and every study accept, by its path.

    The folder then holds this front alone: of an earlier one, only the weights of configs that are still on it are
    kept. Several workers of one search may do so at once.

    `also`: what else the files are to hold.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    members = {variant_name(trial): trial for trial in result.front}
    for path in folder.iterdir():
        if (
            path.is_file() and path.stem not in members and not path.name.startswith(".")
        ):  # what another worker is writing is hidden
            path.unlink(missing_ok=True)
    paths = []
    for name, trial in members.items():
        found = dict(zip(result.objectives, trial.objectives, strict=True))
        meta = {"search": result.name, "cost": trial.cost, "validation": found, "record": trial.record, **also}
        paths.append(archs.save_config(trial.config, folder / f"{name}.json", **meta))
    return paths


def variant_name(trial: SearchedTrial) -> str:
    """How a searched config is called in tables and files."""
    return f"{trial.config.family}-{trial.key[:8]}"


def _searched(trial: FrozenTrial, slot: int, on_front: bool) -> SearchedTrial:
    notes = trial.user_attrs
    return SearchedTrial(
        slot=slot,
        key=notes[CONFIG_KEY],
        config=archs.from_dict(notes["config"]),
        cost=notes["cost"],
        objectives=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
        record=notes.get("record"),
        fresh=notes.get("fresh", False),
        latency_ms=notes.get("latency_ms"),
        reason=notes.get(REASON, ""),
        on_front=on_front,
    )


def _row(trial: SearchedTrial, objectives: Sequence[str]) -> dict[str, Any]:
    values = dict(zip(objectives, trial.objectives, strict=True)) if trial.objectives else {}
    return {
        "slot": trial.slot,
        "variant": variant_name(trial),
        "family": trial.config.family,
        "params": trial.cost["params"],
        "macs": trial.cost["macs"],
        "mib": trial.cost["mib"],
        "latency_ms": trial.latency_ms,
        "f1": values.get("f1"),
        "front": trial.on_front,
        "status": "" if trial.objectives else "failed",
        "reason": trial.reason,
        "record": trial.record,
    }
