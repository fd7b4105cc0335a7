"""Samplers by name, each wrapped so that all it proposes is feasible, new where possible, and repeatable."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from bench.engine.distributed import experimental
from bench.errors import BenchError
from bench.search.ehvi import ExactCostEHVISampler
from bench.search.feasible import FeasibleSpace
from bench.search.space import CONFIG_KEY, POINT, Params, config_key

POPULATION = 20  # NSGA-II draws its whole first generation at random: 50, its default, is a long search here
WALK = 64  # steps away from points that were tried before


def _nsga3(seed: int) -> BaseSampler:
    with experimental():
        return NSGAIIISampler(seed=seed, population_size=POPULATION)


SAMPLERS: dict[str, Callable[[int, FeasibleSpace], BaseSampler]] = {
    "ehvi": lambda seed, feasible: ExactCostEHVISampler(feasible, seed),
    "random": lambda seed, _: RandomSampler(seed=seed),
    # multivariate TPE (Optuna's choice for several objectives) may collapse onto few points
    "tpe": lambda seed, _: TPESampler(seed=seed, multivariate=False, constant_liar=False),
    "nsga2": lambda seed, _: NSGAIISampler(seed=seed, population_size=POPULATION),
    "nsga3": lambda seed, _: _nsga3(seed),
    "gp": lambda seed, _: GPSampler(seed=seed, warn_independent_sampling=False),
}
DRAWS = {"ehvi": 1, "gp": 1, "tpe": 2}  # these think about a proposal: few are drawn, and projected if need be
DRAWS_OTHERWISE = 8


def check_sampler(name: str) -> None:
    """Raise BenchError unless there is a sampler of that name."""
    if name not in SAMPLERS:
        raise BenchError(f"--sampler {name}: there is no such sampler; possible: {', '.join(SAMPLERS)}")


class FeasibleSampler(BaseSampler):
    """Wraps a sampler of Optuna's: known configs first, then what it proposes, moved into the budget.

    A proposal depends on the seed, the trial's number and the finished trials only, and is noted on the trial before it
    is drawn: after a kill the same points are proposed. Two workers never share a number, so that equal seeds do not
    repeat each other.

    Args:
        name: one of `SAMPLERS`.
        feasible: where proposals may lie.
        known: points that are proposed before all others; feasible ones.
        seed: of all draws.
    """

    def __init__(self, name: str, feasible: FeasibleSpace, known: Sequence[Params], seed: int) -> None:
        check_sampler(name)
        self._name, self._feasible, self._known, self._seed = name, feasible, tuple(known), seed
        self._distributions = feasible.space.distributions()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Genetic samplers note the generation here, so that known and repeated configs are parents too."""
        inner = self._inner(0)
        if isinstance(inner, NSGAIISampler | NSGAIIISampler):
            inner.get_trial_generation(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters are proposed together, since the budget binds them together."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next feasible point: the first new one of a few draws, or a new one close to them."""
        trials = study.get_trials(deepcopy=False)
        current = trials[trial.number]  # as stored: with its generation
        if POINT not in current.user_attrs:
            point = {name: int(code) for name, code in self._propose(study, trials, current).items()}
            study._storage.set_trial_user_attr(trial._trial_id, POINT, point)
            return point
        return dict(current.user_attrs[POINT])

    def _propose(self, study: Study, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> Params:
        if trial.number < len(self._known):
            return dict(self._known[trial.number])
        seen = _seen(trials, trial)
        drawn = []
        for params in self._draws(study, trial):
            config = self._feasible.space.config(params)
            if self._feasible.fits(config) and config_key(config) not in seen:
                return params
            drawn.append(params)
        return self._near(self._feasible.project(drawn[0]), seen, trial.number)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never reached, as all parameters are sampled relatively.

        Raises:
            BenchError: another parameter was asked for.
        """
        raise BenchError(f"the search space has no parameter {param_name}: leave the storage to its own study")

    def _inner(self, *path: int) -> BaseSampler:
        return SAMPLERS[self._name](zlib.crc32(repr((self._seed, *path)).encode()), self._feasible)

    def _draws(self, study: Study, trial: FrozenTrial) -> Iterator[Params]:
        """What the wrapped sampler proposes, a few times over, with other random numbers each time."""
        relative = self._inner(trial.number).infer_relative_search_space(study, trial)
        for draw in range(DRAWS.get(self._name, DRAWS_OTHERWISE)):
            inner = self._inner(trial.number, draw)
            params = inner.sample_relative(study, trial, relative)
            for name, distribution in self._distributions.items():
                if name not in params:
                    params[name] = inner.sample_independent(study, trial, name, distribution)
            yield self._feasible.space.settled({name: int(params[name]) for name in self._distributions})

    def _near(self, params: Params, seen: set[str], number: int) -> Params:
        """The point itself if it is new; else a new one few steps away; a known one where all around are known."""
        rng = np.random.default_rng([self._seed, number])
        at = params
        for _ in range(WALK):
            if config_key(self._feasible.space.config(at)) not in seen:
                return at
            at = self._feasible.neighbour(at, rng)
        return params


def _seen(trials: Iterable[FrozenTrial], trial: FrozenTrial) -> set[str]:
    """Keys of the configs that other trials train or have trained."""
    return {t.user_attrs[CONFIG_KEY] for t in trials if t.number != trial.number and CONFIG_KEY in t.user_attrs}
