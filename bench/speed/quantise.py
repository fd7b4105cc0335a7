"""Post-training quantisation to int8, by the libraries of the runtimes: NNCF for OpenVINO, ONNX Runtime's own.

Weights and activations become 8-bit integers where the runtime has such operators; scales come from calibration images.
What stays in float is a property of the architecture: `float_operators` counts it. Accuracy is not checked here: an
int8 network is scored on labelled tiles (`bench.scenes.evaluation`), beside fp32.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
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


def calibration_images(
    data: DataSet, bands: Sequence[Band], size: tuple[int, int] | None = None
) -> Float[Tensor, "n c h w"]:
    """Scaled images of the training split, evenly spread over it.

    Args:
        bands: what scales them.
        size: (height, width) of an image, which is put together of neighbouring tiles and cut; None takes tiles.

    Raises:
        BenchError: the data have other bands.
    """
    tiles = data["train"].images
    if tiles.shape[-1] != len(bands):
        raise BenchError(f"{data.name} has {tiles.shape[-1]} bands and the network takes {len(bands)}: give other data")
    (height, width), (h, w) = size or data.tile_size, data.tile_size
    rows, columns = -(-height // h), -(-width // w)
    images = max(1, min(IMAGES, len(tiles) // (rows * columns)))
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


def quantise_openvino(model: Any, batches: list[Float[np.ndarray, "b c h w"]]) -> Any:
    """An OpenVINO model with int8 operators."""
    with _quiet():
        import nncf

        return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))


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
    loggers = [logging.getLogger(name) for name in ("nncf", "root", "onnxruntime")]
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
