"""int8 within a loss that the user allows: operators that cost more on the validation tiles are put back into float.

Test tiles are not looked at: they score what the validation tiles decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from bench.scenes.evaluation import class_map, evaluate_network, require_bands
from bench.scenes.exported import ExportedNetwork
from bench.scenes.predict import WindowNetwork
from bench.speed.protocol import SpeedProtocol
from bench.speed.quantise import calibration_batches, calibration_images, operators_to_restore, read_openvino
from bench.training.metrics import confusion, scores

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.training.trained import TrainedNetwork

Batch = tuple[Float[np.ndarray, "b c h w"], UInt8[Tensor, "n h w"]]
"""Scaled images, the last repeated until there are as many as the runtime takes, and the truth of the first n."""


@dataclass(frozen=True)
class Restoration:
    """What accuracy control did to an int8 network. Scores are macro F1 in 0..1 on the validation tiles.

    Attributes:
        operators: that were put back into float, by the names of `bench.speed.quantise.read_openvino`; none where the
            plain quantisation loses no more than `max_drop`.
        max_drop: the loss that is allowed.
        tiles: validation tiles.
        fp32: as trained.
        plain: all in int8; None where the output was too far from that of fp32 to be scored.
        f1: with `operators` in float.
    """

    operators: tuple[str, ...]
    max_drop: float
    tiles: int
    fp32: float
    plain: float | None
    f1: float

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        plain = "refused" if self.plain is None else f"{100 * self.plain:.2f} %"
        said = f"macro F1 on {self.tiles} validation tiles: fp32 {100 * self.fp32:.2f} %, int8 {plain}"
        if not self.operators:
            return f"{said}; no operator was put back into float"
        return (
            f"{said}, with {len(self.operators)} operators put back into float {100 * self.f1:.2f} %: "
            f"{', '.join(self.operators)}"
        )


def network_within(
    trained: TrainedNetwork,
    data: DataSet,
    protocol: SpeedProtocol,
    device: str,
    max_drop: float | None,
    renamed: Mapping[str, str] | None = None,
) -> tuple[WindowNetwork, Restoration | None]:
    """A network for the data's tiles as the protocol asks, int8 calibrated on the training tiles.

    Args:
        max_drop: the most that macro F1 may fall on the validation tiles in OpenVINO's int8, in 0..1; operators that
            cost more stay in float. None, or another precision or runtime, leaves all as the protocol says.
        renamed: class of the network: class of the data, where their names differ.

    Raises:
        BenchError: the data have other bands or classes, or the runtime is missing or computes something else.
    """
    require_bands(trained, data)
    class_map(trained, data, renamed)
    calibration = calibration_images(data, trained.bands) if protocol.precision == "int8" else None
    if max_drop is None or not protocol.restores or protocol.in_float:
        return WindowNetwork(trained, data.tile_size, protocol, device, calibration), None
    return _within(trained, data, protocol, device, max_drop, renamed)


def macro_f1(confusions: Int64[np.ndarray, "n c c"]) -> float:
    """Of the matrices added up."""
    return scores(confusions.sum(0)).macro_f1


def _within(
    trained: TrainedNetwork,
    data: DataSet,
    protocol: SpeedProtocol,
    device: str,
    max_drop: float,
    renamed: Mapping[str, str] | None,
) -> tuple[WindowNetwork, Restoration]:
    from bench.speed.runtimes import OtherOutputError

    calibration = calibration_images(data, trained.bands)

    def prepared(how: SpeedProtocol) -> tuple[WindowNetwork, float]:
        network = WindowNetwork(trained, data.tile_size, how, device, calibration)
        return network, macro_f1(evaluate_network(network, data, "val", renamed).confusions)

    tiles, (_, fp32) = len(data["val"]), prepared(SpeedProtocol(batch=protocol.batch))
    try:
        network, plain = prepared(protocol)
        if fp32 - plain <= max_drop:
            return network, Restoration((), max_drop, tiles, fp32, plain, plain)
    except OtherOutputError:
        plain = None
    operators = _costly_operators(trained, data, protocol, max_drop, calibration, renamed)
    network, f1 = prepared(replace(protocol, in_float=operators))
    return network, Restoration(operators, max_drop, tiles, fp32, plain, f1)


def _costly_operators(
    trained: TrainedNetwork,
    data: DataSet,
    protocol: SpeedProtocol,
    max_drop: float,
    calibration: Float[Tensor, "n c h w"],
    renamed: Mapping[str, str] | None,
) -> tuple[str, ...]:
    from bench.speed.runtimes import ModelCache

    if isinstance(trained, ExportedNetwork):
        protocol = trained.suited(protocol, data.tile_size)
    labels = class_map(trained, data, renamed)
    batches, models = _validation_batches(trained, data, protocol.batch), ModelCache()

    def score(compiled: Any, items: Iterable[Batch]) -> tuple[float, list[float]]:
        found = []
        for images, truth in items:
            predicted = labels[torch.from_numpy(compiled(images)[0]).argmax(1)[: len(truth)]]
            found.append(confusion(predicted, truth, data.classes.num_classes, data.classes.ignore_index))
        return macro_f1(np.concatenate(found)), [macro_f1(one) for one in found]

    with torch.inference_mode():
        image = torch.from_numpy(batches[0][0])
        file = models.onnx(models.network(trained.build(), image, protocol), image)
    training = calibration_batches(calibration, protocol.batch)
    return operators_to_restore(read_openvino(file), training, batches, score, max_drop)


def _validation_batches(trained: TrainedNetwork, data: DataSet, batch: int) -> list[Batch]:
    """All validation tiles that have a label."""
    tiles = data["val"]
    labelled = np.flatnonzero((tiles.masks != data.classes.ignore_index).any((1, 2)))
    found = []
    for some in (labelled[first : first + batch] for first in range(0, len(labelled), batch)):
        images = tiles.images[np.pad(some, (0, batch - len(some)), mode="edge")].transpose(0, 3, 1, 2)
        found.append((trained.scaled(images).numpy(), torch.from_numpy(np.ascontiguousarray(tiles.masks[some]))))
    return found
