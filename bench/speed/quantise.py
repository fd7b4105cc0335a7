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
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bench.errors import BenchError

IMAGES = 64
"""Calibration images, at most."""


def calibration_batches(images: Float[Tensor, "n c h w"] | None, batch: int) -> list[Float[np.ndarray, "b c h w"]]:
    """Calibration images in batches of the one size that the runtime takes.

    Raises:
        BenchError: there are none, or too few for a batch.
    """
    if images is None or len(images) < batch:
        given = 0 if images is None else len(images)
        raise BenchError(
            f"int8 is calibrated on images of the training data, at least {batch} of them, and {given} were given; "
            "`evaluate` takes the training tiles and `predict` windows of the scene"
        )
    images = images[:IMAGES]
    return [images[i : i + batch].numpy() for i in range(0, len(images) - batch + 1, batch)]


def quantise_openvino(model: Any, batches: list[Float[np.ndarray, "b c h w"]]) -> Any:
    """An OpenVINO model with int8 operators."""
    with _quiet():
        import nncf

        return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))


def quantise_onnx(network: bytes, batches: list[Float[np.ndarray, "b c h w"]]) -> bytes:
    """An ONNX file with pairs of quantise and dequantise operators, which ONNX Runtime runs in int8."""
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

        class Reader(CalibrationDataReader):
            rest = iter(batches)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self.rest, None)
                return None if batch is None else {"image": batch}

        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(network)
        quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
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
