"""A network as an ONNX file, written only if it computes the same."""

import copy
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.records.atomic import draft_name

TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime's logits and torch's, as a share of the largest logit. In single precision
two orders of the same sums differ by about 1e-6; a wrong operator differs by far more than this."""
ROUNDING_MARGIN = 4
"""A network whose own rounding is larger (LeMoRe before it is trained: up to 2e-3 between single and double precision)
may differ by so many times that rounding."""
LARGEST_TOLERANCE = 1e-3
"""Allowed of no network more than this, as of the fp32 of any runtime."""
CHECKED_IMAGES = 2
METADATA = "lale-bench"
"""Entry of an ONNX file's metadata: classes, bands and what scales them, as JSON."""


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was checked.

    Attributes:
        path: the file.
        bytes: its size.
        difference: largest absolute difference of the logits from torch's, as a share of the largest logit.
        agreement: share of pixels that get the same class.
    """

    path: Path
    bytes: int
    difference: float
    agreement: float


def export_onnx(
    model: nn.Module,
    path: Path,
    size: tuple[int, int],
    batch: int = 1,
    *,
    in_channels: int = 3,
    reference: nn.Module | None = None,
    about: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a network as ONNX and run the file on random images: it exists afterwards only if it computes the same.

    The file takes `image` (batch, in_channels, H, W) in float32 and gives `logits` (batch, K, H, W), at this one batch
    and size, which is what runtimes optimise best.

    Args:
        model: on the CPU; left as it is, but for being put into evaluation mode.
        path: of the file, written whole or not at all.
        size: height and width.
        batch: images a call.
        in_channels: channels of an image.
        reference: the network whose output the file must give; `model` itself if None. For a deployed network give
            the one that was deployed, and the whole way is checked.
        about: what `config.json` says of classes and bands; it goes into the file's metadata, so that the file alone
            can be run on new land.

    Raises:
        BenchError: the extra `onnx` is not installed, the network cannot be exported, or the file computes something
            else (beyond `TOLERANCE`, or `ROUNDING_MARGIN` times the network's own rounding where that is more).
    """
    require_onnx()
    image = torch.randn(batch, in_channels, *size, generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(draft_name(path) + ".onnx")
    try:
        _write(model.eval(), image, draft)
        if about is not None:
            _describe(draft, about)
        wanted = (reference or model).eval()
        far, agreement = _compare(draft, wanted, batch, in_channels, size)
        allowed = TOLERANCE if far <= TOLERANCE else _allowed(wanted, batch, in_channels, size)
        if not far <= allowed:
            raise BenchError(
                f"the exported network is not the same: its logits differ by {far:.2g} of the largest one "
                f"(allowed: {allowed:.2g}) and {1 - agreement:.2%} of the pixels change class; nothing was written"
            )
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(path, path.stat().st_size, far, agreement)


def difference(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest wanted value; infinite for another shape, or what is no number."""
    if found.shape != wanted.shape:
        return float("inf")
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    largest = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
    return largest if largest == largest else float("inf")


def require_onnx() -> None:
    """Raise `BenchError` unless the packages of the extra `onnx` are installed."""
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise BenchError(f"ONNX needs {', '.join(missing)}, which is not installed: pip install 'lale-bench[onnx]'")


def _write(model: nn.Module, image: Tensor, path: Path) -> None:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own code
            torch.onnx.export(
                model,
                (image,),
                str(path),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["image"],
                output_names=["logits"],
            )
    except Exception as error:  # the exporter raises whatever its parts raise
        raise BenchError(f"the network cannot be exported to ONNX: {_reason(error)}") from error


def _describe(path: Path, about: Mapping[str, Any]) -> None:
    import onnx

    file = onnx.load(path)
    onnx.helper.set_model_props(file, {METADATA: json.dumps(about)})
    onnx.save(file, path)


def _reason(error: BaseException) -> str:
    """What went wrong at first, in one line: the exporter wraps it in advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _compare(path: Path, model: nn.Module, batch: int, in_channels: int, size: tuple[int, int]) -> tuple[float, float]:
    """Largest relative difference and share of equal classes, over images other than the one it was exported with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # two calls need no memory kept between them
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst, same = 0.0, []
    for image in _images(batch, in_channels, size):
        with torch.no_grad():
            wanted = model(image)
        found = torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])
        worst = max(worst, difference(found, wanted))
        if found.shape != wanted.shape:
            return worst, 0.0
        same.append(float((found.argmax(1) == wanted.argmax(1)).float().mean()))
    return worst, min(same)


def _allowed(model: nn.Module, batch: int, in_channels: int, size: tuple[int, int]) -> float:
    """What a file may differ by that keeps the network: some times its distance from itself in double precision."""
    try:
        exact = copy.deepcopy(model).double()
        with torch.no_grad():
            rounding = max(difference(model(x), exact(x.double())) for x in _images(batch, in_channels, size))
    except RuntimeError:  # it makes tensors of one precision by itself: its rounding is not known
        return TOLERANCE
    return min(max(TOLERANCE, ROUNDING_MARGIN * rounding), LARGEST_TOLERANCE)


def _images(batch: int, in_channels: int, size: tuple[int, int]) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(batch, in_channels, *size, generator=random) for _ in range(CHECKED_IMAGES)]
