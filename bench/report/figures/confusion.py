"""What is taken for what: a confusion matrix, each row as shares of its true class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from bench.errors import BenchError
from bench.report.figures.fonts import drawn_names
from bench.report.figures.style import (
    BAD,
    GOOD,
    GREY,
    INK,
    MARGIN,
    PAPER,
    SMALL,
    axes,
    bare,
    cell,
    cell_text,
    column_head,
    heading,
    save,
    sheet,
    table_text,
    text_size,
    wrapped,
)

_RIGHT = LinearSegmentedColormap.from_list("right", ["#f2f6fa", GOOD])
_WRONG = LinearSegmentedColormap.from_list("wrong", ["#faf5f1", BAD])
_CELL = (0.78, 0.5)  # inches
_MINIMUM = 5.2


def draw_confusion(
    matrix: np.ndarray, class_names: Sequence[str], stem: Path, *, title: str = "", note: str = ""
) -> list[Path]:
    """Draw a confusion matrix of pixel counts, rows truth and columns prediction.

    Each row is printed in percent of its true pixels, beside the class's share of all true pixels. Blue is
    right, orange is wrong. A class without true pixels is shown as absent.

    Args:
        matrix: (classes, classes) counts.
        class_names: in the order of the matrix.
        stem: path without an ending.
        title, note: above and beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: the matrix is not square, or has another number of classes.
    """
    matrix = np.asarray(matrix)
    count = len(class_names)
    if matrix.shape != (count, count):
        raise BenchError(f"A confusion matrix of {count} classes is {count}x{count}, not {matrix.shape}.")
    class_names = drawn_names(class_names)
    with sheet(1, 1):
        left = MARGIN + 0.1 + max(text_size(name, SMALL)[0] for name in class_names) + 0.75
        heads = ["\n".join(wrapped([name], _CELL[0] - 0.06)) for name in class_names]
    top = 0.72 + 0.15 * max(head.count("\n") + 1 for head in heads)
    width = max(left + count * _CELL[0] + MARGIN, _MINIMUM)
    with sheet(width, top + count * _CELL[1] + MARGIN) as figure:
        heading(figure, title or "Confusion by true class (%)")
        ax = axes(figure, left, width - left - count * _CELL[0], top, MARGIN)
        _prepare(ax, heads)
        _draw_names(ax, matrix, class_names, left)
        _draw_cells(ax, matrix)
        return save(figure, stem, [note])


def _prepare(ax: Axes, heads: Sequence[str]) -> None:
    ax.set_xlim(-0.5, len(heads) - 0.5)
    ax.set_ylim(len(heads) - 0.5, -0.5)
    bare(ax)
    for x, head in enumerate(heads):
        column_head(ax, x, head)
    column_head(
        ax, (len(heads) - 1) / 2, "predicted", 6 + 11.5 * max(head.count("\n") + 1 for head in heads), color=GREY
    )


def _draw_names(ax: Axes, matrix: np.ndarray, class_names: Sequence[str], left: float) -> None:
    """True classes with their share of the pixels."""
    total = max(int(matrix.sum()), 1)
    for y, (name, pixels) in enumerate(zip(class_names, matrix.sum(axis=1), strict=True)):
        table_text(ax, MARGIN, y, name)
        table_text(ax, left - 0.1, y, f"{100 * pixels / total:.1f} %", ha="right", color=GREY)
    table_text(ax, MARGIN, -0.66, "true class", color=GREY)
    table_text(ax, left - 0.1, -0.66, "share", ha="right", color=GREY)


def _draw_cells(ax: Axes, matrix: np.ndarray) -> None:
    for y, row in enumerate(matrix):
        if not row.sum():
            cell_text(ax, (len(row) - 1) / 2, y, "no pixel of this class", color=GREY)
            continue
        for x, share in enumerate(row / row.sum()):
            colour = (_RIGHT if x == y else _WRONG)(float(share) ** 0.7)  # small errors stay visible
            cell(ax, x, y, colour)
            weight = "bold" if x == y else "normal"
            cell_text(ax, x, y, _percent(share), color=PAPER if share > 0.55 else INK, fontweight=weight)


def _percent(share: float) -> str:
    """Digits that matter: 83, 4.1, 0.3, < 0.1, and a dot where nothing is confused."""
    value = 100 * share
    if value == 0:
        return "·"
    if value < 0.1:
        return "< 0.1"
    return f"{value:.0f}" if round(value, 1) >= 10 else f"{value:.1f}"
