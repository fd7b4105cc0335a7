"""What do short trainings of a few hundred LALE configs score, and how well is the F1 of any other predicted?

The result is a benchmark of samplers: `studies.tabulated.load()` predicts the F1 of any config of the space. The
configs are spread evenly over the logarithm of their MACs; some are trained with more seeds, which gives the noise
between trainings. The surrogate's error is measured on configs that it has not seen.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import archs
from bench.data import open_data
from bench.study import Layout, Report, Results, Setting
from bench.training.recipe import Recipe, recipe_named
from studies.tabulated.benchmark import Scope
from studies.tabulated.report import Training, report_tabulated

SCOPE = Scope(archs.config("lale-s1"), size=(256, 256), num_classes=7, low_gmacs=0.1, high_gmacs=0.8)
RECIPE = replace(recipe_named("quick"), steps=100, eval_every=100)


@dataclass(frozen=True)
class Tabulation:
    """The study: which configs are trained, on what, with which seeds.

    Attributes:
        configs: how many are trained with seed 0, beside LALE-S1.
        repeated: how many of those are trained with `seeds` more seeds.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    name: str = "tabulated"
    question: str = "What do a few hundred LALE configs score, and how well is the F1 of any other predicted?"
    scope: Scope = SCOPE
    recipe: Recipe = RECIPE
    data: str = "terrain"
    configs: int = 240
    repeated: int = 30
    seeds: int = 2

    @cached_property
    def trainings(self) -> dict[str, Training]:
        """Every training of the table, by a label."""
        drawn = [self.scope.base, *self.scope.spread(self.configs, seed=0)]
        wanted = [(i, 0) for i in range(len(drawn))]
        wanted += [(i, seed) for i in range(self.repeated) for seed in range(1, self.seeds + 1)]
        return {f"config {i}, seed {seed}": Training(drawn[i], seed) for i, seed in wanted}

    def layout(self, setting: Setting) -> Layout:
        """One training each, scored on validation tiles, as a search would."""
        from bench.training.cells import train_cell

        data = open_data(self.data, splits=("train", "val"))
        return Layout(
            {
                label: train_cell(
                    one.config, label.partition(",")[0], data, self.recipe, one.seed, setting.device, test=False
                )
                for label, one in self.trainings.items()
            }
        )

    def report(self, results: Results) -> Report:
        """The table, the surrogates' errors, a figure, and the benchmark that `load` reads."""
        return report_tabulated(self.scope, self.trainings, results.records, results.folder)


STUDY = Tabulation()
