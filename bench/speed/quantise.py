"""Post-training quantisation to int8, by the libraries of the runtimes: NNCF for OpenVINO, ONNX Runtime's own.

Weights and activations become 8-bit integers where the runtime has such operators; scales come from calibration images.
What stays in float is a property of the architecture: `float_operators` counts it. Operators that cost accuracy can be
put back into float (`operators_to_restore`); the score itself is the caller's (`bench.scenes.accuracy`).
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bench.data.bands import scaled
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.data.bands import Band

IMAGES = 64
"""Calibration images, at most."""
TIMED_IMAGES = 8
"""Calibration images, at most, of a network that is timed and not scored: more images move scales, not operators, and
each is a run that reads every activation."""


def calibration_images(
    data: DataSet, bands: Sequence[Band], size: tuple[int, int] | None = None, most: int = IMAGES
) -> Float[Tensor, "n c h w"]:
    """Scaled images of the training split, evenly spread over it.

    Args:
        bands: what scales them.
        size: (height, width) of an image, which is put together of neighbouring tiles and cut; None takes tiles.
        most: images.

    Raises:
        BenchError: the data have other bands.
    """
    tiles = data["train"].images
    if tiles.shape[-1] != len(bands):
        raise BenchError(f"{data.name} has {tiles.shape[-1]} bands and the network takes {len(bands)}: give other data")
    (height, width), (h, w) = size or data.tile_size, data.tile_size
    rows, columns = -(-height // h), -(-width // w)
    images = max(1, min(most, len(tiles) // (rows * columns)))
    chosen = np.linspace(0, len(tiles) - 1, images * rows * columns).round().astype(int)
    grid = tiles[chosen].reshape(images, rows, columns, h, w, -1).transpose(0, 5, 1, 3, 2, 4)
    whole = grid.reshape(images, -1, rows * h, columns * w)[:, :, :height, :width]
    return torch.from_numpy(np.ascontiguousarray(scaled(whole, bands)))


def calibration_batches(images: Float[Tensor, "n c h w"] | None, batch: int) -> list[Float[np.ndarray, "b c h w"]]:
    """Calibration images in batches of the one size that the runtime takes; too few for one are repeated.

    Raises:
        BenchError: there are none.
    """
    if images is None or not len(images):
        raise BenchError("int8 is calibrated on images of the training data, and none were given")
    images = images.repeat(-(-batch // len(images)), 1, 1, 1)[: max(batch, IMAGES)]
    return [images[i : i + batch].numpy() for i in range(0, len(images) - batch + 1, batch)]


def read_openvino(file: bytes) -> Any:
    """An ONNX file as a model of OpenVINO.

    An operator is named after its type and its rank in the order of computation (`Convolution_12`): the reader's own
    names count on from model to model, and the same operator must be found at any batch and size.
    """
    import openvino

    model = openvino.Core().read_model(file, b"")
    seen: Counter[str] = Counter()
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        operator.set_friendly_name(f"{kind}_{seen[kind]}")
        seen[kind] += 1
    return model


def quantise_openvino(model: Any, batches: list[Float[np.ndarray, "b c h w"]], in_float: Sequence[str] = ()) -> Any:
    """A model of `read_openvino` with int8 operators, but for those named in `in_float`.

    Raises:
        BenchError: the model has no operator of such a name.
    """
    if unknown := sorted(set(in_float) - {operator.get_friendly_name() for operator in model.get_ops()}):
        raise BenchError(f"the network has no operator {unknown[0]} at this size and batch, so it cannot stay in float")
    with _quiet():
        import nncf

        kept = nncf.IgnoredScope(names=list(in_float)) if in_float else None
        return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches), ignored_scope=kept)


Score = Callable[[Any, Any], tuple[float, list[float]]]


def operators_to_restore(
    model: Any, batches: list[Float[np.ndarray, "b c h w"]], validation: Sequence[Any], score: Score, max_drop: float
) -> tuple[str, ...]:
    """Operators of a model of `read_openvino` that must stay in float so that int8 loses no more than `max_drop`.

    NNCF's accuracy control: groups of operators are ranked by the score that the network has with this one in float;
    then one after the other goes back until the loss is small enough.

    Args:
        validation: labelled items.
        score: of a compiled model and some of the items, the score of them together and of each.

    Returns:
        Their names; none where the plain quantisation loses no more.
    """
    with _quiet():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters as Restorer

        controlled = nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset(batches),
            nncf.Dataset(validation),
            score,
            max_drop=max_drop,
            subset_size=len(batches),
            advanced_accuracy_restorer_parameters=Restorer(ranking_subset_size=len(validation)),
        )
    kept = {operator.get_friendly_name() for operator in _quantisers(controlled)}
    plain = quantise_openvino(model, batches)  # kept by name: its operators do not keep it alive
    removed = [one for one in _quantisers(plain) if one.get_friendly_name() not in kept]
    return tuple(sorted({name for quantiser in removed for name in _computing_on(quantiser)}))


MOVING = frozenset(
    ("Broadcast", "Concat", "DepthToSpace", "Gather", "MaxPool", "Pad", "Reshape", "ShuffleChannels", "Slice",
     "SpaceToDepth", "Split", "Squeeze", "StridedSlice", "Tile", "Transpose", "Unsqueeze", "VariadicSplit")
)  # fmt: skip
"""Operators that compute nothing anew: they work on bytes as they are."""


def _quantisers(model: Any) -> list[Any]:
    return [operator for operator in model.get_ordered_ops() if operator.get_type_name() == "FakeQuantize"]


def _computing_on(operator: Any) -> Iterator[str]:
    """Names of the operators that compute on its output."""
    for output in operator.outputs():
        for reader in (target.get_node() for target in output.get_target_inputs()):
            if reader.get_type_name() in MOVING:
                yield from _computing_on(reader)
            elif reader.get_type_name() not in ("FakeQuantize", "Result"):
                yield reader.get_friendly_name()


def quantise_onnx(network: bytes, batches: list[Float[np.ndarray, "b c h w"]]) -> bytes:
    """An ONNX file with pairs of quantise and dequantise operators, which ONNX Runtime runs in int8."""
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Reader(CalibrationDataReader):
            rest = iter(batches)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self.rest, None)
                return None if batch is None else {"image": batch}

        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(network)
        # Unsigned activations: with signed ones ONNX Runtime leaves half of the convolutions, and sums, in float.
        unsigned = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **unsigned)
        return target.read_bytes()


def float_operators(compiled: Any) -> dict[str, int]:
    """Of a compiled OpenVINO model, how many operators of each type run in floating point, constants left out."""
    kinds: Counter[str] = Counter()
    for operator in compiled.get_runtime_model().get_ops():
        about = operator.get_rt_info()
        kind, precision = (about[key].astype(str) for key in ("layerType", "runtimePrecision"))
        if kind not in ("Input", "Output", "Const", "Constant") and precision.startswith(("f", "bf")):
            kinds[kind] += 1
    return dict(kinds.most_common())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' own progress and notes."""
    loggers = [logging.getLogger(name) for name in ("nncf", "root", "onnxruntime", "torch.utils.cpp_extension")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
