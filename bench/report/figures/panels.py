"""Image, truth and predictions side by side, in the colours of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.data.classes import NO_CLASS
from bench.errors import BenchError
from bench.report.figures.fonts import drawn_names
from bench.report.figures.style import (
    GREY,
    MARGIN,
    SMALL,
    WIDTH,
    axes,
    bare,
    heading,
    legend_height,
    legend_places,
    legend_rows,
    save,
    sheet,
    wrapped,
)

if TYPE_CHECKING:
    from bench.data import Classes

_GAP = 0.06  # inches between panels
_UNDER = 0.2  # inches beneath a panel, for its score
_NARROWEST = 1.25  # inches: more columns make the figure wider, not the panels smaller


def draw_panels(
    images: np.ndarray,
    truths: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    classes: "Classes",
    stem: Path,
    *,
    tiles: Sequence[str] = (),
    title: str = "",
    note: str = "",
) -> list[Path]:
    """Draw a row for each tile: the image, its truth, and what each variant predicts.

    Beneath each prediction stands the share of labelled pixels that are right. Pixels that the truth ignores are
    grey and hatched; whatever is predicted there is shown, and does not count.

    Args:
        images: (tiles, H, W, 3) uint8.
        truths: (tiles, H, W) uint8 class indices; `classes.ignore_index` where there is no label.
        predictions: variant -> (tiles, H, W) uint8 class indices.
        classes: names, colours and ignore index (see `bench.data.Classes`).
        stem: path without an ending.
        tiles: names of the tiles, put into the notes.
        title, note: above and beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: there is no tile, or the shapes do not fit each other.
    """
    _check(images, truths, predictions)
    columns = 2 + len(predictions)
    width = max(WIDTH, 2 * MARGIN + columns * (_NARROWEST + _GAP))
    side = (width - 2 * MARGIN - (columns - 1) * _GAP) / columns
    row = side * images.shape[1] / images.shape[2] + _UNDER
    with sheet(1, 1):
        heads = ["\n".join(wrapped([name], side)) for name in ("Image", "Truth", *predictions)]
        handles = _legend(truths, classes)
        legend = legend_height(legend_places([str(handle.get_label()) for handle in handles], width))
    top = 0.5 + legend + 0.15 * max(head.count("\n") + 1 for head in heads)
    with sheet(width, top + len(images) * row) as figure:
        heading(figure, title or "Predictions on test tiles")
        legend_rows(figure, handles)
        for i, j in np.ndindex(len(images), columns):
            right = width - MARGIN - side - j * (side + _GAP)
            ax = axes(figure, width - right - side, right, top + i * row, (len(images) - i) * row - row + _UNDER)
            bare(ax)
            _fill(ax, j, images[i], truths[i], [maps[i] for maps in predictions.values()], classes)
            if i == 0:
                ax.set_title(heads[j], fontsize=SMALL, pad=4, linespacing=1.05)
        return save(figure, stem, [note, f"Tiles: {', '.join(tiles)}." if tiles else ""])


def _check(images: np.ndarray, truths: np.ndarray, predictions: Mapping[str, np.ndarray]) -> None:
    if not len(images):
        raise BenchError("There is no tile to show.")
    for name, maps in {"the truth": truths, **predictions}.items():
        if maps.shape != images.shape[:3]:
            raise BenchError(f"The images are {images.shape[:3]} tiles x height x width, but {name} is {maps.shape}.")


def _legend(truths: np.ndarray, classes: "Classes") -> list[Patch]:
    colours = [_unit(colour) for colour in classes.colours]
    handles = [
        Patch(facecolor=colour, edgecolor=GREY, lw=0.4, label=name)
        for colour, name in zip(colours, drawn_names(classes.names), strict=True)
    ]
    if _ignored(truths, classes).any():
        handles.append(Patch(facecolor=_unit(NO_CLASS), edgecolor=GREY, lw=0.4, hatch="////", label="not labelled"))
    return handles


def _unit(colour: Sequence[int]) -> tuple[float, float, float]:
    red, green, blue = (channel / 255 for channel in colour)
    return red, green, blue


def _ignored(truth: np.ndarray, classes: "Classes") -> np.ndarray:
    return np.zeros(truth.shape, bool) if classes.ignore_index is None else truth == classes.ignore_index


def _fill(
    ax: Axes, j: int, image: np.ndarray, truth: np.ndarray, maps: Sequence[np.ndarray], classes: "Classes"
) -> None:
    """Panel j of a row: the image, the truth, then the predictions."""
    if j == 0:
        ax.imshow(image)
    elif j == 1:
        ax.imshow(classes.palette[truth], interpolation="nearest")
        _hatch(ax, _ignored(truth, classes))
    else:
        ax.imshow(classes.palette[maps[j - 2]], interpolation="nearest")
        ax.set_xlabel(_right(truth, maps[j - 2], classes), fontsize=SMALL - 0.5, color=GREY, labelpad=2)


def _hatch(ax: Axes, where: np.ndarray) -> None:
    if where.any() and min(where.shape) > 1:
        hatched = ax.contourf(where.astype(float), levels=[0.5, 1.5], colors="none", hatches=["////"])
        hatched.set_edgecolor(GREY)
        hatched.set_linewidth(0)


def _right(truth: np.ndarray, prediction: np.ndarray, classes: "Classes") -> str:
    counted = ~_ignored(truth, classes)
    return f"{100 * (truth == prediction)[counted].mean():.0f} % right" if counted.any() else "no label"
