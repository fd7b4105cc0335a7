"""A search problem that costs no training: quality by formula, through the real engine and records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from rich.console import Console

import archs
from bench.engine import Cell, CellFailed, run_cells
from bench.records import RecordStore
from bench.search.budget import Pricer
from bench.search.evaluate import Score, TrainingFailed

QUIET = Console(quiet=True)
S1 = archs.config("lale-s1")
ALL = tuple(S1.search_space().values)  # every field that can be searched


def points(space):
    """Any point of a space, for hypothesis."""
    return st.fixed_dictionaries({d.name: st.sampled_from(d.values).map(d.encode) for d in space.dimensions})


@dataclass
class FormulaEvaluator:
    """Scores a config by its widths and depths, and writes down each evaluation as a line of a file.

    `pause` runs in the middle of an evaluation; `fails` says which configs fail.
    """

    folder: Path
    pause: Callable[[], None] = lambda: None
    fails: Callable[[Any], bool] = lambda config: False
    milliseconds: Callable[[Any], float] = lambda config: sum(config.depths) * 1.0
    determinants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.price = Pricer((64, 64), num_classes=7)
        self.store = RecordStore(self.folder / "records")
        self.timed = []

    def latency_ms(self, config):
        self.timed.append(config)
        return self.milliseconds(config)

    def score(self, config, seed, label, progress):
        cell = Cell("formula", label, {"config": archs.to_dict(config), "seed": seed}, lambda _: self.measure(config))
        outcome = run_cells([cell], self.store, environment={}, console=QUIET)[0]
        if outcome.status == "failed":
            raise TrainingFailed(outcome.record.reason)
        return Score(outcome.record.result["f1"], cell.key, outcome.fresh)

    def measure(self, config):
        self.pause()
        if self.fails(config):
            raise CellFailed("the loss is not finite")
        f1 = 1 - 10 / (10 + sum(w**0.5 * d for w, d in zip(config.widths, config.depths, strict=True)))
        with (self.folder / "evaluations").open("a") as file:  # one write each, so that a kill leaves whole lines
            file.write(f"{archs.to_dict(config)}\n")
        return {"f1": f1 - 0.002 * abs(config.conv_stages - 2)}

    def evaluations(self):
        path = self.folder / "evaluations"
        return path.read_text().splitlines() if path.exists() else []
