# %% [markdown]
# # An ablation study
#
# *What does each change of LALE-S1 cost, and what does it bring?*
#
# Each network is trained with several seeds, and each change gets a verdict against the base. Open this file as a
# notebook in VS Code, PyCharm or Jupyter (with jupytext), or run it: `python examples/ablation.py`.

# %%
from dataclasses import replace
from pathlib import Path

from rich import print

import archs
from bench.study import Setting, Variant, VariantStudy, plan_study, run_study, write_report
from bench.training.recipe import recipe_named

# These settings take under a minute on one core and show how it works. For an answer, take your own tiles,
# recipe_named("standard") and five seeds.
DATA = "world:tile=32"  # or the path of a folder of tiles
RECIPE = replace(recipe_named("smoke"), steps=8)
SEEDS = (0, 1)
SIZE = (64, 64)  # of the images for which parameters and MACs are counted
OUT = Path("runs/examples")

# %% [markdown]
# A variant is a config, and a config is a frozen dataclass: a change is a field with another value.

# %%
base = archs.config("lale-s1")
study = VariantStudy(
    name="ablation",
    question="What do the norm and the activation of LALE-S1 bring?",
    variants=[
        Variant("lale-s1", base),
        Variant("layer norm", replace(base, norm="layernorm"), factor="norm"),
        Variant("GELU", replace(base, act="gelu"), factor="activation"),
    ],
    base="lale-s1",
    instruments=("static", "train"),  # "speed" times the networks as well
    figures=("ablation", "curves"),
)

# %% [markdown]
# The plan names every measurement. Running it measures what is not recorded yet, so that it can be stopped and run
# again at any time.

# %%
plan = plan_study(study, Setting(data=DATA, recipe=RECIPE, seeds=SEEDS, size=SIZE, out=OUT))
run_study(plan)

# %% [markdown]
# The report is made from the records alone. The frame has one row a variant, in raw units (counts, bytes, fractions).

# %%
report = write_report(plan.folder, DATA)
print(report.table())
for sentence in report.findings:
    print(sentence)

# %%
columns = ["variant", "params", "f1", "effect", "effect_low", "effect_high", "verdict"]
print(report.frame[columns].to_string(index=False))
print("figures:", *sorted(path.name for path in report.files if path.suffix == ".png"))
