"""What makes trainings converge, and repeat better, at equal cost? Each lever of the recipe alone, over six seeds.

Recipes are chosen by this study before networks are compared with them. A lever is judged by what it does to the test
score, to the deviation between seeds (which decides how many trainings a verdict needs), and to whether a training was
done when it ended. Four networks, so that no lever is chosen for one kind alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import stats

import archs
from bench.records import Record
from bench.report.columns import Column, Format, column
from bench.report.tables import write_tables
from bench.study import Layout, Report, Results, Setting
from bench.training.recipe import Recipe, gain_of_last_fifth, still_rising

NETWORKS = MappingProxyType(
    {
        "lale-s1": archs.config("lale-s1"),
        "norm=batchnorm": archs.config("lale-s1", norm="batchnorm"),
        "conv_stages=0": archs.config("lale-s1", conv_stages=0),
        "smp/linknet-mobilenet_v2": archs.config("smp/linknet-mobilenet_v2"),
    }
)
BASE = "raw weights"
LEVERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        BASE: {},
        "averaged weights": {"ema": 0.99},
        "initial weights by name": {"init": "name"},
        "last weights": {"select": "last"},
        "twice the steps": {"steps": 2},
        "half the learning rate": {"lr": 0.5},
        "twice the learning rate": {"lr": 2},
        "half the batch": {"batch": 0.5},
        "twice the batch": {"batch": 2},
        "four times the steps": {"steps": 4},
    }
)
"""Fields to set; of `steps`, `lr` and `batch` what they are multiplied by. The cheap and telling ones first."""
FIRST = 2  # levers whose seeds are trained before the others begin
VALIDATIONS = 10  # of every training, so that its end can be told from its middle


def pulled(recipe: Recipe, lever: str) -> Recipe:
    """The recipe without averaging, one lever pulled; all are validated equally often over their length."""
    changes = {"ema": None, "select": "best", "init": "order", **LEVERS[lever]}
    for field, factor in changes.items():
        if isinstance(factor, float | int) and field != "ema":
            value = getattr(recipe, field) * factor
            changes[field] = value if field == "lr" else round(value)
    steps = changes.get("steps", recipe.steps)
    return replace(recipe, **changes, eval_every=max(1, steps // VALIDATIONS))


def label_of(network: str, lever: str, seed: int) -> str:
    """What a training is called."""
    return f"{network} | {lever} | {seed}"


@dataclass(frozen=True)
class Pilot:
    """The study; `networks` and `levers` by their names in `NETWORKS` and `LEVERS`."""

    uses: ClassVar[tuple[str, ...]] = ("data", "recipe", "seeds")

    name: str = "pilot"
    question: str = "What makes trainings converge, and repeat better, at equal cost?"
    networks: tuple[str, ...] = tuple(NETWORKS)
    levers: tuple[str, ...] = tuple(LEVERS)

    def layout(self, setting: Setting) -> Layout:
        """The trainings, the most telling first: a pilot that is stopped has compared what it could."""
        from bench.data import open_data
        from bench.training.cells import train_cell

        data = open_data(setting.data)
        cells = {
            label_of(network, lever, seed): train_cell(
                NETWORKS[network], f"{network}, {lever}", data, pulled(setting.recipe, lever), seed, setting.device
            )
            for network, lever, seed in self._order(setting.seeds)
        }
        details = {"seeds": list(setting.seeds), "steps": setting.recipe.steps, "data": data.name}
        return Layout(cells, details=details)

    def _order(self, seeds: Sequence[int]) -> list[tuple[str, str, int]]:
        blocks = [self.levers[:FIRST], *((lever,) for lever in self.levers[FIRST:])]
        return [(n, lever, s) for block in blocks for n in self.networks for s in seeds for lever in block]

    def report(self, results: Results) -> Report:
        """One row a network and lever: score, deviation between seeds, difference to the base recipe."""
        details = results.manifest.details
        frame = pd.DataFrame(
            [self._row(results.records, details["seeds"], n, v) for n in self.networks for v in self.levers]
        )
        caption = (
            f"Macro F1 on the test tiles of {details['data']}; the base recipe has {details['steps']} steps, "
            f"a training {VALIDATIONS} validations. Differences are paired by seed, with 95 % intervals of t, not "
            "adjusted for their number."
        )
        files = write_tables(frame, COLUMNS, results.folder / "table", caption)
        return Report(results.folder, frame, COLUMNS, caption, files, _sentences(frame, len(details["seeds"])))

    def _row(self, records: Mapping[str, Record], seeds: Sequence[int], network: str, lever: str) -> dict[str, Any]:
        found = {seed: records.get(label_of(network, lever, seed)) for seed in seeds}
        own = {seed: record.result for seed, record in found.items() if record is not None and record.status == "ok"}
        failed = [record.reason for record in found.values() if record is not None and record.status == "failed"]
        row: dict[str, Any] = dict.fromkeys(column.key for column in COLUMNS)
        row |= {"network": network, "lever": lever, "trained": len(own), "cost": _cost(lever)}
        if not own:
            status = (
                {"status": "failed", "reason": failed[0]} if failed else {"status": "missing", "reason": "not run yet"}
            )
            return row | status
        base = {seed: records.get(label_of(network, BASE, seed)) for seed in own}
        pairs = [(own[s], r.result) for s, r in base.items() if r is not None and r.status == "ok" and lever != BASE]
        return row | _figures(list(own.values())) | _difference([_test_f1(a) - _test_f1(b) for a, b in pairs])


def _cost(lever: str) -> float:
    """Tiles seen in training, as a multiple of those of the base recipe."""
    return float(LEVERS[lever].get("steps", 1) * LEVERS[lever].get("batch", 1))


def _test_f1(result: Mapping[str, Any]) -> float:
    return result["test_scores"]["macro_f1"]


def _figures(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    tested = [_test_f1(result) for result in results]
    return {
        "f1": float(np.mean(tested)),
        "deviation": float(np.std(tested, ddof=1)) if len(tested) > 1 else float("nan"),
        "rising": float(np.mean([still_rising(result["history"]) for result in results])),
        "last_fifth": float(np.mean([gain_of_last_fifth(result["history"]) for result in results])),
    }


def _difference(differences: Sequence[float]) -> dict[str, float]:
    """The mean of paired differences, with its interval from two pairs on."""
    if not differences:
        return {}
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return {"difference": mean}
    error = float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    reach = error * float(stats.t.ppf(0.975, len(differences) - 1))
    return {"difference": mean, "low": mean - reach, "high": mean + reach}


COLUMNS = [
    Column("network", "Network"),
    Column("lever", "Lever"),
    Column("trained", "Trainings", "count"),
    Column("f1", "Macro F1", "percent", "high"),
    Column("difference", "Difference", "points", None, "low", "high"),
    Column("deviation", "Deviation between seeds", Format("z.2f", 100.0, "points"), "low"),
    Column("last_fifth", "Last fifth brings", Format("z.2f", 100.0, "points"), "low"),
    column("rising"),
    Column("cost", "Tiles seen", Format("z.1f", 1.0, "times those of the base"), "low"),
]


def _sentences(frame: pd.DataFrame, seeds: int) -> list[str]:
    missing = seeds * len(frame) - int(frame["trained"].sum())
    said, found = [f"{missing} of {seeds * len(frame)} trainings are missing."] if missing else [], []
    for row in frame.to_dict("records"):
        low, high = row.get("low", float("nan")), row.get("high", float("nan"))
        if low > 0 or high < 0:
            found.append(
                f"{row['network']}: {row['lever']} brings {100 * row['difference']:+.1f} points "
                f"[{100 * low:+.1f}, {100 * high:+.1f}] over {row['trained']} seeds."
            )
    return said + (found or ["No lever makes a difference that these trainings can tell."])


STUDY = Pilot()
