"""A search: Optuna proposes, the budget decides before any training, records answer what was asked before."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

import archs
from bench.engine import StudyInterrupted
from bench.engine.display import Display
from bench.engine.distributed import (
    REASON,
    Heartbeat,
    WorkLoop,
    experimental,
    missing,
    note,
    open_shared,
    quiet,
)
from bench.errors import BenchError
from bench.records.canonical import canonical_json
from bench.search.budget import Budget, has_closed_form
from bench.search.evaluate import Evaluator, Score, TrainingFailed
from bench.search.feasible import FeasibleSpace
from bench.search.front import SearchResult, read_result
from bench.search.samplers import POPULATION, FeasibleSampler, check_sampler
from bench.search.space import CONFIG_KEY, Params, Space, config_key, fields_of
from bench.search.spaces import space_of
from bench.study.sharing import JOB

OBJECTIVES: dict[str, Literal["maximize", "minimize"]] = {
    "f1": "maximize",
    "params": "minimize",
    "macs": "minimize",
    "latency": "minimize",
}
UNITS = {"f1": "F1 {:.4f}", "params": "{:,.0f} parameters", "macs": "{:,.0f} MACs", "latency": "{:.2f} ms"}
AUTO = "auto"
"""`ehvi` where it can price what it weighs up (exact costs in closed form, nothing measured), else Optuna's `gp`: the
study `samplers` found `ehvi` ahead of all others in the first 20 trainings, and none ahead of it at 50."""


@dataclass(frozen=True)
class SearchPlan:
    """What is searched for; data, recipe and device are the evaluator's.

    Attributes:
        base: the config around which the space lies, as `archs.config("lale-s1")`.
        free: names of the fields that may change; the family's own choice if empty.
        objectives: "f1" and one or two of "params", "macs", "latency".
        budget: hard limits, decided before any training.
        trials: trainings in all, failed ones and those answered from records included.
        sampler: one of `SAMPLERS`; `AUTO` becomes the one that is best for the space and the budget.
        seed: of the proposals and of every training.
        space: a space of your own instead of `base` and `free`.
        values: by field, what it may be; see `bench.search.spaces.read_values`.
    """

    base: Any
    free: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ("f1", "macs")
    budget: Budget = field(default_factory=Budget)
    trials: int = 50
    sampler: str = AUTO
    seed: int = 0
    space: Space | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler == AUTO:
            object.__setattr__(self, "sampler", "ehvi" if self._is_priced else "gp")
        check_sampler(self.sampler)
        if self.sampler == "ehvi" and self.is_timed:
            asked = "--max-latency-ms" if self.budget.max_latency_ms is not None else "the objective latency"
            raise BenchError(
                f"--sampler ehvi weighs hundreds of candidates for each training, too many to be timed for {asked}; "
                "leave out --sampler, or ask for MACs instead of latency"
            )
        wrong = [name for name in self.objectives if name not in OBJECTIVES]
        twice = len(set(self.objectives)) < len(self.objectives)
        if wrong or self.objectives[:1] != ("f1",) or not 2 <= len(self.objectives) <= 3 or twice:
            raise BenchError(
                f"--objectives {','.join(self.objectives)}: give f1 first, then one or two of params, macs, latency"
            )
        if self.trials < 1:
            raise BenchError(f"--trials {self.trials}: give at least 1")

    @property
    def _is_priced(self) -> bool:
        """Whether hundreds of candidates can be priced for each training."""
        base = self.space.base if self.space else self.base
        counted = (self.budget.max_latency_ms, self.budget.max_activations, self.budget.max_mib)
        return has_closed_form(base) and "latency" not in self.objectives and set(counted) == {None}

    @property
    def is_timed(self) -> bool:
        """Whether latency is an objective or limited."""
        return self.budget.max_latency_ms is not None or "latency" in self.objectives

    def make_space(self) -> Space:
        """The space that is searched."""
        return self.space or space_of(self.base, self.free, self.values)


def run_search(
    plan: SearchPlan,
    evaluator: Evaluator,
    folder: Path | str,
    *,
    storage: str | None = None,
    console: Console | None = None,
    heartbeat: Heartbeat | None = None,
    asked: Mapping[str, Any] | None = None,
    job: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Search until the plan's number of trials is decided, from wherever an earlier run of it was stopped.

    Several processes may run the same search over one storage, over a server's also from other hosts. A killed one
    loses nothing: its trial is continued by another, and where its checkpoint can be reached its training goes on
    from it.

    Args:
        plan: what to search.
        evaluator: prices, times and trains configs.
        folder: for the storage and what belongs to it.
        storage: see `bench.engine.distributed.open_storage`; SQLite in the folder by default.
        console: where progress goes; standard error by default.
        heartbeat: of the workers of a server's database.
        asked: the determinants that name the search, where they are not this evaluator's own: those of the host that
            began it.
        job: what a worker on another host needs to join, as JSON; kept in the storage (see `bench.search.jobs`).

    Raises:
        BenchError: a budget that no config keeps, a field that is not to be searched, a storage that does not open.
            Nothing has been trained then.
        StudyInterrupted: Ctrl-C; the same call goes on from there.
    """
    with quiet():
        search = _Search(plan, evaluator, Path(folder), storage, heartbeat or Heartbeat(), asked)
        if job is not None:
            search.study.set_user_attr(JOB, {**job, "trials": plan.trials})
        with Display(plan.trials, search.decided(), console, "trials") as display:
            search.run(display)
        return read_result(search.study, plan.objectives)


class _Search:
    """One run of a search over its storage."""

    def __init__(
        self,
        plan: SearchPlan,
        evaluator: Evaluator,
        folder: Path,
        storage: str | None,
        heartbeat: Heartbeat,
        asked: Mapping[str, Any] | None,
    ) -> None:
        self.plan, self.evaluator = plan, evaluator
        self.feasible = _feasible(plan, evaluator)
        known = known_points(self.feasible)
        opened, self.workers = open_shared(storage, folder, heartbeat)
        self.study = optuna.create_study(
            study_name=study_name(plan, self.feasible.space, known, asked or evaluator.determinants),
            storage=opened,
            sampler=FeasibleSampler(plan.sampler, self.feasible, known, plan.seed),
            directions=[OBJECTIVES[name] for name in plan.objectives],
            load_if_exists=True,
        )
        with experimental():
            self.study.set_metric_names(list(plan.objectives))

    def run(self, display: Display) -> None:
        """This process's part of the work."""
        name, done, trials = self.study.study_name, display.done, self.plan.trials
        display.say(f"search {name}: {done} of {max(done, trials)} trials decided; {self.plan.budget}")
        loop = WorkLoop(
            self.study,
            self.workers,
            trials,
            partial(self._values, display),
            catch=(TrainingFailed,),
            ended=partial(self._ended, display),
            tell=display.say,
        )
        try:
            loop.run()
        except KeyboardInterrupt:
            raise StudyInterrupted(loop.left()) from None

    def decided(self) -> int:
        """How many trials count."""
        return self.plan.trials - missing(self._trials(), self.plan.trials)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _values(self, display: Display, trial: optuna.Trial) -> list[float]:
        """The values of a trial's objectives.

        Raises:
            TrainingFailed: its config cannot be timed or trained.
        """
        config = self.feasible.space.suggest(trial)
        figures = self._note(trial, config)
        if math.isinf(figures.get("latency", 0)):
            raise TrainingFailed("its latency cannot be measured: it does not run on the device")
        score = self._answered(trial, config) or self._score(config, display)
        note(trial, display.say, record=score.key, fresh=score.fresh)
        figures["f1"] = score.f1
        return [figures[name] for name in self.plan.objectives]

    def _ended(self, display: Display, trial: FrozenTrial) -> None:
        key = trial.user_attrs[CONFIG_KEY]
        display.done = self.decided() - 1  # others decide trials too
        display.end(key, _line(trial, self.plan.objectives))

    def _score(self, config: Any, display: Display) -> Score:
        key = config_key(config)
        display.begin(key, f"training {key}")
        return self.evaluator.score(config, self.plan.seed, f"search {key}", partial(display.step, key))

    def _answered(self, trial: optuna.Trial, config: Any) -> Score | None:
        """The score of the same config in another trial, perhaps of a host whose records lie elsewhere."""
        for other in self._trials():
            same = other.number != trial.number and other.user_attrs.get(CONFIG_KEY) == config_key(config)
            if same and other.state == TrialState.COMPLETE:
                return Score(other.values[0], other.user_attrs["record"], fresh=False)
        return None

    def _note(self, trial: optuna.Trial, config: Any) -> dict[str, float]:
        """Store what the trial will train and what that costs, before it is trained; the costs.

        Raises:
            BenchError: it breaks the budget, which no proposal of the sampler does.
        """
        cost = self.evaluator.price(config)
        if not self.feasible.fits(config):
            raise BenchError(f"trial {trial.number} breaks the budget ({cost}): it was queued by hand; delete it")
        figures: dict[str, float] = {"params": cost.params, "macs": cost.macs}
        if self.plan.is_timed:
            figures["latency"] = self.evaluator.latency_ms(config)
            trial.set_user_attr("latency_ms", figures["latency"] if math.isfinite(figures["latency"]) else None)
        trial.set_user_attr("config", archs.to_dict(config))
        trial.set_user_attr("cost", cost.to_dict())
        trial.set_user_attr(CONFIG_KEY, config_key(config))
        return figures


def _feasible(plan: SearchPlan, evaluator: Evaluator) -> FeasibleSpace:
    return FeasibleSpace(plan.make_space(), plan.budget, evaluator.price, evaluator.latency_ms)


def search_name(plan: SearchPlan, evaluator: Evaluator, asked: Mapping[str, Any] | None = None) -> str:
    """The name of the search of a plan; `asked` as in `run_search`.

    Raises:
        BenchError: a budget that no config keeps, a field that is not to be searched.
    """
    feasible = _feasible(plan, evaluator)
    return study_name(plan, feasible.space, known_points(feasible), asked or evaluator.determinants)


def known_points(feasible: FeasibleSpace) -> list[Params]:
    """The base (moved into the budget if it breaks it) and the registered configs of its family within the budget."""
    space = feasible.space
    points = [feasible.project(_nearest_point(space))]
    for name in archs.names():
        config = archs.config(name)
        if config in space and feasible.fits(config) and space.params(config) not in points:
            points.append(space.params(config))
    return points


def _nearest_point(space: Space) -> Params:
    base = fields_of(space.base)
    return space.settled({d.name: d.encode(d.of(base)) for d in space.dimensions})


def study_name(plan: SearchPlan, space: Space, known: Sequence[Params], asked: Mapping[str, Any]) -> str:
    """A name that two runs share exactly if they are the same search; the number of trials is not part of it."""
    identity = {
        "base": archs.to_dict(space.base, defaults=False),
        "space": {d.name: list(d.values) for d in space.dimensions},
        "objectives": plan.objectives,
        "budget": asdict(plan.budget),
        "sampler": plan.sampler,
        "population": POPULATION,
        "seed": plan.seed,
        "known": list(known),
        "asked": dict(asked),
    }
    digest = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]
    return f"{space.base.family}-{digest}"


def _line(trial: FrozenTrial, objectives: Sequence[str]) -> str:
    key = trial.user_attrs[CONFIG_KEY]
    if trial.values is None:
        return f"{key}: FAILED: {trial.user_attrs.get(REASON, 'interrupted')}"
    shown = ", ".join(UNITS[name].format(value) for name, value in zip(objectives, trial.values, strict=True))
    return f"{key}: {shown}{'' if trial.user_attrs.get('fresh') else ' (recorded)'}"
