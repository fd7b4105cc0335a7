"""How trainings went: loss and validation F1 against steps, a small panel for each variant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.errors import BenchError
from bench.report.figures.style import (
    BAD,
    FAINT,
    GOOD,
    GREY,
    INK,
    SMALL,
    WIDTH,
    axes,
    figure_of,
    heading,
    save,
    sheet,
    shortened,
)

History = Sequence[Mapping[str, Any]]
_KEYS = ("macro_f1", "loss")
_COLUMNS = 4
_LEFT, _RIGHT, _GAP = 0.62, 0.12, 0.12  # inches
_UPPER, _LOWER, _BETWEEN, _HEAD, _FOOT = 0.85, 0.5, 0.08, 0.24, 0.12
_KEY = "Blue: macro F1 on validation tiles, a line a seed, its best marked. Below: loss. Faint: all other variants."


def draw_curves(
    histories: Mapping[str, Sequence[History]],
    stem: Path,
    *,
    reasons: Mapping[str, str] | None = None,
    title: str = "",
    note: str = "",
) -> list[Path]:
    """Draw validation F1 and training loss of every variant, all on the same axes, seed by seed.

    Args:
        histories: variant -> a history a seed; each entry has step, loss and macro_f1 (a fraction). An empty
            list for a variant that never reached a validation.
        stem: path without an ending.
        reasons: of variants whose training failed ("failed: the loss became non-finite").
        title, note: above and beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: there is no variant.
    """
    if not histories:
        raise BenchError("There is no training to show.")
    reasons = reasons or {}
    columns = min(_COLUMNS, len(histories))
    rows = -(-len(histories) // columns)
    width = WIDTH if columns == _COLUMNS else _LEFT + _RIGHT + columns * 2.3 + (columns - 1) * _GAP
    block = _HEAD + _UPPER + _BETWEEN + _LOWER + _FOOT
    with sheet(max(width, 4.2), 0.42 + rows * block + 0.45) as figure:
        heading(figure, title or "Training")
        limits = {key: _limits(histories, key) for key in _KEYS}
        for place, (name, runs) in enumerate(histories.items()):
            upper, lower = _pair(figure, place, columns, rows, width, block)
            for ax, key in ((upper, "macro_f1"), (lower, "loss")):
                _draw(ax, key, runs, [run for other in histories.values() if other is not runs for run in other])
                ax.set_ylim(*limits[key])
            last_row = place + columns >= len(histories)
            _label(upper, lower, name, first=place % columns == 0, last=last_row, reason=reasons.get(name, ""))
        return save(figure, stem, [note, _KEY, _reasons_note(reasons)])


def _pair(figure: Figure, place: int, columns: int, rows: int, width: float, block: float) -> tuple[Axes, Axes]:
    """The upper (F1) and lower (loss) axes of one variant."""
    total_width, total_height = figure.get_size_inches()
    column, row = place % columns, place // columns
    each = (width - _LEFT - _RIGHT - (columns - 1) * _GAP) / columns
    left = _LEFT + column * (each + _GAP)
    top = 0.42 + row * block + _HEAD
    upper = axes(figure, left, total_width - left - each, top, total_height - top - _UPPER)
    top += _UPPER + _BETWEEN
    lower = axes(figure, left, total_width - left - each, top, total_height - top - _LOWER)
    return upper, lower


def _points(run: History, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and printed values of the entries that have one."""
    found = [(entry["step"], entry[key]) for entry in run if np.isfinite(entry.get(key, np.nan))]
    steps, values = (np.array(part, dtype=float) for part in (zip(*found, strict=True) if found else ([], [])))
    return steps, values * (100 if key == "macro_f1" else 1)


def _limits(histories: Mapping[str, Sequence[History]], key: str) -> tuple[float, float]:
    """Around all runs; a loss that exploded is cut off at the 98th percentile."""
    values = np.concatenate([[], *(_points(run, key)[1] for runs in histories.values() for run in runs)])
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max() if key == "macro_f1" else np.quantile(values, 0.98))
    room = 0.08 * ((high - low) or 1.0)
    return low - room, high + room


def _draw(ax: Axes, key: str, runs: Sequence[History], others: Sequence[History]) -> None:
    for run in others:
        ax.plot(*_points(run, key), color=FAINT, lw=0.8, zorder=1)
    colour = GOOD if key == "macro_f1" else GREY
    for run in runs:
        steps, values = _points(run, key)
        single: dict[str, Any] = {"marker": "o", "ms": 2.5} if len(steps) == 1 else {}
        ax.plot(steps, values, color=colour, lw=1.3, alpha=0.85, zorder=3, **single)
        if key == "macro_f1" and len(values):
            best = values.argmax()
            ax.plot(steps[best], values[best], "o", ms=3.6, mfc="white", mec=INK, mew=0.9, zorder=4)


def _label(upper: Axes, lower: Axes, name: str, *, first: bool, last: bool, reason: str) -> None:
    width = upper.get_position().width * figure_of(upper).get_size_inches()[0]
    upper.set_title(shortened(name, width), fontsize=SMALL, loc="left", pad=4)
    upper.tick_params(labelbottom=False, labelleft=first)
    lower.tick_params(labelbottom=last, labelleft=first)
    if reason:
        upper.text(0.03, 0.05, shortened(reason, width - 0.1, SMALL - 1), transform=upper.transAxes, color=BAD,
                   fontsize=SMALL - 1, fontstyle="italic", zorder=5)  # fmt: skip
    for ax, text in ((upper, "F1 (%)"), (lower, "loss")):
        ax.yaxis.set_major_locator(MaxNLocator(4 if ax is upper else 3))
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(
            FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step >= 1000 else f"{step:g}")
        )
        if first:
            ax.set_ylabel(text, fontsize=SMALL)
            ax.yaxis.set_label_coords(-0.42 / width, 0.5)
    if last:
        lower.set_xlabel("step", fontsize=SMALL, labelpad=1)


def _reasons_note(reasons: Mapping[str, str]) -> str:
    named = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return f"Not finished: {named}." if named else ""
