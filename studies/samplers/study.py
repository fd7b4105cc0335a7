"""Which sampler finds the best front for the fewest trainings?

Every sampler searches LALE's space under one budget on the tabulated benchmark, with the same seeds and no known
configs. Two surrogates give the F1, a Gaussian process and a forest, because a sampler that models F1 by a Gaussian
process may have an advantage on the first.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.search.budget import Budget
from bench.study import Layout, Report, Results, Setting
from studies.samplers.contest import UNFILTERED, Contest, contest_cell
from studies.samplers.report import report_contest
from studies.tabulated import benchmark as tabulated

BUDGET = Budget(max_gmacs=0.3)
WORST_F1 = 0.4  # fixed before any sampler was run
EVALUATIONS = {"ehvi": 50, "gp": 50, "tpe": 200, "nsga2": 200, "random": 200, UNFILTERED: 200}
"""Samplers that fit a Gaussian process at each proposal get fewer: its time grows with the cube of the trials."""


@dataclass(frozen=True)
class Samplers:
    """The study.

    Attributes:
        evaluations: by sampler.
        repeats: searches of each, with seeds from 0.
        models: surrogates that give the F1.
        folder: of the tabulated benchmark.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    name: str = "samplers"
    question: str = "Which sampler finds the best front for the fewest trainings?"
    evaluations: tuple[tuple[str, int], ...] = tuple(EVALUATIONS.items())
    repeats: int = 10
    models: tuple[str, ...] = tabulated.MODELS
    budget: Budget = BUDGET
    worst_f1: float = WORST_F1
    folder: Path = tabulated.FOLDER

    def layout(self, setting: Setting) -> Layout:
        """One search a sampler, repeat and surrogate."""
        found = {}
        for model in self.models:
            benchmark = tabulated.load(self.folder, model)
            for sampler, evaluations in self.evaluations:
                contest = Contest(self.budget, self.worst_f1, evaluations)
                for seed in range(self.repeats):
                    found[f"{model} | {sampler} | {seed}"] = contest_cell(benchmark, contest, sampler, seed)
        return Layout(found)

    def report(self, results: Results) -> Report:
        """Medians and quartiles of the hypervolume."""
        names = [name for name, _ in self.evaluations]
        reference = f"F1 {100 * self.worst_f1:g} %, {self.budget.max_gmacs:g} GMACs"
        return report_contest(results, names, self.models, reference)


STUDY = Samplers()
