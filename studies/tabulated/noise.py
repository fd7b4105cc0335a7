"""How far the F1 of two trainings of one config lies apart, and why not every config by as much.

A deviation pooled over configs follows the few that vary most, and three trainings of a config tell little of its own.
So each config has a variance of its own, shrunk towards the typical one by the model that studies are judged with
(`bench.stats.model`): over configs, variances are scaled inverse chi squared. What all trainings of a seed share (the
same tiles in the same order) is left out: a search trains its candidates with one seed, so it does not change their
order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.stats import model


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the F1 (0 to 1) between trainings of one config.

    Attributes:
        typical: the scale around which the configs' deviations lie.
        freedom: degrees of freedom of their distribution: the fewer, the more the configs differ.
        configs: by config key, the deviation of those that were trained more than once, shrunk towards `typical`.
    """

    typical: float
    freedom: float
    configs: Mapping[str, float]

    def expected(self, key: str) -> float:
        """The deviation of a config as far as it is known: the typical one where it was not trained twice."""
        return self.configs.get(key, self.typical)

    def drawn(self, key: str) -> float:
        """The deviation of a config in a simulation: its own, or one drawn from the configs' distribution, the same
        for the same config."""
        if key in self.configs:
            return self.configs[key]
        rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
        return self.typical * math.sqrt(self.freedom / rng.chisquare(self.freedom))


def noise_of(table: pd.DataFrame) -> Noise:
    """The noise of a table with the columns config_key, seed and f1, by the configs trained more than once.

    Raises:
        BenchError: there is none.
    """
    repeated = _repeated(table)
    if repeated.empty:
        raise BenchError("no config of the table was trained with two seeds, so the noise is not known")
    scores = repeated.pivot_table("f1", index="config_key", columns="seed")
    fitted = model.fit(scores.to_numpy(), model.Layout(scores.notna().to_numpy()))
    freedom = math.exp(fitted.prior.sum(axis=1) @ np.log(model.PRIOR_FREEDOM))
    typical = math.sqrt(fitted.prior.sum(axis=0) @ fitted.scales)
    own = np.sqrt(fitted.variances).tolist()
    return Noise(typical, freedom, dict(zip(scores.index, own, strict=True)))


def deviations_of(table: pd.DataFrame) -> pd.Series:
    """By config that was trained more than once, the plain standard deviation of its F1, without effects of seeds."""
    repeated = _repeated(table)
    left = repeated["f1"] - repeated["seed"].map(seed_effects(table))
    return left.groupby(repeated["config_key"]).std()


def seed_effects(table: pd.DataFrame) -> dict[int, float]:
    """By seed, how much higher its trainings score than those of the mean seed: least squares of F1 = config + seed
    over the configs that were trained more than once."""
    repeated = _repeated(table)
    if repeated.empty:
        return {}
    seeds = sorted(repeated["seed"].unique())
    columns = np.stack([(repeated["seed"] == seed).to_numpy(float) for seed in seeds], axis=1)
    centred = pd.DataFrame(columns).groupby(repeated["config_key"].to_numpy()).transform("mean").to_numpy()
    scores = repeated["f1"] - repeated.groupby("config_key")["f1"].transform("mean")
    effects = np.linalg.lstsq(columns - centred, scores.to_numpy(), rcond=None)[0]
    return {int(seed): float(effect) for seed, effect in zip(seeds, effects - effects.mean(), strict=True)}


def _repeated(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["config_key"].duplicated(keep=False)]
