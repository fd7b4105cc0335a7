"""A class map of a scene of any size, in bounded memory.

Windows run through the network in batches, row after row. Of a row of windows all pixels above the blend with the next
row are final and are written; the blend's own, weighted, wait for that row. So memory holds one row of blends, one
strip of the map and two batches, whatever the height of the scene.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench.errors import BenchError
from bench.scenes.exported import ExportedNetwork
from bench.scenes.output import NO_DATA, Draft
from bench.scenes.source import Scene
from bench.scenes.windows import Grid, Span
from bench.speed.protocol import MEMORY_FORMATS, SpeedProtocol
from bench.training.trained import TrainedNetwork

CALIBRATION_WINDOWS = 16
Windows = list[tuple[int, int]]
"""Row and column in the grid."""


@dataclass(frozen=True)
class Timing:
    """What a map took.

    Attributes:
        seconds: from the first window's reading to the last row's writing.
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

    Args:
        calibration: scaled images (n, c, height, width) of the training data, which int8 needs.

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
    ) -> None:
        from bench.speed.runtimes import ModelCache, input_type, prepare, refuse_other_output

        if isinstance(trained, ExportedNetwork):
            protocol = trained.suited(protocol, side)
        model = trained.build().to(device)
        image = _example(protocol.batch, len(trained.bands), side, calibration)
        # A copy of its own, in the layout that the runtime reads: what is written into it later must reach the runtime.
        layout = MEMORY_FORMATS[protocol.memory_format]
        self._input = image.to(device, input_type(protocol)).clone(memory_format=layout)
        self.trained = trained
        self.batch, self.seconds, self.windows = protocol.batch, 0.0, 0
        models = ModelCache()
        with torch.inference_mode():
            expected = model(image.to(device))
            _require_logits(trained, expected, image)
            ran = models.network(model, self._input, protocol)
            self._prepared = prepare(ran, self._input, protocol, models, calibration)
            refuse_other_output(trained.name, self._prepared.read(self._prepared.call()), expected, protocol)

    @property
    def in_float(self) -> dict[str, int] | None:
        """Operators of an int8 network that stay in float, by type; None where the runtime does not tell."""
        return self._prepared.in_float

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Logits in float32 on the CPU; a batch that is not full is filled up with what the last one left."""
        start = time.perf_counter()
        with torch.inference_mode():
            self._input[: len(images)].copy_(images)
            logits = self._prepared.read(self._prepared.call())[: len(images)].float().cpu()
        self.seconds += time.perf_counter() - start
        self.windows += self.batch
        return logits


def _require_logits(trained: TrainedNetwork, found: Tensor, image: Tensor) -> None:
    wanted = (len(image), len(trained.names), *image.shape[2:])
    if tuple(found.shape) != wanted:
        raise BenchError(
            f"{trained.name} gives {' x '.join(map(str, found.shape))} numbers where its classes and the image ask for "
            f"{' x '.join(map(str, wanted))}: a class a pixel is needed"
        )


def _example(batch: int, bands: int, side: tuple[int, int], calibration: Tensor | None) -> Float[Tensor, "n c h w"]:
    """Images on which the outputs are compared: of the calibration where there are some, else noise."""
    if calibration is not None and len(calibration) >= batch:
        return calibration[:batch]
    return torch.randn(batch, bands, *side, generator=torch.Generator().manual_seed(0))


def predict_scene(
    scene: Scene,
    network: WindowNetwork,
    tiling: Grid,
    classes: Draft,
    probabilities: Draft | None = None,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> Timing:
    """Write the class of every pixel into `classes`, and each class's probability, if wanted.

    Rows that the drafts hold already are not made again.

    Args:
        on_window: told of (windows done, windows in all).

    Raises:
        BenchError: logits that are not finite; a scene that cannot be read to its end.
    """
    drafts = [draft for draft in (classes, probabilities) if draft is not None]
    first = _first_row(tiling.rows, drafts)
    done_before = drafts[0].rows
    start = time.perf_counter()
    rows = _Rows(scene, tiling, drafts)
    before = len(tiling.columns) * max(0, first - 1)
    for count, ((row, column), logits) in enumerate(_predicted(scene, network, tiling, max(0, first - 1)), 1):
        rows.add(row, column, logits, write=row >= first)
        on_window(before + count, len(tiling))
    height, width = tiling.side
    return Timing(
        seconds=time.perf_counter() - start,
        network_seconds=network.seconds,
        processed=network.windows * height * width,
        useful=(scene.height - done_before) * scene.width,
    )


def sample_windows(scene: Scene, trained: TrainedNetwork, tiling: Grid) -> Float[Tensor, "n c h w"]:
    """Scaled windows that hold data, evenly spread over the scene: what int8 is calibrated on."""
    order = [(row, column) for row in range(len(tiling.rows)) for column in range(len(tiling.columns))]
    chosen = np.unique(np.linspace(0, len(order) - 1, min(CALIBRATION_WINDOWS, len(order))).round().astype(int))
    return _read_batch(scene, trained, tiling, [order[i] for i in chosen])[1]


def _first_row(rows: Sequence[Span], drafts: Sequence[Draft]) -> int:
    """The first row of windows that is not written yet; drafts are set back to where it begins."""
    done = min(draft.rows for draft in drafts)
    first = sum(span.high - span.fall <= done for span in rows)
    for draft in drafts:
        draft.rows = rows[first].low if first < len(rows) else done
    return first


def _predicted(
    scene: Scene, network: WindowNetwork, tiling: Grid, first: int
) -> Iterator[tuple[tuple[int, int], Tensor | None]]:
    """Windows in order with their logits (k, h, w), None where there is no data; the next batch is read meanwhile."""
    order = ((row, column) for row in range(first, len(tiling.rows)) for column in range(len(tiling.columns)))
    with ThreadPoolExecutor(1) as reader:
        due = reader.submit(_read_batch, scene, network.trained, tiling, list(islice(order, network.batch)))
        while (batch := due.result())[0]:
            due = reader.submit(_read_batch, scene, network.trained, tiling, list(islice(order, network.batch)))
            windows, images, held = batch
            logits = iter(network(images)) if len(images) else iter(())
            for window, holds in zip(windows, held, strict=True):
                yield window, next(logits) if holds else None


def _read_batch(
    scene: Scene, trained: TrainedNetwork, tiling: Grid, windows: Windows
) -> tuple[Windows, Tensor, list[bool]]:
    """The pixels of the windows that hold data, scaled, and which those are."""
    found, held = [], []
    for row, column in windows:
        pixels = _read_window(scene, tiling, row, column)
        held.append(pixels is not None)
        found += [] if pixels is None else [pixels]
    images = trained.scaled(np.stack(found)) if found else torch.empty(0)
    return windows, images, held


def _read_window(scene: Scene, tiling: Grid, row: int, column: int) -> Shaped[np.ndarray, "c h w"] | None:
    """One window; what of it lies beyond the scene is mirrored about the last pixels, as the networks pad images."""
    top, left = tiling.rows[row].origin, tiling.columns[column].origin
    height, width = min(tiling.side[0], scene.height - top), min(tiling.side[1], scene.width - left)
    if not scene.valid(top, left, height, width).any():
        return None
    try:
        pixels = scene.read(top, left, height, width)
    except Exception as error:  # a reader raises whatever its format's library does
        raise BenchError(
            f"{scene.name} cannot be read at rows {top} to {top + height} ({str(error).splitlines()[0]}): it is damaged"
        ) from error
    beyond = (0, 0), (0, tiling.side[0] - height), (0, tiling.side[1] - width)
    return np.pad(pixels, beyond, mode="reflect") if (height, width) != tiling.side else pixels


class _Rows:
    """Blends windows and writes what is final."""

    def __init__(self, scene: Scene, tiling: Grid, drafts: Sequence[Draft]) -> None:
        self._scene, self._tiling, self._drafts = scene, tiling, drafts
        self._above: Any = None  # (k, rise, width): the row above's share of the blend
        self._below: Any = None
        self._left: Any = None  # (k, rows, rise): the share of the window to the left
        self._strips: list[np.ndarray] = []

    def add(self, row: int, column: int, logits: Float[Tensor, "k h w"] | None, *, write: bool) -> None:
        """Take the next window in order; the last one of a row writes the row's strip."""
        down, across = self._tiling.rows[row], self._tiling.columns[column]
        shares = self._shares(logits, down, across)
        if across.rise:
            shares[:, :, : across.rise] += self._left
        inner = shares.shape[2] - across.fall
        self._left, shares = shares[:, :, inner:].clone(), shares[:, :, :inner]
        columns = slice(across.low, across.low + inner)
        if down.rise and self._above is not None:
            shares[:, : down.rise] += self._above[:, :, columns]
        final = shares.shape[1] - down.fall
        if column == 0:
            self._begin_row(len(shares), final, down.fall)
        self._below[:, :, columns] = shares[:, final:]
        if write:
            self._keep(shares[:, :final], columns)
        if column == len(self._tiling.columns) - 1:
            self._end_row(down, final, write)

    def _shares(self, logits: Tensor | None, down: Span, across: Span) -> Float[Tensor, "k r c"]:
        """Class probabilities times the weight of the window, over the pixels that it answers for."""
        rows, columns = torch.from_numpy(down.weights), torch.from_numpy(across.weights)
        if logits is None:
            return torch.zeros(self._classes, len(rows), len(columns))
        shares = logits[:, down.inside, across.inside].softmax(0)
        if not torch.isfinite(shares.sum()):
            raise BenchError("the network gives logits that are not finite, so its map means nothing: train it again")
        shares[:, : down.rise] *= rows[: down.rise, None]
        shares[:, len(rows) - down.fall :] *= rows[len(rows) - down.fall :, None]
        shares[:, :, : across.rise] *= columns[: across.rise]
        shares[:, :, len(columns) - across.fall :] *= columns[len(columns) - across.fall :]
        return shares

    @property
    def _classes(self) -> int:
        return len(self._drafts[0].layer.colours)

    def _begin_row(self, classes: int, final: int, fall: int) -> None:
        self._below = torch.zeros(classes, fall, self._scene.width)
        self._strips = [np.empty((final, draft.layer.bands, self._scene.width), np.uint8) for draft in self._drafts]

    def _keep(self, shares: Float[Tensor, "k r c"], columns: slice) -> None:
        self._strips[0][:, 0, columns] = shares.argmax(0).to(torch.uint8).numpy()
        for strip in self._strips[1:]:
            strip[:, :, columns] = shares.mul(255).round_().to(torch.uint8).transpose(0, 1).numpy()

    def _end_row(self, down: Span, final: int, write: bool) -> None:
        self._above = self._below
        if not write:
            return
        valid = self._scene.valid(down.low, 0, final, self._scene.width)
        self._strips[0][:, 0][~valid] = NO_DATA
        for strip in self._strips[1:]:
            strip.transpose(0, 2, 1)[~valid] = 0
        for draft, strip in zip(self._drafts, self._strips, strict=True):
            draft.write(strip)
