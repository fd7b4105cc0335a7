"""Do the verdicts of a study hold what they promise?

Thousands of studies are simulated under each condition, with a truth that is known, and judged by the suite's method,
by its former one and by paired t tests. The error is the share of studies with any false statement: a difference
where there is none, one of the wrong sign, or an equivalence of networks that differ by more than delta.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import ClassVar

from bench.engine import Cell
from bench.study import Layout, Report, Results, Setting
from studies.calibration.judging import DRAWS, simulate
from studies.calibration.world import Condition

UNEQUAL = 0.4
TWO_SEEDS = "with two seeds, both of a variant's trainings may go astray"
METHOD = 1  # of `bench.stats.model`; a change that moves intervals counts up, and everything is simulated anew


def conditions() -> list[Condition]:
    """All conditions, in the order of the table."""
    sizes = [(variants, seeds) for variants in (6, 18) for seeds in (2, 3, 5)]
    spreads = (0.0, UNEQUAL)
    return [
        *(Condition(*size, spread=spread) for size in sizes for spread in spreads),
        *(Condition(*size, spread=spread, truth="effects") for size in sizes for spread in spreads),
        *(Condition(v, s, astray=0.05, out_of_reach=TWO_SEEDS if s == 2 else "") for v, s in sizes),
        *(Condition(v, 3, spread=UNEQUAL, truth="edge") for v in (6, 18)),
        *(Condition(v, 3, spread=UNEQUAL, base_seeds=12) for v in (6, 18)),
        Condition(18, 3, spread=UNEQUAL, base_seeds=12, truth="effects"),
        *(Condition(v, 3, scenes=scenes) for v in (6, 18) for scenes in (8, 20)),
        *(Condition(v, 2, scenes=20, folds=5) for v in (6, 18)),
        *(Condition(v, s, spread=UNEQUAL, looks=4) for v in (6, 18) for s in (2, 3)),
        *(Condition(v, 3, spread=UNEQUAL, looks=4, truth="effects") for v in (6, 18)),
        Condition(18, 3, spread=UNEQUAL, looks=4, truth="edge"),
    ]


@dataclass(frozen=True)
class Calibration:
    """The study: its conditions, and how many studies are simulated under each; fewer where each has several looks."""

    uses: ClassVar[tuple[str, ...]] = ()

    conditions: Sequence[Condition]
    studies: int = 4000
    studies_with_looks: int = 1200
    name: str = "calibration"
    question: str = "Do the verdicts of a study hold what they promise?"

    def layout(self, setting: Setting) -> Layout:
        """One cell a condition."""
        return Layout({condition.label: self._cell(condition) for condition in self.conditions})

    def report(self, results: Results) -> Report:
        """Error and power of every method, a table and a figure."""
        from studies.calibration.report import report_calibration

        return report_calibration(self.conditions, results)

    def _cell(self, condition: Condition) -> Cell:
        studies = self.studies_with_looks if condition.looks > 1 else self.studies
        determinants = {"condition": asdict(condition), "studies": studies, "draws": DRAWS, "method": METHOD}
        return Cell(
            kind="calibration",
            label=condition.label,
            determinants=determinants,
            run=partial(simulate, condition, studies, METHOD),
            cost=float(studies * condition.variants * condition.looks**2),
            untimed=True,
        )


STUDY = Calibration(tuple(conditions()))
