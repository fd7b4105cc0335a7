# %% [markdown]
# # A search under a budget
#
# *Which variant of LALE-S1 is best within so many MACs and parameters?*
#
# Candidates over the budget are sorted out by exact counts before any training. The front is trained anew with seeds
# that the search has not seen, and scored on test tiles.

# %%
from dataclasses import replace
from pathlib import Path

from rich import print

import archs
from bench.search import Budget, SearchPlan
from bench.search.run import SearchSetting, run_and_report
from bench.training.recipe import recipe_named

# These settings take under a minute on one core and show how it works. For an answer, take your own tiles,
# recipe_named("standard"), 40 trials and five seeds.
DATA = "world:tile=32"  # or the path of a folder of tiles
BUDGET = Budget(max_gmacs=0.03, max_params=1.5e6)  # for an image of SIZE
SIZE = (64, 64)
TRIALS = 3
RECIPE = replace(recipe_named("smoke"), steps=8)
SEEDS = (1,)  # of the final trainings; the search itself uses seed 0
OUT = Path("runs/examples")

# %% [markdown]
# What may change: the widths and depths of the four stages, and how many of them are convolutional. All other fields
# stay as they are in the base.

# %%
plan = SearchPlan(
    base=archs.config("lale-s1"),
    free=("widths", "depths", "conv_stages"),
    objectives=("f1", "macs"),
    budget=BUDGET,
    trials=TRIALS,
    seed=0,
)
report = run_and_report(plan, SearchSetting(data=DATA, recipe=RECIPE, seeds=SEEDS, size=SIZE, out=OUT, name="search"))

# %%
print(report.table())
for sentence in report.findings:
    print(sentence)

# %% [markdown]
# Each member of the front is a config in a file. It can be built, trained for longer, measured and exported.

# %%
for path in sorted((report.folder / "front").glob("*.json")):
    network = archs.create(str(path), num_classes=10)
    print(f"{path}: {sum(p.numel() for p in network.parameters()):,} parameters")
