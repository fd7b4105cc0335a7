"""Samplers against each other on a tabulated benchmark: the same budget, the same number of evaluations, other seeds.

A sampler is judged by the front that a user of it would take: of the configs it has seen, those that no other beats in
observed F1 and cost. The front is chosen by what was observed, noise and all, and then valued by the F1 that its
members really have in the mean: luck is chosen, but not paid. The reference point is fixed beforehand. Below the
smallest trained config the surrogate only guesses, so nothing is gained by going there: MACs count from that size on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

import archs
from bench.engine import Cell, CellContext
from bench.engine.distributed import experimental, quiet
from bench.search.budget import Budget, StaticCost
from bench.search.feasible import FeasibleSpace
from bench.search.samplers import FeasibleSampler
from bench.search.space import CONFIG_KEY, config_key
from bench.stats.pareto import pareto_front
from studies.tabulated.benchmark import Tabulated

UNFILTERED = "unfiltered random"
"""Optuna's random sampler as it comes: what breaks the budget is an evaluation spent for nothing."""
OBJECTIVES = ("f1", "macs")


@dataclass(frozen=True)
class Contest:
    """The problem.

    Attributes:
        budget: that every config must keep.
        worst_f1: of the reference point; its cost is the budget's MACs.
        evaluations: of a search.
    """

    budget: Budget
    worst_f1: float
    evaluations: int


def contest_cell(land: Tabulated, contest: Contest, sampler: str, seed: int) -> Cell:
    """One search of a sampler. Its result holds one entry an evaluation: `hypervolume` (of F1 times GMACs) of the
    front so far, `macs` (of the trainings so far, relative: an infeasible config trains nothing), `seconds` (of
    proposing), and `infeasible` evaluations."""
    determinants = {
        "table": {key: value for key, value in land.about.items() if key != "name"},
        "rows": len(land.table),
        "model": land.model,
        "noise": land.noise,
        "base": archs.to_dict(land.scope.base, defaults=False),
        "floor": land.scope.low_gmacs,
        "contest": {**asdict(contest), "budget": asdict(contest.budget)},
        "sampler": sampler,
        "seed": seed,
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        return _Search(land, contest, sampler, seed).run(context)

    return Cell("contest", f"{sampler} on {land.model}, repeat {seed}", determinants, run, cost=contest.evaluations)


class _Search:
    def __init__(self, land: Tabulated, contest: Contest, sampler: str, seed: int) -> None:
        self.land, self.contest, self.seed = land, contest, seed
        self.floor = round(land.scope.low_gmacs * 1e9)
        self.feasible = FeasibleSpace(land.space, contest.budget, self.price)
        self.sampler = sampler
        with quiet(), experimental():
            self.study = optuna.create_study(
                directions=["maximize", "minimize"], sampler=make_sampler(sampler, self.feasible, seed)
            )
            self.study.set_metric_names(list(OBJECTIVES))

    def run(self, context: CellContext) -> dict[str, Any]:
        from time import perf_counter

        observed, costs, configs, spent, seconds = [], [], [], [], []
        with quiet():
            for step in range(self.contest.evaluations):
                began = perf_counter()
                trial = self.study.ask()
                config = self.land.space.suggest(trial)
                seconds.append(perf_counter() - began)
                f1 = self._evaluate(trial, config)
                observed.append(f1)
                costs.append(self.price(config).macs)
                configs.append(config)
                spent.append(0 if np.isnan(f1) else costs[-1])
                context.progress(step + 1, self.contest.evaluations, "")
        return {
            "hypervolume": self._hypervolumes(np.array(observed), np.array(costs, float), configs),
            "macs": np.cumsum(spent).tolist(),
            "seconds": float(np.sum(seconds)),
            "infeasible": int(np.isnan(observed).sum()),
        }

    def price(self, config: Any) -> StaticCost:
        """The exact cost; MACs below those of any trained config count as the least of these."""
        cost = self.land.price(config)
        return replace(cost, macs=max(cost.macs, self.floor))

    def _evaluate(self, trial: optuna.Trial, config: Any) -> float:
        """One training's F1; NaN for what breaks the budget, of which the sampler learns that it failed."""
        trial.set_user_attr(CONFIG_KEY, config_key(config))
        if not self.feasible.fits(config):
            self.study.tell(trial, state=TrialState.FAIL)
            return float("nan")
        f1 = self.land.observe(config, self.seed)
        self.study.tell(trial, [f1, self.price(config).macs])
        return f1

    def _hypervolumes(self, observed: np.ndarray, costs: np.ndarray, configs: list[Any]) -> list[float]:
        expected = self.land.expected(configs)
        corner = np.array([(self.contest.budget.max_gmacs or 0.0) * 1e9, self.contest.worst_f1])
        return [
            hypervolume_of_chosen(observed[:end], costs[:end], expected[:end], corner) / 1e9
            for end in range(1, len(configs) + 1)
        ]


def hypervolume_of_chosen(observed: np.ndarray, costs: np.ndarray, expected: np.ndarray, corner: np.ndarray) -> float:
    """Hypervolume of what a user would take, by what it is worth.

    Args:
        observed: (points,) F1 with noise, by which the front is chosen; NaN is no point.
        costs: (points,).
        expected: (points,) F1 without noise, by which the front is valued.
        corner: the worst cost and the worst F1 that count.
    """
    import pandas as pd

    from bench.stats.pareto import hypervolume_2d

    frame = pd.DataFrame({"cost": costs, "observed": observed, "expected": expected})
    chosen = frame[pareto_front(frame, "cost", "observed")]
    return hypervolume_2d(chosen, "cost", "expected", (float(corner[0]), float(corner[1])))


def make_sampler(name: str, feasible: FeasibleSpace, seed: int) -> BaseSampler:
    """A sampler of the suite without configs known beforehand, or the unfiltered one."""
    if name == UNFILTERED:
        return RandomSampler(seed=seed)
    return FeasibleSampler(name, feasible, (), seed)
