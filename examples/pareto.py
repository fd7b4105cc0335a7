# %% [markdown]
# # A Pareto plot
#
# *Which networks give most accuracy for their cost?*
#
# Networks of the paper and of segmentation_models.pytorch are counted exactly and trained alike; those that no other
# network beats in both accuracy and cost are the Pareto front.

# %%
from dataclasses import replace
from pathlib import Path

from rich import print

from bench.report.figures.pareto import draw_pareto
from bench.stats.pareto import pareto_front
from bench.study import Setting, Variant, VariantStudy, plan_study, run_study, write_report
from bench.training.recipe import recipe_named

# These settings take under a minute on one core and show how it works. For an answer, take your own tiles,
# recipe_named("standard") and five seeds.
DATA = "world:tile=32"  # or the path of a folder of tiles
NETWORKS = ("lale-s1", "lale-b-s1-k7", "smp/linknet-efficientnet_b0")  # `lale-bench list` names all
RECIPE = replace(recipe_named("smoke"), steps=8)
SEEDS = (0, 1)
SIZE = (64, 64)  # of the images for which parameters and MACs are counted
OUT = Path("runs/examples")

# %%
study = VariantStudy(
    name="pareto",
    question="Which network gives most macro F1 for its parameters and MACs?",
    variants=[Variant.named(name) for name in NETWORKS],
    base=NETWORKS[0],
    instruments=("static", "train"),  # "speed" adds latency and throughput
    figures=("pareto",),
)
plan = plan_study(study, Setting(data=DATA, recipe=RECIPE, seeds=SEEDS, size=SIZE, out=OUT))
run_study(plan)
report = write_report(plan.folder, DATA)
print(report.frame[["variant", "params", "macs", "storage_bytes", "f1", "verdict"]].to_string(index=False))

# %% [markdown]
# The report has drawn F1 against every cost. Any two columns that have a better end can be drawn, as parameters against
# MACs; `docs/columns.md` describes all columns.

# %%
frame = report.frame
front = frame[pareto_front(frame, "macs", "f1")]
print(f"F1 against MACs, on the front: {', '.join(front['variant'])}")

# %%
figures = draw_pareto(frame, "params", plan.folder / "figures" / "params-macs", y="macs")
print("figures:", *sorted(path.name for path in [*report.files, *figures] if path.suffix == ".png"))
