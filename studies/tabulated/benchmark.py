"""A tabulated benchmark: a table of real trainings, and a surrogate that predicts the F1 of any other config.

Comparing samplers takes thousands of evaluations, each of which would be a training. Here a model fitted to a few
hundred trainings predicts the F1 of any config of a space, and an observation adds the noise between trainings of one
config with other seeds, see `studies.tabulated.noise` (as in NAS-Bench-301: Zela et al. 2022, arXiv 2008.09777). The
surrogate's error was measured on trainings that it had not seen, and is stored beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import archs
from bench.engine.cells import Progress
from bench.errors import BenchError
from bench.search.budget import Pricer, StaticCost
from bench.search.evaluate import Score
from bench.search.space import Space, config_key
from bench.search.spaces import space_of
from studies.tabulated.noise import Noise, seed_effects

FOLDER = Path(__file__).resolve().parent
FILE, TABLE = "benchmark.json", "table.csv"
FORMAT = "lale-bench tabulated 2"
FOLDS = 10
SURROGATES = {"gp": "Gaussian process", "forest": "forest"}
"""A sampler that models F1 by one of them should also be tried on the other."""
MODELS = tuple(SURROGATES)


@dataclass(frozen=True)
class Scope:
    """What a table is about.

    Attributes:
        base: the config around which the space lies.
        size: height and width of the image at which MACs are counted.
        num_classes: as the networks were trained.
        low_gmacs, high_gmacs: the range of the configs of the table; outside, the surrogate extrapolates.
        free: the fields that vary; the family's own choice if empty.
    """

    base: Any
    size: tuple[int, int]
    num_classes: int
    low_gmacs: float
    high_gmacs: float
    free: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scope:
        """The scope of `to_dict`."""
        base, size, free = archs.from_dict(values["base"]), tuple(values["size"]), tuple(values["free"])
        return cls(**{**values, "base": base, "size": size, "free": free})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"base": archs.to_dict(self.base)}

    @cached_property
    def space(self) -> Space:
        """The space."""
        return space_of(self.base, self.free)

    @cached_property
    def price(self) -> Pricer:
        """The exact static cost of a config."""
        return Pricer(self.size, self.num_classes)

    def features(self, configs: Sequence[Any]) -> np.ndarray:
        """(configs, features): the position of each value in its dimension, 0 to 1; the logarithms of costs."""
        rows = []
        for config in configs:
            point, cost = self.space.params(config), self.price(config)
            places = [d.place(point[d.name]) for d in self.space.dimensions]
            rows.append([*places, math.log10(cost.macs), math.log10(cost.params)])
        table = np.array(rows, dtype=float)
        table[:, -2:] = (table[:, -2:] - self._low) / self._span
        return table

    @property
    def _low(self) -> np.ndarray:
        return np.array([math.log10(self.low_gmacs * 1e9), 4.0])

    @property
    def _span(self) -> np.ndarray:
        return np.array([math.log10(self.high_gmacs / self.low_gmacs), 3.0])

    def spread(self, number: int, seed: int, bins: int = 10) -> list[Any]:
        """Distinct configs, equally many in each bin of log MACs over the scope's range.

        Each draw has its own upper limit in every dimension, since uniform draws are rarely small.

        Raises:
            BenchError: the space is too narrow for that.
        """
        rng = np.random.default_rng(seed)
        found: list[dict[str, Any]] = [{} for _ in range(bins)]
        for _ in range(400 * number):
            config = self.space.config(self._draw(rng))
            at = self._bin(self.price(config).macs, bins)
            if 0 <= at < bins and len(found[at]) < math.ceil(number / bins):
                found[at][config_key(config)] = config
            if all(len(one) == math.ceil(number / bins) for one in found):
                drawn = [config for one in found for config in one.values()]
                return [drawn[i] for i in rng.permutation(len(drawn))[:number]]
        raise BenchError(
            f"the space has too few configs between {self.low_gmacs:g} and {self.high_gmacs:g} GMACs to draw {number}; "
            "free more fields or ask for fewer"
        )

    def _draw(self, rng: np.random.Generator) -> dict[str, int]:
        limit = rng.random()
        point = {}
        for d in self.space.dimensions:
            most = len(d.values) if d.step is None else 1 + math.ceil(limit * (len(d.values) - 1))
            point[d.name] = d.codes[int(rng.integers(most))]
        return point

    def _bin(self, macs: int, bins: int) -> int:
        share = math.log(macs / 1e9 / self.low_gmacs) / math.log(self.high_gmacs / self.low_gmacs)
        return math.floor(share * bins)


@dataclass(frozen=True)
class Fit:
    """The error of a surrogate on trainings of configs that it has not seen.

    Attributes:
        model: one of `MODELS`.
        rmse: of the predicted F1 against the mean of a config's trainings, their noise included.
        tau: Kendall's rank correlation of predicted and trained F1.
        r2: share of the variance explained.
    """

    model: str
    rmse: float
    tau: float
    r2: float


@dataclass(frozen=True)
class Tabulated:
    """A table of trainings and the surrogate over them.

    Attributes:
        scope: the space and how costs are counted.
        table: one row a training: the point by dimension name, seed, f1, params, macs, config_key.
        noise: between trainings of one config.
        fits: the error of every model.
        model: the one that predicts.
        about: data, recipe, environment, as JSON.
    """

    scope: Scope
    table: pd.DataFrame
    noise: Noise
    fits: tuple[Fit, ...]
    model: str
    about: Mapping[str, Any] = field(default_factory=dict)
    _expected: dict[Any, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def space(self) -> Space:
        """What can be searched."""
        return self.scope.space

    def price(self, config: Any) -> StaticCost:
        """The exact static cost."""
        return self.scope.price(config)

    @cached_property
    def _surrogate(self) -> Callable[[np.ndarray], np.ndarray]:
        return fit(self.model, *points_of(self.scope, self.table, self.noise))

    def expected(self, configs: Sequence[Any]) -> np.ndarray:
        """(configs,) the mean macro F1 of the trainings of each, 0 to 1."""
        new = [config for config in dict.fromkeys(configs) if config not in self._expected]
        if new:
            values = np.clip(self._surrogate(self.scope.features(new)), 0.0, 1.0)
            self._expected.update(zip(new, values.tolist(), strict=True))
        return np.array([self._expected[config] for config in configs])

    def observe(self, config: Any, seed: int) -> float:
        """The macro F1 of one training: the same for the same config and seed."""
        key = config_key(config)
        digest = hashlib.sha256(f"{key} {seed}".encode()).digest()
        noise = np.random.default_rng(list(digest)).normal(0.0, self.noise.drawn(key))
        return float(np.clip(self.expected([config])[0] + noise, 0.0, 1.0))

    # What follows makes it an `Evaluator` of `bench.search`, for searches that train nothing.

    @property
    def determinants(self) -> Mapping[str, Any]:
        """The table and the model."""
        return {"tabulated": dict(self.about), "model": self.model, "noise": asdict(self.noise)}

    def latency_ms(self, config: Any) -> float:
        """Not known.

        Raises:
            BenchError: always.
        """
        raise BenchError("a tabulated benchmark has no latencies; search for f1 with params or macs")

    def score(self, config: Any, seed: int, label: str, progress: Progress) -> Score:
        """The F1 of one training."""
        return Score(self.observe(config, seed), f"tabulated {config_key(config)} {seed}", fresh=True)


def load(folder: Path | str = FOLDER, model: str = "") -> Tabulated:
    """A tabulated benchmark; the one of the package if no folder is given.

    Args:
        folder: with `table.csv` and `benchmark.json`, as `lale-bench study tabulated` writes them.
        model: "gp" or "forest"; by default the one with the smaller error on trainings that it had not seen.

    Raises:
        BenchError: there is none, or it cannot be read.
    """
    folder = Path(folder)
    try:
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
        table = pd.read_csv(folder / TABLE)
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{folder} holds no tabulated benchmark ({error}); run lale-bench study tabulated, or give its folder"
        ) from None
    if document.get("format") != FORMAT:
        raise BenchError(f"{folder / FILE} is no tabulated benchmark of this version; run lale-bench study tabulated")
    fits = tuple(Fit(**one) for one in document["fits"])
    chosen = model or min(fits, key=lambda one: one.rmse).model
    if chosen not in MODELS:
        raise BenchError(f"there is no surrogate {chosen!r}; possible: {', '.join(MODELS)}")
    scope, noise = Scope.from_dict(document["scope"]), Noise(**document["noise"])
    return Tabulated(scope, table, noise, fits, chosen, document["about"])


def points_of(scope: Scope, table: pd.DataFrame, noise: Noise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, mean F1 and its variance by the noise, of each config of a table, in order of first appearance."""
    names = [dimension.name for dimension in scope.space.dimensions]
    table = table.assign(f1=table["f1"] - table["seed"].map(seed_effects(table)).fillna(0.0))
    groups = table.groupby("config_key", sort=False)
    first = groups[names].first()
    configs = [scope.space.config({name: int(row[name]) for name in names}) for row in first.to_dict("records")]
    f1, counts = groups["f1"].mean(), groups["f1"].count()
    variance = np.array([noise.expected(key) ** 2 for key in f1.index]) / counts
    return scope.features(configs), f1.to_numpy(), variance.to_numpy()


def fit(model: str, features: np.ndarray, f1: np.ndarray, variance: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a surrogate; returns what predicts F1 from features.

    Args:
        model: one of `MODELS`.
        features: (configs, features).
        f1: (configs,) means over seeds.
        variance: (configs,) of each mean, by the noise of trainings.
    """
    if model == "forest":
        from sklearn.ensemble import ExtraTreesRegressor

        forest = ExtraTreesRegressor(400, min_samples_leaf=2, max_features=0.6, random_state=0)
        return forest.fit(features, f1, sample_weight=1 / variance).predict
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    scale = f1.std() or 1.0
    smooth = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(np.full(features.shape[1], 2.0), (0.1, 30), nu=2.5)
    kernel = smooth + WhiteKernel(0.02, (1e-4, 1.0))  # what the features do not tell apart
    process = GaussianProcessRegressor(kernel, alpha=variance / scale**2, normalize_y=True)
    with warnings.catch_warnings():  # a length scale at its bound is a dimension without effect
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(features, f1)
    return process.predict


def held_out(scope: Scope, table: pd.DataFrame, model: str, noise: Noise) -> np.ndarray:
    """(configs,) F1 predicted for each config of a table by a surrogate that has not seen it, in `FOLDS` parts."""
    features, f1, variance = points_of(scope, table, noise)
    predicted = np.empty(len(f1))
    part = np.random.default_rng(0).permutation(len(f1)) % FOLDS
    for fold in range(FOLDS):
        out = part == fold
        predicted[out] = fit(model, features[~out], f1[~out], variance[~out])(features[out])
    return predicted


def judge(model: str, predicted: np.ndarray, f1: np.ndarray) -> Fit:
    """The errors of held-out predictions."""
    from scipy.stats import kendalltau

    error = predicted - f1
    return Fit(
        model,
        float(np.sqrt((error**2).mean())),
        float(kendalltau(predicted, f1).statistic),
        float(1 - (error**2).sum() / ((f1 - f1.mean()) ** 2).sum()),
    )
