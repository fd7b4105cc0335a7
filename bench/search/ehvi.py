"""Exact-cost expected hypervolume improvement: a sampler for searches in which only the score is uncertain.

A multi-objective sampler that models every objective spends its trials on learning what a MAC costs, which is known
to the last digit before anything is trained. Here one Gaussian process models F1 alone (scikit-learn's, Matern 5/2
with a length scale a dimension and noise); for a candidate with predicted F1 ~ N(mu, s^2) and known costs c, the
expected growth of the dominated hypervolume is a sum over the boxes into which the front cuts the space of costs:

    sum over boxes  volume(box beyond c) * E[max(0, f - g)],    E[max(0, f - g)] = s (z Phi(z) + phi(z)),

where g is the best F1 that the front reaches at the costs of the box and z = (mu - g) / s. No integral is sampled,
so thousands of feasible candidates are compared at once. The idea of the expected improvement of the hypervolume is
Emmerich et al., 2006 (IEEE TEVC 10(4)); that known costs leave one uncertain dimension is what makes it closed here.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bench.errors import BenchError
from bench.search.budget import has_closed_form
from bench.search.feasible import FeasibleSpace
from bench.search.space import Params

KNOWN_COSTS = ("params", "macs")
STARTUP = 6  # finished trials before the process is fitted; until then feasible points are drawn at random
DRAWN = 800  # random points priced for a proposal, where that takes no counting
FEWEST = 64  # feasible candidates; where random points yield fewer, some are moved into the budget
WALKS = 12  # neighbours looked at of each good point
CLIMBS, CLIMBERS = 4, 8  # times that the neighbours of the so many best points are looked at

Gain = Callable[[Sequence[Params]], np.ndarray]
"""(points,) expected growth of the hypervolume."""


@dataclass(frozen=True)
class CostBoxes:
    """The space of costs between the front and the reference, cut into boxes.

    Attributes:
        low, high: (boxes, costs) corners; the last box of a row ends at the reference.
        best: (boxes,) the best score that the front reaches at the low corner; the reference's where it reaches none.
    """

    low: np.ndarray
    high: np.ndarray
    best: np.ndarray


def cut(scores: np.ndarray, costs: np.ndarray, reference: tuple[float, np.ndarray]) -> CostBoxes:
    """Cut the space of costs at the costs of the points.

    Args:
        scores: (points,) to be maximised.
        costs: (points, costs) to be minimised.
        reference: a score below and costs above which nothing counts.
    """
    worst, limits = reference
    edges = [
        np.unique(np.append(axis[axis < limit], [-np.inf, limit])) for axis, limit in zip(costs.T, limits, strict=True)
    ]
    low = np.stack(np.meshgrid(*(e[:-1] for e in edges), indexing="ij"), axis=-1).reshape(-1, len(limits))
    high = np.stack(np.meshgrid(*(e[1:] for e in edges), indexing="ij"), axis=-1).reshape(-1, len(limits))
    reached = (costs[None] <= low[:, None]).all(axis=-1)
    best = np.where(reached, scores[None], worst).max(axis=1, initial=worst)
    return CostBoxes(low, high, best)


def _unbeaten(scores: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points that no other one beats: all others only multiply the boxes, which grow as points to the power of
    their costs."""
    figures = np.column_stack([-scores, costs])
    beats = (figures[:, None] <= figures[None]).all(-1) & (figures[:, None] < figures[None]).any(-1)
    front = ~beats.any(0)
    return scores[front], costs[front]


def expected_gain(mean: np.ndarray, deviation: np.ndarray, costs: np.ndarray, boxes: CostBoxes) -> np.ndarray:
    """(candidates,) expected growth of the hypervolume by candidates of predicted score and known costs.

    Args:
        mean, deviation: (candidates,) of the normal distribution of each score; a deviation of 0 is a known score.
        costs: (candidates, costs).
        boxes: from `cut`.
    """
    from scipy.stats import norm

    sides = np.clip(boxes.high[None] - np.maximum(boxes.low[None], costs[:, None]), 0, None)
    above = mean[:, None] - boxes.best[None]
    spread = np.maximum(deviation, 1e-12)[:, None]
    z = above / spread
    return (sides.prod(axis=-1) * spread * (z * norm.cdf(z) + norm.pdf(z))).sum(axis=1)


class ExactCostEHVISampler(BaseSampler):
    """Proposes the feasible point of the largest expected hypervolume gain; several workers do not repeat each other.

    For studies whose first objective is the score (maximised) and whose others are among `KNOWN_COSTS` (minimised),
    by the study's metric names. Points that other workers are training count with their predicted score.

    Args:
        feasible: where proposals may lie; its price gives the costs.
        seed: of the candidates.
    """

    def __init__(self, feasible: FeasibleSpace, seed: int) -> None:
        self._feasible, self._rng = feasible, np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters: the budget binds them together."""
        return self._feasible.space.distributions()

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never reached, as all parameters are sampled relatively.

        Raises:
            BenchError: another parameter was asked for.
        """
        raise BenchError(f"the search space has no parameter {param_name}: leave the storage to its own study")

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point.

        Raises:
            BenchError: an objective of the study is no cost that is known beforehand.
        """
        names = _cost_names(study)
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params]
        done = [t for t in trials if t.state == TrialState.COMPLETE]
        if len(done) < STARTUP:
            return self._random()
        pending = [t for t in trials if t.state == TrialState.RUNNING]
        return self._climb(
            self._candidates(done, {t.number for t in study.best_trials}),
            self._gain_by(done, pending, names),
            [*done, *pending],
        )

    def _climb(self, points: list[Params], gain: Gain, known: Sequence[FrozenTrial]) -> Params:
        """The best of the points and, some times over, of the neighbours of the best; a new one if there is any."""
        taken = {_key(self._feasible.space.settled(t.params)) for t in known}
        gains = {_key(point): (value, point) for point, value in zip(points, gain(points), strict=True)}
        for _ in range(CLIMBS):
            best = sorted(gains.values(), key=lambda pair: pair[0], reverse=True)[:CLIMBERS]
            around = [self._feasible.neighbour(point, self._rng) for _, point in best for _ in range(WALKS)]
            new = list({_key(point): point for point in around if _key(point) not in gains}.values())
            if new:
                gains |= {_key(point): (value, point) for point, value in zip(new, gain(new), strict=True)}
        free = [pair for key, pair in gains.items() if key not in taken] or list(gains.values())
        return max(free, key=lambda pair: pair[0])[1]

    def _gain_by(self, done: Sequence[FrozenTrial], pending: Sequence[FrozenTrial], names: list[str]) -> Gain:
        """What scores points by what is known so far."""
        seen = self._coordinates([t.params for t in done])
        scores = np.array([t.values[0] for t in done])
        model = _Process(seen, scores)
        if pending:
            waiting = self._coordinates([t.params for t in pending])
            model = model.believing(waiting)
            seen = np.concatenate([seen, waiting])
        costs = self._costs([t.params for t in [*done, *pending]], names)
        reference = (float(scores.min()), self._limits(names, costs))
        # The front is that of the predicted scores: by the noisy ones a lucky training would never be beaten.
        mean = model.predict(seen)[0]
        boxes = cut(*_unbeaten(mean, costs), reference)

        def gain(points: Sequence[Params]) -> np.ndarray:
            return expected_gain(*model.predict(self._coordinates(points)), self._costs(points, names), boxes)

        return gain

    def _limits(self, names: Sequence[str], costs: np.ndarray) -> np.ndarray:
        """The costs beyond which nothing counts: the budget's, or the largest seen."""
        budget = self._feasible.budget
        limits = {"params": budget.max_params, "macs": budget.max_gmacs and budget.max_gmacs * 1e9}
        return np.array([limits[name] or costs[:, i].max() * 1.01 for i, name in enumerate(names)])

    def _costs(self, points: Sequence[Params], names: Sequence[str]) -> np.ndarray:
        priced = [self._feasible.price(self._feasible.space.config(point)) for point in points]
        return np.array([[getattr(cost, name) for name in names] for cost in priced], dtype=float)

    def _coordinates(self, points: Sequence[Params]) -> np.ndarray:
        """(points, dimensions) positions between the first and the last value of each dimension, 0 to 1."""
        rows = [[d.place(point[d.name]) for d in self._feasible.space.dimensions] for point in points]
        return np.array(rows, dtype=float)

    def _random(self) -> Params:
        space = self._feasible.space
        return self._feasible.project({d.name: d.codes[self._rng.integers(len(d.codes))] for d in space.dimensions})

    def _candidates(self, done: Sequence[FrozenTrial], front: set[int]) -> list[Params]:
        """Different feasible points: random ones all over the space, the best so far, and neighbours of these."""
        space, feasible = self._feasible.space, self._feasible
        codes = {d.name: d.codes for d in space.dimensions}
        drawn = [
            space.settled({name: values[self._rng.integers(len(values))] for name, values in codes.items()})
            for _ in range(DRAWN if has_closed_form(space.base) else FEWEST)
        ]
        found = [point for point in drawn if feasible.fits(space.config(point))]
        found += [feasible.project(point) for point in drawn[: max(FEWEST - len(found), 0)]]
        best = sorted(done, key=lambda t: t.values[0], reverse=True)[:STARTUP] + [t for t in done if t.number in front]
        for trial in best:
            found += [feasible.neighbour(dict(trial.params), self._rng) for _ in range(WALKS)]
        return list({_key(point): point for point in found}.values())


class _Process:
    """A Gaussian process on the scores; predictions are of the score itself, without a training's noise."""

    def __init__(self, points: np.ndarray, scores: np.ndarray, kernel: Any = None) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        fresh = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(np.full(points.shape[1], 0.7), (0.1, 10), nu=2.5)
        self._points, self._scores = points, scores
        self._model = GaussianProcessRegressor(
            kernel or fresh + WhiteKernel(0.1, (1e-4, 1.0)),
            normalize_y=True,
            optimizer=None if kernel else "fmin_l_bfgs_b",
        )
        with warnings.catch_warnings():  # a length scale at its bound is a dimension without effect
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(points, scores)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(points,) mean and standard deviation."""
        mean, deviation = self._model.predict(points, return_std=True)
        noise = self._model.kernel_.k2.noise_level * self._scores.std() ** 2
        return mean, np.sqrt(np.clip(deviation**2 - noise, 0, None))

    def believing(self, points: np.ndarray) -> "_Process":
        """The same process, had these points been scored as it predicts."""
        scores = np.concatenate([self._scores, self._model.predict(points)])
        return _Process(np.concatenate([self._points, points]), scores, self._model.kernel_)


def _cost_names(study: Study) -> list[str]:
    names = list(study.metric_names or ())[1:]
    if not names or not set(names) <= set(KNOWN_COSTS):
        raise BenchError(
            f"the sampler ehvi wants costs that are known before a training: f1 and one or two of "
            f"{', '.join(KNOWN_COSTS)}, not {', '.join(study.metric_names or ['objectives without names'])}; "
            "use the sampler gp"
        )
    return names


def _key(point: Params) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(point.items()))
