"""What a trial's objectives are measured by: a training on train and validation tiles, answered from records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from bench.search.budget import Cost
from bench.search.pricing import Pricer

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.engine import Cell, Outcome
    from bench.records import RecordStore
    from bench.training.recipe import Recipe

Progress = Callable[[int, int, str], None]


class TrainingFailed(Exception):
    """The training of a config failed (turned non-finite, say), and is recorded so; the search goes on."""


@dataclass(frozen=True)
class Score:
    """Macro F1 on the validation tiles, the key of the training's record, whether it was trained just now."""

    f1: float
    key: str
    fresh: bool


class Evaluator(Protocol):
    """What a search needs to know about configs.

    `determinants`: everything but the config on which its answers depend, as JSON; part of the search's identity.
    """

    @property
    def determinants(self) -> Mapping[str, Any]: ...

    def price(self, config: Any) -> Cost:
        """The static cost, exact, at the search's input size."""

    def latency_ms(self, config: Any) -> float:
        """Median milliseconds of one image on the search's device."""

    def score(self, config: Any, seed: int, label: str, progress: Progress) -> Score:
        """Train and validate; raises TrainingFailed."""


@dataclass(frozen=True)
class TrainingEvaluator:
    """Trains for real, through the records: what was trained or timed once is never trained or timed again.

    Attributes:
        data: train and validation tiles are seen, test tiles never.
        recipe: of every training.
        store: where records are looked up and written.
        device: "cpu" or "cuda".
    """

    data: DataSet
    recipe: Recipe
    store: RecordStore
    device: str = "cpu"
    pricer: Pricer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pricer = Pricer(tuple(self.data.tile_size), self.data.classes.num_classes)
        object.__setattr__(self, "pricer", pricer)

    @property
    def determinants(self) -> Mapping[str, Any]:
        """Data, recipe and device."""
        from bench.environment import device_kind

        return {
            "data": self.data.fingerprint,
            "recipe": self.recipe.to_dict(),
            "device": device_kind(self.device),
        }

    def price(self, config: Any) -> Cost:
        """The static cost at the size of a whole tile."""
        return self.pricer(config)

    def latency_ms(self, config: Any) -> float:
        """Median milliseconds of one tile, eager, single precision; infinite if it cannot be run."""
        from bench.cells import speed_cell
        from bench.search.space import config_key
        from bench.speed import SpeedProtocol

        label = config_key(config)
        size = tuple(self.data.tile_size)
        cell = speed_cell({label: config}, size, self.data.classes.num_classes, SpeedProtocol(batch=1), self.device)
        outcome = self._run(cell, lambda done, total, note: None)
        if outcome.status == "failed":
            return float("inf")
        return outcome.record.result[label]["latency_ms"]["p50"]

    def score(self, config: Any, seed: int, label: str, progress: Progress) -> Score:
        """One training on the train tiles, scored on the validation tiles by the best weights of the run."""
        from bench.cells import train_cell

        cell = train_cell(config, label, self.data, self.recipe, seed, self.device, test=False)
        outcome = self._run(cell, progress)
        if outcome.status == "failed":
            raise TrainingFailed(outcome.record.reason)
        return Score(outcome.record.result["val_scores"]["macro_f1"], cell.key, outcome.fresh)

    def _run(self, cell: Cell, progress: Progress) -> Outcome:
        from bench.engine import run_cells
        from bench.environment import environment

        shown = replace(cell, run=lambda context: cell.run(replace(context, progress=progress)))
        quiet = Console(quiet=True)
        return run_cells([shown], self.store, environment=environment(self.device), console=quiet)[0]
