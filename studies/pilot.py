"""What makes trainings converge, and repeat better, at equal cost? Each lever of the recipe alone, over six seeds.

Recipes are chosen by this study before networks are compared with them. A lever is judged by what it does to the test
score, to the deviation between seeds (which decides how many trainings a verdict needs), and to whether a training was
done when it ended. Four networks, so that no lever is chosen for one kind alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import archs
from bench.training.recipe import Recipe

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.engine import Cell

NETWORKS = MappingProxyType(
    {
        "lale-s1": archs.config("lale-s1"),
        "norm=batchnorm": archs.config("lale-s1", norm="batchnorm"),
        "conv_stages=0": archs.config("lale-s1", conv_stages=0),
        "smp/linknet-mobilenet_v2": archs.config("smp/linknet-mobilenet_v2"),
    }
)
AS_IT_IS = "as it is"
LEVERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        AS_IT_IS: {},
        "averaged weights": {"ema": 0.99},
        "initial weights by name": {"init": "name"},
        "last weights": {"select": "last"},
        "twice the steps": {"steps": 2},
        "half the learning rate": {"lr": 0.5},
        "twice the learning rate": {"lr": 2},
        "half the batch": {"batch": 0.5},
        "four times the steps": {"steps": 4},
        "twice the batch": {"batch": 2},
    }
)
"""Fields to set; of `steps`, `lr` and `batch` what they are multiplied by. The cheap and telling ones first."""
FIRST = 4  # levers whose seeds are trained before the others begin
VALIDATIONS = 10  # of every training, so that its end can be told from its middle


def pulled(recipe: Recipe, lever: str) -> Recipe:
    """The recipe with one lever pulled; all recipes are validated equally often over their length."""
    changes = dict(LEVERS[lever])
    for field, factor in changes.items():
        if isinstance(factor, float | int) and field != "ema":
            value = getattr(recipe, field) * factor
            changes[field] = value if field == "lr" else round(value)
    steps = changes.get("steps", recipe.steps)
    return replace(recipe, **changes, eval_every=max(1, steps // VALIDATIONS))


def pilot_cells(data: DataSet, recipe: Recipe, seeds: Sequence[int], device: str) -> dict[str, Cell]:
    """The trainings by network, lever and seed, the most telling first: where it is stopped, it has compared what it
    could."""
    from bench.training.cells import train_cell

    levers = list(LEVERS)
    order = [
        (network, lever, seed)
        for network in NETWORKS
        for block in (levers[:FIRST], *([lever] for lever in levers[FIRST:]))
        for seed in seeds
        for lever in block
    ]
    return {
        f"{network}, {lever}, seed {seed}": train_cell(
            NETWORKS[network], f"{network}, {lever}", data, pulled(recipe, lever), seed, device
        )
        for network, lever, seed in order
    }
