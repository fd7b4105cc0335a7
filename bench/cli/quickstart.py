"""`quickstart`: counts, an ablation, a search and their figures, small enough for a first look.

The counts are those of 256x256 images; the trainings are short and on 64 px tiles, so what they show is how the suite
works and which way the larger effects point, not how good the networks can be.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.options import OUTPUT, PROGRESS, DataOption, OutOption
from bench.cli.studying import find_study, show_report

if TYPE_CHECKING:
    from bench.study import VariantStudy

SEEDS = (0, 1, 2, 3)
ABLATED = ("norm=batchnorm", "norm=groupnorm", "conv_stages=4")  # fixed beforehand: some differ clearly, some do not
CNN = "smp/linknet-efficientnet_b0"
MAX_GMACS, MAX_PARAMS = 0.5, 1.5e6  # below the base in both
TRIALS = 6


def quickstart(data: DataOption = "world:tile=64", out: OutOption = Path("runs/quickstart")) -> None:
    """Make a first table, ablation, search and their figures, in minutes on two cores. Resumes where it stopped."""
    import archs
    from bench.cli.reporting import write_report_page
    from bench.search import Budget, SearchPlan
    from bench.search.run import SearchSetting, run_and_report
    from bench.study import Setting, plan_study, run_study, write_report
    from bench.training.recipe import recipe_named

    began, recipe = time.monotonic(), recipe_named("quick")
    setting = Setting(data=data, recipe=recipe, seeds=SEEDS, out=out, batches=(1, 4))
    for study in (_counts(), _ablation()):
        PROGRESS.rule(study.question)
        plan = plan_study(study, setting)
        run_study(plan, console=PROGRESS)
        show_report(write_report(plan.folder, data), plan.folder)
    budget = Budget(max_gmacs=MAX_GMACS, max_params=MAX_PARAMS)
    PROGRESS.rule(f"Which variants of {archs.DEFAULT} are better under {budget}?")
    report = run_and_report(
        SearchPlan(archs.config(archs.DEFAULT), ("widths", "depths", "conv_stages"), budget=budget, trials=TRIALS),
        SearchSetting(data=data, recipe=recipe, seeds=(SEEDS[-1] + 1,), out=out),
        console=PROGRESS,
    )
    show_report(report, report.folder)
    PROGRESS.rule("done")
    OUTPUT.print(f"{(time.monotonic() - began) / 60:.1f} minutes.")
    page = write_report_page([out], out / "report.html", [data], "Quickstart")
    OUTPUT.print(f"All of it to look at in a browser: {page}", markup=False)
    OUTPUT.print("Next: lale-bench study ablation --data YOUR/TILES, or lale-bench --help.")


def _counts() -> VariantStudy:
    """Counts of the papers' own networks and their cheapest CNN baselines."""
    import archs

    benchmark: Any = find_study("benchmark")
    family = archs.family_of(archs.config(archs.DEFAULT))
    own = [v.label for v in benchmark.variants if archs.family_of(v.config) == family]
    return replace(
        benchmark.select([*own, "smp/*-efficientnet_b0"]),
        name="counts",
        question="What do the suite's networks and the CNN baselines cost, by every counter?",
        instruments=("static",),
        figures=("pareto",),
    )


def _ablation() -> VariantStudy:
    """Three changes of the base, and a CNN beside them."""
    from bench.study import Variant

    ablation: Any = find_study("ablation")
    cnn = replace(Variant.named(CNN), factor="a CNN of the field")
    return replace(
        ablation.select(ABLATED).with_variants([cnn]),
        question="What do norm and split point of the base bring, and where does a CNN stand?",
        figures=("ablation", "pareto", "per_class", "confusion", "panels", "curves"),
    )
