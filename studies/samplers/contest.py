"""Samplers compared on a tabulated benchmark: the same budget, the same number of evaluations, different seeds.

A sampler is judged by the front that a user would take: the Pareto front of observed F1 and cost over the configs
evaluated so far. It is chosen by the observed F1, noise included, and valued by the expected F1 of its members, so
that lucky observations do not count. The reference point is fixed beforehand. Below the smallest trained config the
surrogate extrapolates, so smaller configs are counted with the MACs of that config and gain nothing.
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
"""Optuna's random sampler without our filter: a config over the budget costs an evaluation."""
OBJECTIVES = ("f1", "macs")


@dataclass(frozen=True)
class Contest:
    """The search problem.

    Attributes:
        budget: that every config must meet.
        worst_f1: of the reference point; its cost is the budget's MACs.
        evaluations: of a search.
    """

    budget: Budget
    worst_f1: float
    evaluations: int


def contest_cell(benchmark: Tabulated, contest: Contest, sampler: str, seed: int) -> Cell:
    """One search with one sampler.

    Its result: `hypervolume` (F1 times GMACs) of the front and `macs` (sum over the configs trained), each a list with
    one entry an evaluation; `seconds` of CPU time of all proposals; the number of `infeasible` proposals, which are not
    trained.
    """
    determinants = {
        "table": {key: value for key, value in benchmark.about.items() if key != "name"},
        "rows": len(benchmark.table),
        "model": benchmark.model,
        "noise": {"typical": benchmark.noise.typical, "freedom": benchmark.noise.freedom},
        "base": archs.to_dict(benchmark.scope.base, defaults=False),
        "floor": benchmark.scope.low_gmacs,
        "contest": {**asdict(contest), "budget": asdict(contest.budget)},
        "sampler": sampler,
        "seed": seed,
    }

    def run(context: CellContext) -> Mapping[str, Any]:
        return _Search(benchmark, contest, sampler, seed).run(context)

    return Cell(
        "contest", f"{sampler} on {benchmark.model}, repeat {seed}", determinants, run, cost=contest.evaluations
    )


class _Search:
    def __init__(self, benchmark: Tabulated, contest: Contest, sampler: str, seed: int) -> None:
        self.benchmark, self.contest, self.seed = benchmark, contest, seed
        self.floor = round(benchmark.scope.low_gmacs * 1e9)
        self.feasible = FeasibleSpace(benchmark.space, contest.budget, self.price)
        self.sampler = sampler
        with quiet(), experimental():
            self.study = optuna.create_study(
                directions=["maximize", "minimize"], sampler=make_sampler(sampler, self.feasible, seed)
            )
            self.study.set_metric_names(list(OBJECTIVES))

    def run(self, context: CellContext) -> dict[str, Any]:
        from time import process_time

        observed, costs, configs, spent, seconds = [], [], [], [], []
        with quiet():
            for step in range(self.contest.evaluations):
                began = process_time()
                trial = self.study.ask()
                config = self.benchmark.space.suggest(trial)
                seconds.append(process_time() - began)
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
        """The exact cost; MACs are at least those of the smallest trained config."""
        cost = self.benchmark.price(config)
        return replace(cost, macs=max(cost.macs, self.floor))

    def _evaluate(self, trial: optuna.Trial, config: Any) -> float:
        """F1 of one training; NaN for a config over the budget, which the sampler is told has failed."""
        trial.set_user_attr(CONFIG_KEY, config_key(config))
        if not self.feasible.fits(config):
            self.study.tell(trial, state=TrialState.FAIL)
            return float("nan")
        f1 = self.benchmark.observe(config, self.seed)
        self.study.tell(trial, [f1, self.price(config).macs])
        return f1

    def _hypervolumes(self, observed: np.ndarray, costs: np.ndarray, configs: list[Any]) -> list[float]:
        expected = self.benchmark.expected(configs)
        corner = np.array([(self.contest.budget.max_gmacs or 0.0) * 1e9, self.contest.worst_f1])
        return [
            hypervolume_of_chosen(observed[:end], costs[:end], expected[:end], corner) / 1e9
            for end in range(1, len(configs) + 1)
        ]


def hypervolume_of_chosen(observed: np.ndarray, costs: np.ndarray, expected: np.ndarray, corner: np.ndarray) -> float:
    """Expected hypervolume of the observed front.

    Args:
        observed: (points,) observed F1, by which the front is chosen; NaN is no point.
        costs: (points,).
        expected: (points,) expected F1, by which the front is valued.
        corner: cost and F1 of the reference point.
    """
    import pandas as pd

    from bench.stats.pareto import hypervolume_2d

    frame = pd.DataFrame({"cost": costs, "observed": observed, "expected": expected})
    chosen = frame[pareto_front(frame, "cost", "observed")]
    return hypervolume_2d(chosen, "cost", "expected", (float(corner[0]), float(corner[1])))


def make_sampler(name: str, feasible: FeasibleSpace, seed: int) -> BaseSampler:
    """A sampler of the suite without known configs, or the unfiltered one."""
    if name == UNFILTERED:
        return RandomSampler(seed=seed)
    return FeasibleSampler(name, feasible, (), seed)
