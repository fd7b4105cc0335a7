"""A class map of a scene of any size, in bounded memory.

Windows run through the network in batches, row after row. Of a row of windows all pixels above the blend with the next
row are final and are written; the blend's own, weighted, wait for that row. So memory holds one row of blends, one
strip of the map and three batches, whatever the height of the scene: beside the batch that runs, one thread reads the
next and another blends and writes the last. What is blended is logits, as nnU-Net does (Isensee et al., Nature Methods
2021); only probabilities, where they are wanted, cost a softmax.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped, UInt8
from torch import Tensor, nn

from bench.data.bands import Band
from bench.data.nodata import counts_by_band, filled, unseen
from bench.errors import BenchError
from bench.scenes.exported import ExportedNetwork
from bench.scenes.output import NO_DATA, Draft
from bench.scenes.source import Scene
from bench.scenes.windows import Grid, Span
from bench.speed.protocol import MEMORY_FORMATS, SpeedProtocol, tensor_cores
from bench.speed.quantise import calibration_batches
from bench.training.trained import TrainedNetwork

CALIBRATION_WINDOWS = 16
Place = tuple[int, int]
"""Row and column of a window in the grid."""


@dataclass(frozen=True)
class Timing:
    """What a map took.

    Attributes:
        seconds: from the first window's reading to the finished map.
        network_seconds: of it, in the network itself.
        processed: pixels that went through the network, overlaps and filling included.
        useful: pixels of the map that this run made.
    """

    seconds: float
    network_seconds: float
    processed: int
    useful: int


class WindowNetwork:
    """A trained network in a form, runtime and precision, for batches of windows of one size.

    The precision holds on a GPU too: PyTorch lets its convolutions round fp32 to tf32 unless told otherwise.

    Args:
        calibration: scaled images (n, c, height, width) of the training data, which int8 needs.
        model: what runs in place of `trained.build()`.

    Raises:
        BenchError: the runtime is not installed, or computes something else than the network does in fp32.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        side: tuple[int, int],
        protocol: SpeedProtocol,
        device: str | torch.device,
        calibration: Tensor | None = None,
        model: nn.Module | None = None,
    ) -> None:
        from bench.speed.runtimes import EXPORTED, ModelCache, input_type, prepare, refuse_other_output

        if isinstance(trained, ExportedNetwork):  # ONNX Runtime and OpenVINO run it, on the CPU
            protocol, device = trained.suited(protocol, side), "cpu"
        model = (model or trained.build()).to(device)
        image = _example(protocol.batch, len(trained.bands), side, calibration)
        # A copy of its own, in the layout that the runtime reads: what is written into it later must reach the runtime.
        layout = torch.contiguous_format if protocol.runtime in EXPORTED else MEMORY_FORMATS[protocol.memory_format]
        self._input = image.to(device, input_type(protocol)).clone(memory_format=layout)
        self.trained = trained
        self.batch, self.seconds, self.windows = protocol.batch, 0.0, 0
        self._precision = protocol.precision
        models = ModelCache()
        with torch.inference_mode(), tensor_cores("fp32"):
            expected = model(image.to(device))
            _require_logits(trained, expected, image)
        with torch.inference_mode(), tensor_cores(protocol.precision):
            ran = models.network(model, self._input, protocol)
            self._prepared = prepare(ran, self._input, protocol, models, calibration)
            refuse_other_output(trained.name, self._prepared.read(self._prepared.call()), expected, protocol)
            self._outputs = [torch.empty(expected.shape) for _ in range(2)]
        del model, ran, models
        _give_back_memory()

    @property
    def in_float(self) -> dict[str, int] | None:
        """Operators of an int8 network that stay in float, by type; None where the runtime does not tell."""
        return self._prepared.in_float

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Logits in float32 on the CPU, good until the call after the next one.

        A batch that is not full is filled up with what the last one left.
        """
        with torch.inference_mode():
            self._input[: len(images)].copy_(images)
            logits = self._prepared.read(self.run())
            self._outputs.reverse()
            return self._outputs[0].copy_(logits)[: len(images)]

    def run(self) -> Any:
        """The network alone, on what its input holds: the output as the runtime gives it."""
        start = time.perf_counter()
        with torch.inference_mode(), tensor_cores(self._precision):
            output = self._prepared.call()
        if self._input.is_cuda:
            torch.cuda.synchronize(self._input.device)
        self.seconds += time.perf_counter() - start
        self.windows += self.batch
        return output


def _give_back_memory() -> None:
    """Return what is freed to the system: preparing a network leaves tens of MiB that nobody holds."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _require_logits(trained: TrainedNetwork, found: Tensor, image: Tensor) -> None:
    wanted = (len(image), len(trained.names), *image.shape[2:])
    if tuple(found.shape) != wanted:
        raise BenchError(
            f"{trained.name} gives {' x '.join(map(str, found.shape))} numbers where its classes and the image ask for "
            f"{' x '.join(map(str, wanted))}: a class a pixel is needed"
        )


def _example(batch: int, bands: int, side: tuple[int, int], calibration: Tensor | None) -> Float[Tensor, "n c h w"]:
    """Images on which the outputs are compared: of the calibration where there are some, else noise, which int8 would
    cut off wherever it lies outside of what was calibrated."""
    if calibration is not None:
        return torch.from_numpy(calibration_batches(calibration, batch)[0])
    return torch.randn(batch, bands, *side, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class _Window:
    """A window of the scene: its pixels, None where it holds no data, and where it does."""

    place: Place
    pixels: Shaped[np.ndarray, "c h w"] | None
    valid: Bool[np.ndarray, "h w"]


def predict_scene(
    scene: Scene,
    network: WindowNetwork,
    tiling: Grid,
    drafts: Sequence[Draft],
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> Timing:
    """Write the class of every pixel into a draft that has colours, each class's probability into one that has none.

    Rows that all drafts hold already are not made again.

    Args:
        on_window: told of (windows done, windows in all), in a thread of its own.

    Raises:
        BenchError: logits that are not finite; a scene that cannot be read to its end.
    """
    first = _first_row(tiling.rows, drafts)
    done_before = min(draft.rows for draft in drafts)
    start = time.perf_counter()
    rows = _Rows(len(network.trained.names), tiling, drafts, first, on_window)
    try:
        with ThreadPoolExecutor(1) as blender:
            blended: Future[None] = blender.submit(lambda: None)
            for windows, logits in _predicted(scene, network, tiling, rows.begin):
                blended.result()
                blended = blender.submit(rows.add, windows, logits)
            blended.result()
    finally:
        for draft in drafts:
            draft.save()
    height, width = tiling.side
    return Timing(
        seconds=time.perf_counter() - start,
        network_seconds=network.seconds,
        processed=network.windows * height * width,
        useful=(scene.height - done_before) * scene.width,
    )


def sample_windows(scene: Scene, trained: TrainedNetwork, tiling: Grid) -> Float[Tensor, "n c h w"]:
    """Scaled windows that hold data, evenly spread over the scene: what int8 is calibrated on.

    Raises:
        BenchError: none of them holds data.
    """
    order = [(row, column) for row in range(len(tiling.rows)) for column in range(len(tiling.columns))]
    spread = np.linspace(0, len(order) - 1, min(CALIBRATION_WINDOWS, len(order))).round().astype(int)
    chosen = [order[i] for i in np.unique(spread)]
    left = [place for place in order if place not in set(chosen)]
    for start in range(0, len(order), CALIBRATION_WINDOWS):  # a mosaic may be empty at all that is spread evenly
        found = _read_batch(scene, trained, tiling, chosen)[1]
        if len(found):
            return found
        chosen = left[start : start + CALIBRATION_WINDOWS]
    raise BenchError(f"{scene.name} holds no data to calibrate int8 on: map it in fp32")


def _first_row(rows: Sequence[Span], drafts: Sequence[Draft]) -> int:
    """The first row of windows that is not written yet; drafts are set back to where it begins."""
    done = min(draft.rows for draft in drafts)
    first = sum(span.high - span.fall <= done for span in rows)
    for draft in drafts:
        draft.rows = rows[first].low if first < len(rows) else done
    return first


def _predicted(
    scene: Scene, network: WindowNetwork, tiling: Grid, first: int
) -> Iterator[tuple[list[_Window], Float32[np.ndarray, "n k h w"]]]:
    """Batches of windows in order, and the logits of those that hold data; the next batch is read meanwhile."""
    order = ((row, column) for row in range(first, len(tiling.rows)) for column in range(len(tiling.columns)))
    with ThreadPoolExecutor(1) as reader:
        due = reader.submit(_read_batch, scene, network.trained, tiling, list(islice(order, network.batch)))
        while (batch := due.result())[0]:
            due = reader.submit(_read_batch, scene, network.trained, tiling, list(islice(order, network.batch)))
            windows, images = batch
            yield windows, network(images).numpy() if len(images) else np.empty(0, np.float32)


def _read_batch(
    scene: Scene, trained: TrainedNetwork, tiling: Grid, places: list[Place]
) -> tuple[list[_Window], Float[Tensor, "n c h w"]]:
    """Windows, and the scaled pixels of those that hold data."""
    windows = [_read_window(scene, trained.bands, tiling, place) for place in places]
    found = [window.pixels for window in windows if window.pixels is not None]
    return windows, trained.scaled(np.stack(found)) if found else torch.empty(0)


def _read_window(scene: Scene, bands: Sequence[Band], tiling: Grid, place: Place) -> _Window:
    """One window; what of it lies beyond the scene is mirrored about the last pixels, as the networks pad images."""
    top, left = tiling.rows[place[0]].origin, tiling.columns[place[1]].origin
    height, width = min(tiling.side[0], scene.height - top), min(tiling.side[1], scene.width - left)
    try:
        valid = scene.valid(top, left, height, width)
        pixels = scene.read(top, left, height, width) if valid.any() else None
    except Exception as error:  # a reader raises whatever its format's library does
        raise BenchError(
            f"{scene.name} cannot be read at rows {top} to {top + height} ({str(error).splitlines()[0]}): it is damaged"
        ) from error
    if pixels is not None:
        pixels, valid = _observed(pixels, valid, bands)
    if pixels is not None and (height, width) != tiling.side:
        beyond = (0, 0), (0, tiling.side[0] - height), (0, tiling.side[1] - width)
        pixels = np.pad(pixels, beyond, mode="reflect")
    return _Window(place, pixels, valid)


def _observed(
    pixels: Shaped[np.ndarray, "c h w"], valid: Bool[np.ndarray, "h w"], bands: Sequence[Band]
) -> tuple[Shaped[np.ndarray, "c h w"] | None, Bool[np.ndarray, "h w"]]:
    """A window as the network is to see it, and where all bands hold data; no pixels where nothing does.

    Values without data are filled as in training. So is what the file's own mask hides, but in unsigned whole numbers,
    which training sees there as they are stored.
    """
    by_band = counts_by_band(pixels.dtype)
    image = pixels.transpose(1, 2, 0)
    if by_band:
        image = _as_trained(image)
    missing = unseen(image, bands)
    if missing is None and (valid.all() or not by_band):
        return pixels, valid
    hidden = np.broadcast_to(~valid[..., None], image.shape)
    gone = hidden if missing is None else missing | hidden
    seen = np.logical_not(gone.any(2))
    if not seen.any():
        return None, seen
    replaced = gone if missing is None or by_band else missing
    return np.where(replaced, filled(image, gone), image).transpose(2, 0, 1), seen


def _as_trained(image: Shaped[np.ndarray, "h w c"]) -> Float32[np.ndarray, "h w c"]:
    """All but unsigned whole numbers are trained on as float32; what that cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return image.astype(np.float32, copy=False)


class _Rows:
    """Blends windows and writes what is final; rows of windows before `first` are written already."""

    def __init__(
        self,
        classes: int,
        tiling: Grid,
        drafts: Sequence[Draft],
        first: int,
        on_window: Callable[[int, int], None],
    ) -> None:
        self._tiling, self._drafts, self._first, self._on_window = tiling, drafts, first, on_window
        self.begin = max(0, first - 1)  # the row above's part of the blend is computed anew
        self._classes = classes
        self._above = self._below = np.empty(0, np.float32)  # (k, blend, width): this row's part of the next blend
        self._left = self._above  # (k, rows, blend): the part of the window to the left
        self._strips: list[UInt8[np.ndarray, "r b w"]] = []

    def add(self, windows: list[_Window], logits: Float32[np.ndarray, "n k h w"]) -> None:
        """Take the next windows in order; the last one of a row writes the row's strip."""
        rest = iter(logits)
        for window in windows:
            row, column = window.place
            self._add(window, next(rest) if window.pixels is not None else None)
            self._on_window(row * len(self._tiling.columns) + column + 1, len(self._tiling))

    def _add(self, window: _Window, logits: Float32[np.ndarray, "k h w"] | None) -> None:
        row, column = window.place
        down, across = self._tiling.rows[row], self._tiling.columns[column]
        parts = self._weighted(logits, down, across)
        if across.rise:
            parts[:, :, : across.rise] += self._left
        inner, final = parts.shape[2] - across.fall, parts.shape[1] - down.fall
        self._left, parts = parts[:, :, inner:].copy(), parts[:, :, :inner]
        if column == 0:
            self._begin_row(down, final)
        columns = slice(across.low, across.low + inner)
        if down.rise and row > self.begin:
            parts[:, : down.rise] += self._above[:, :, columns]
        self._below[:, :, columns] = parts[:, final:]
        if row >= self._first:
            valid = window.valid[down.inside, across.inside][:final, :inner]
            self._keep(parts[:, :final], valid, columns)
            if column == len(self._tiling.columns) - 1:
                self._write()

    def _weighted(
        self, logits: Float32[np.ndarray, "k h w"] | None, down: Span, across: Span
    ) -> Float32[np.ndarray, "k r c"]:
        """Logits times the weight of the window, over the pixels that it answers for; they are written over."""
        if logits is None:
            return np.zeros((self._classes, down.high - down.low, across.high - across.low), np.float32)
        parts = logits[:, down.inside, across.inside]
        for span, lines in ((down, parts), (across, parts.transpose(0, 2, 1))):
            inner = lines.shape[1] - span.fall
            lines[:, : span.rise] *= span.weights[: span.rise, None]
            lines[:, inner:] *= span.weights[inner:, None]
        return parts

    def _begin_row(self, down: Span, final: int) -> None:
        width = self._tiling.columns[-1].high
        self._above, self._below = self._below, np.empty((self._classes, down.fall, width), np.float32)
        self._strips = [np.empty((final, draft.layer.bands, width), np.uint8) for draft in self._drafts]

    def _keep(self, parts: Float32[np.ndarray, "k r c"], valid: Bool[np.ndarray, "r c"], columns: slice) -> None:
        """Classes, probabilities, or both, of pixels whose logits are whole."""
        classes = np.where(valid, highest(parts), NO_DATA)
        for draft, strip in zip(self._drafts, self._strips, strict=True):
            strip[:, :, columns] = classes[:, None] if draft.layer.colours else _shares(parts, valid)

    def _write(self) -> None:
        for draft, strip in zip(self._drafts, self._strips, strict=True):
            draft.write(strip)


def _shares(logits: Float32[np.ndarray, "k r c"], valid: Bool[np.ndarray, "r c"]) -> UInt8[np.ndarray, "r k c"]:
    """The probability of each class as a byte, 255 for 1; 0 where there is no data."""
    shares = torch.from_numpy(logits).softmax(0).mul_(255).round_().to(torch.uint8).numpy()
    return (shares * valid).transpose(1, 0, 2)


def highest(logits: Float32[np.ndarray, "k r c"]) -> UInt8[np.ndarray, "r c"]:
    """Index of the largest along the first axis, the first of equals.

    It is what argmax gives, whose loops over an axis that is not the last take thirty times as long.

    Raises:
        BenchError: a logit is infinite or no number.
    """
    best = logits[0].copy()
    winner, above = np.zeros(best.shape, np.uint8), np.empty(best.shape, bool)
    for index, plane in enumerate(logits[1:], 1):
        np.greater(plane, best, out=above)
        np.maximum(best, plane, out=best)
        np.maximum(winner, above.view(np.uint8) * np.uint8(index), out=winner)
    if not np.isfinite(best.sum()):
        raise BenchError("the network gives logits that are not finite, so its map means nothing: train it again")
    return winner
