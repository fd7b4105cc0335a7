"""Scores of a trained network on a data set, in any form, runtime and precision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from bench.data import DataSet
from bench.data.bands import takes_rgb
from bench.errors import BenchError
from bench.scenes.predict import WindowNetwork
from bench.speed.protocol import SpeedProtocol
from bench.training.metrics import boundary_confusion, confusion
from bench.training.trained import TrainedNetwork

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """How often a pixel's class is right, by the confidence that the network gives it (the largest probability).

    Attributes:
        pixels: labelled pixels in each of `BINS` equal bins of confidence.
        confidence: summed over the pixels of each bin.
        right: pixels of each bin whose class is right.
    """

    pixels: Int64[np.ndarray, " b"]
    confidence: Float[np.ndarray, " b"]
    right: Int64[np.ndarray, " b"]

    @property
    def error(self) -> float:
        """Expected calibration error in 0..1: mean over all pixels of |confidence - accuracy| of their bin.

        Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 5.
        """
        return float(np.abs(self.confidence - self.right).sum() / max(1, self.pixels.sum()))


@dataclass(frozen=True)
class Evaluation:
    """A network on a split, tile by tile.

    Attributes:
        confusions, boundaries: of each tile, rows truth, columns prediction; `boundaries` near the truth's edges only.
        reliability: over all tiles.
        scenes: of each tile.
        in_float: of an int8 network, how many operators of each type stay in float; None where it is not told.
    """

    confusions: Int64[np.ndarray, "n c c"]
    boundaries: Int64[np.ndarray, "n c c"]
    reliability: Reliability
    scenes: tuple[str, ...]
    in_float: dict[str, int] | None = None


def evaluate_trained(
    trained: TrainedNetwork,
    data: DataSet,
    protocol: SpeedProtocol,
    device: str | torch.device = "cpu",
    split: str = "test",
    calibration: Tensor | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score a network on the tiles of a split.

    Args:
        protocol: form, runtime, precision and batch.
        calibration: scaled images of the training data, of the tiles' size, which int8 needs.
        renamed: class of the network: class of the data, where their names differ.

    Raises:
        BenchError: other bands or classes than the network was trained on.
    """
    require_bands(trained, data)
    class_map(trained, data, renamed)
    return evaluate_network(WindowNetwork(trained, data.tile_size, protocol, device, calibration), data, split, renamed)


def evaluate_network(
    network: WindowNetwork, data: DataSet, split: str = "test", renamed: Mapping[str, str] | None = None
) -> Evaluation:
    """`evaluate_trained` of a network that is ready for the data's tiles."""
    trained, tiles = network.trained, data[split]
    labels = class_map(trained, data, renamed)
    whole, near, reliabilities = [], [], []
    for first in range(0, len(tiles), network.batch):
        images = tiles.images[first : first + network.batch].transpose(0, 3, 1, 2)
        truth = torch.from_numpy(np.ascontiguousarray(tiles.masks[first : first + network.batch]))
        shares = network(trained.scaled(images)).softmax(1)
        confidence, winner = shares.max(1)
        predicted = labels[winner]
        whole.append(confusion(predicted, truth, data.classes.num_classes, data.classes.ignore_index))
        near.append(boundary_confusion(predicted, truth, data.classes.num_classes, data.classes.ignore_index))
        reliabilities.append(_reliability(confidence, predicted, truth, data.classes.ignore_index))
    return Evaluation(np.concatenate(whole), np.concatenate(near), _sum(reliabilities), tiles.scenes, network.in_float)


def require_bands(trained: TrainedNetwork, data: DataSet) -> None:
    """Refuse a data set of other bands than the network's, and of other numbers than its 8-bit RGB."""
    kind = next(iter(data.splits.values())).images.dtype
    if takes_rgb(trained.bands) and kind != np.uint8:
        raise BenchError(
            f"{data.name} holds {kind} and {trained.name} was trained on 8-bit RGB: scale the tiles to 8 bits as those "
            "of the training were, or train on tiles like these"
        )
    names, own = ({band.name for band in bands} for bands in (data.bands, trained.bands))
    if names == own and [b.name for b in data.bands] != [b.name for b in trained.bands]:
        raise BenchError(
            f"{data.name} has the bands {', '.join(b.name for b in data.bands)} and {trained.name} takes "
            f"{', '.join(b.name for b in trained.bands)}: bring them into that order"
        )
    if data.in_channels != len(trained.bands):
        raise BenchError(
            f"{data.name} has {data.in_channels} bands and {trained.name} takes {len(trained.bands)}: give a data set "
            "with the bands of its training data"
        )


def class_map(trained: TrainedNetwork, data: DataSet, renamed: Mapping[str, str] | None) -> UInt8[Tensor, " k"]:
    """Of each class of the network, the index of the data set's class of that name.

    Several classes of the network may be one of the data's.

    Raises:
        BenchError: a name that the data set, or the network, does not have.
    """
    renamed = renamed or {}
    if unknown := sorted(set(renamed) - set(trained.names)):
        raise BenchError(f"{trained.name} has no class {unknown[0]!r}; it has {', '.join(trained.names)}")
    wanted = [renamed.get(name, name) for name in trained.names]
    missing = [name for name in wanted if name not in data.classes.names]
    if missing:
        raise BenchError(
            f"{data.name} has no class {missing[0]!r}; it has {', '.join(data.classes.names)}: say which of them a "
            "class of the network is, as --map NETWORK_CLASS=DATA_CLASS"
        )
    return torch.tensor([data.classes.names.index(name) for name in wanted], dtype=torch.uint8)


def _reliability(
    confidence: Float[Tensor, "n h w"],
    predicted: UInt8[Tensor, "n h w"],
    truth: UInt8[Tensor, "n h w"],
    ignore_index: int | None,
) -> Reliability:
    valid: Bool[Tensor, "n h w"] = (
        torch.ones_like(truth, dtype=torch.bool) if ignore_index is None else truth != ignore_index
    )
    level, right = confidence[valid].double(), (predicted == truth)[valid]
    bins = (level * BINS).long().clamp_(0, BINS - 1)
    return Reliability(
        torch.bincount(bins, minlength=BINS).numpy(),
        torch.bincount(bins, weights=level, minlength=BINS).numpy(),
        torch.bincount(bins[right], minlength=BINS).numpy(),
    )


def _sum(parts: Sequence[Reliability]) -> Reliability:
    columns = ("pixels", "confidence", "right")
    return Reliability(*(np.sum([getattr(part, column) for part in parts], axis=0) for column in columns))
