"""The main job in ten minutes on two cores: a table, an ablation, a search and their figures, on generated land.

`make quickstart` runs this. The counts are those of 256x256 images; the trainings are short and on 64 px tiles, so
what they show is how the suite works and which way the larger effects point, not how good the networks can be.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import archs
from bench.cli.options import OUTPUT, PROGRESS
from bench.search import Budget, SearchPlan
from bench.search.report import SearchSetting, run_and_report
from bench.study import Setting, Variant, VariantStudy, plan_study, run_study, write_report
from bench.training.recipe import recipe_named
from studies import ablation, benchmark

OUT = Path("runs/quickstart")
DATA = "terrain"
SEEDS = (0, 1)
ABLATED = ("norm=layernorm", "act=gelu", "stem=patchify", "conv_stages=4")
CNN = "smp/linknet-efficientnet_b0"
LIMITS = Budget(max_gmacs=0.5, max_params=1.5e6)  # below LALE-S1 in both
TRIALS = 6

COUNTS = replace(
    benchmark.STUDY.select(["lale-*", "smp/*-efficientnet_b0"]),
    name="counts",
    question="What do LALE and the CNN baselines cost, by every counter?",
    instruments=("static",),
    figures=("pareto",),
)
STUDY = VariantStudy(
    name="ablation",
    question="What do norm, activation, stem and split point of LALE-S1 bring, and where does a CNN stand?",
    variants=(
        Variant.named("lale-s1"),
        *(variant for variant in ablation.one_factor_variants() if variant.label in ABLATED),
        replace(Variant.named(CNN), factor="a CNN of the field"),
    ),
    base="lale-s1",
    figures=("ablation", "pareto", "per_class", "confusion", "panels", "curves"),
)


def main() -> None:
    """Counts, ablation, search; then what was found and where to look."""
    began = time.monotonic()
    recipe = recipe_named("quick")
    setting = Setting(data=DATA, recipe=recipe, seeds=SEEDS, out=OUT, batches=(1, 4))
    folders = []
    for study in (COUNTS, STUDY):
        PROGRESS.rule(study.question)
        plan = plan_study(study, setting)
        run_study(plan, console=PROGRESS)
        _show(write_report(plan.folder, DATA))
        folders.append(plan.folder)
    PROGRESS.rule(f"Which variants of LALE are better under {LIMITS}?")
    report = run_and_report(
        SearchPlan(
            base=archs.config("lale-s1"), free=("widths", "depths", "conv_stages"), budget=LIMITS, trials=TRIALS
        ),
        SearchSetting(data=DATA, recipe=recipe, seeds=(SEEDS[-1] + 1,), out=OUT),
        console=PROGRESS,
    )
    _show(report)
    folders.append(report.folder)
    PROGRESS.rule("done")
    OUTPUT.print(f"{(time.monotonic() - began) / 60:.1f} minutes. Tables and figures:")
    for folder in folders:
        OUTPUT.print(f"  {folder}/")
    OUTPUT.print("Next: lale-bench study ablation --data YOUR/TILES, or lale-bench --help.")


def _show(report: object) -> None:
    OUTPUT.print(report.table())
    for sentence in report.findings:
        OUTPUT.print(sentence)


if __name__ == "__main__":
    main()
