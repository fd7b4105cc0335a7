"""What a trial's objectives are measured by: a training on train and validation tiles, answered from records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from bench.search.budget import Pricer, StaticCost
from bench.speed.protocol import SpeedProtocol

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.engine import Cell, Outcome
    from bench.engine.cells import Progress
    from bench.records import RecordStore
    from bench.training.recipe import Recipe


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

    def price(self, config: Any) -> StaticCost:
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
        size: height and width of the image at which MACs and latency are taken.
        protocol: how latency is measured: form, runtime and precision; int8 is calibrated on the training tiles.
    """

    data: DataSet
    recipe: Recipe
    store: RecordStore
    device: str = "cpu"
    size: tuple[int, int] = (256, 256)
    protocol: SpeedProtocol = field(default_factory=SpeedProtocol)

    @cached_property
    def price(self) -> Pricer:
        """The static cost of a config at the search's size, for as many bands as the data have."""
        return Pricer(self.size, self.data.classes.num_classes, self.data.in_channels)

    @property
    def determinants(self) -> Mapping[str, Any]:
        """Data, recipe, size, device and how latency is measured."""
        from bench.records.environment import device_kind
        from bench.records.identity import changed_fields

        return {
            "data": self.data.fingerprint,
            "recipe": changed_fields(self.recipe),
            "size": self.size,
            "device": device_kind(self.device),
            "runtime": self.protocol.runtime,
            **{name: value for name, value in changed_fields(self.protocol).items() if name != "runtime"},
        }

    def latency_ms(self, config: Any) -> float:
        """Median milliseconds of one image by the protocol; infinite if the network cannot be run."""
        from bench.search.space import config_key
        from bench.speed.cells import speed_cell

        label = config_key(config)
        classes, bands = self.data.classes.num_classes, self.data.in_channels
        cell = speed_cell({label: config}, self.size, classes, self.protocol, self.device, bands, tiles=self.data)
        speed = self._run(cell, lambda done, total, note: None).record.result.get("speeds", {}).get(label)
        return speed["latency_ms"] if speed else float("inf")

    def score(self, config: Any, seed: int, label: str, progress: Progress) -> Score:
        """One training on the train tiles, scored on the validation tiles by the best weights of the run."""
        from bench.training.cells import train_cell

        cell = train_cell(config, label, self.data, self.recipe, seed, self.device, test=False)
        outcome = self._run(cell, progress)
        if outcome.status == "failed":
            raise TrainingFailed(outcome.record.reason)
        return Score(outcome.record.result["val_scores"]["macro_f1"], cell.key, outcome.fresh)

    def _run(self, cell: Cell, progress: Progress) -> Outcome:
        from bench.engine import run_cells
        from bench.records.environment import environment

        shown = replace(cell, run=lambda context: cell.run(replace(context, progress=progress)))
        quiet = Console(quiet=True)
        return run_cells([shown], self.store, environment=environment(self.device), console=quiet)[0]
