"""Accuracy beside speed: a precision and fp32 on the same labelled tiles, and what the difference comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.engine import Cell, CellContext
from bench.errors import BenchError
from bench.records.identity import network_determinants, versions
from bench.scenes.accuracy_control import Restoration, macro_f1, network_within
from bench.scenes.evaluation import Evaluation, evaluate_network, evaluate_trained
from bench.speed.cells import RUNTIME_PACKAGES
from bench.speed.protocol import SpeedProtocol
from bench.stats import DELTA
from bench.stats.verdicts import known_verdict

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.training.trained import TrainedNetwork

NO_WEIGHTS = "no trained weights"
COLUMNS = ("fp32_f1", "precision_f1", "precision_verdict")
BATCH = 8


@dataclass(frozen=True)
class PrecisionScore:
    """Macro F1 of one network in fp32 and in another precision, on the same tiles.

    No chance is in the difference: weights and tiles are the same.

    Attributes:
        fp32: macro F1 as trained, in fp32, in 0..1.
        f1: in the other precision.
        delta: difference up to which the two count as equivalent.
        in_float: of an int8 network, how many operators of each type stay in float; None where it is not told.
        restoration: what accuracy control did, where it was asked for.
    """

    fp32: float
    f1: float
    delta: float = DELTA
    in_float: Mapping[str, int] | None = None
    restoration: Restoration | None = None

    @classmethod
    def of(
        cls, found: Evaluation, plain: Evaluation, delta: float = DELTA, restoration: Restoration | None = None
    ) -> PrecisionScore:
        """From the two evaluations."""
        return cls(macro_f1(plain.confusions), macro_f1(found.confusions), delta, found.in_float, restoration)

    @property
    def verdict(self) -> str:
        """Equivalent within delta, worse or better, on these tiles."""
        return known_verdict(self.f1 - self.fp32, self.delta)

    def columns(self) -> dict[str, Any]:
        """Its part of a table's row."""
        return dict(zip(COLUMNS, (self.fp32, self.f1, self.verdict), strict=True)) | self.in_floating_point()

    def in_floating_point(self) -> dict[str, Any]:
        """What an int8 network computes in float, as part of a row or report; empty for other precisions."""
        kept = {} if self.in_float is None else {"operators_in_float": dict(self.in_float)}
        return kept | ({} if self.restoration is None else {"accuracy_control": self.restoration.to_dict()})


def unscored(reason: str) -> dict[str, Any]:
    """The same part of a row without a score: the reason stands where the verdict would."""
    return dict(zip(COLUMNS, (None, None, reason), strict=True))


def score_precision(
    trained: TrainedNetwork,
    data: DataSet,
    protocol: SpeedProtocol,
    device: str,
    delta: float = DELTA,
    max_drop: float | None = None,
) -> PrecisionScore:
    """Score the test tiles in fp32 as trained, and in the protocol's form, runtime and precision.

    int8 is calibrated on the training tiles, and its loss on the validation tiles limited to `max_drop`, if that is
    given (see `network_within`).

    Raises:
        BenchError: the data have other bands or classes, or the runtime is missing or computes something else.
    """
    asked = replace(protocol, batch=min(BATCH, len(data["test"])))
    network, restoration = network_within(trained, data, asked, device, max_drop)
    plain = evaluate_trained(trained, data, SpeedProtocol(batch=asked.batch), device)
    return PrecisionScore.of(evaluate_network(network, data), plain, delta, restoration)


def accuracy_columns(
    trained: TrainedNetwork | None, data: DataSet, protocol: SpeedProtocol, device: str, delta: float = DELTA
) -> dict[str, Any]:
    """A row's accuracy, or why it has none; int8 may lose up to `delta` on the validation tiles."""
    if trained is None:
        return unscored(NO_WEIGHTS)
    try:
        return score_precision(trained, data, protocol, device, delta, delta).columns()
    except BenchError as error:
        return unscored(f"not scored: {error}")


def accuracy_cell(trained: TrainedNetwork, data: DataSet, protocol: SpeedProtocol, label: str, device: str) -> Cell:
    """`score_precision` as a cell of a study: macro F1 in fp32 and in the protocol's precision."""
    from bench.records.environment import device_kind

    how = {key: value for key in ("form", "runtime", "precision", "in_float") if (value := getattr(protocol, key))}
    determinants = {
        **network_determinants(trained.config, len(trained.names), len(trained.bands)),
        "weights": trained.digest,
        "data": data.fingerprint,
        **how,
        "device": device_kind(device),
        "versions": versions("torch", *RUNTIME_PACKAGES.get(protocol.runtime, ())),
    }
    return Cell("accuracy", label, determinants, partial(_scored, trained, data, protocol, device), about=how)


def _scored(
    trained: TrainedNetwork, data: DataSet, protocol: SpeedProtocol, device: str, context: CellContext
) -> Mapping[str, Any]:
    found = score_precision(trained, data, protocol, device)
    return {"fp32_f1": found.fp32, "f1": found.f1, "in_float": found.in_float, "tiles": len(data["test"])}
