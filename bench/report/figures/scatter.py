"""Points of two quantities: axes with unit and direction, the Pareto front, and names beside the points."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.report.columns import Column
from bench.report.figures.fonts import drawn
from bench.report.figures.style import INK, SMALL
from bench.stats.pareto import staircase

_DECADE = 8.0  # a range of this factor and more is shown on a log scale
_ARROWS = {("x", "low"): "← better", ("x", "high"): "better →", ("y", "low"): "← better", ("y", "high"): "better →"}


def wants_log(values: np.ndarray, column: Column) -> bool:
    """Whether positive costs or speeds span so much that a linear axis would crowd the small ones."""
    finite = values[np.isfinite(values)]
    bounded = column.style.unit in ("%", "points")
    return bool(len(finite)) and not bounded and finite.min() > 0 and finite.max() / finite.min() >= _DECADE


def apply_scale(ax: Axes, which: str, values: np.ndarray, column: Column, room: float = 0.09) -> None:
    """Set scale, limits, ticks and title of the "x" or "y" axis for printed values (raw times scale).

    `room` is the share of the range that stays free at both ends, for labels.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    set_limits = ax.set_xlim if which == "x" else ax.set_ylim
    log = wants_log(values, column)
    if log:
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
        axis.set_minor_formatter(NullFormatter())
    set_limits(*_limits(values, log, room))
    if log:
        decades = np.log10(values[np.isfinite(values)].max() / values[np.isfinite(values)].min())
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.4 else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_label_text(axis_title(which, column))


def axis_title(which: str, column: Column) -> str:
    """ "Parameters (M)   ← better" """
    arrow = _ARROWS.get((which, column.better or ""))
    return f"{column.title}   {arrow}" if arrow else column.title


def _limits(values: np.ndarray, log: bool, room: float) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = (np.log10(v) if log else v for v in (finite.min(), finite.max()))
    span = (high - low) or abs(high) * 0.2 or 1.0
    low, high = low - room * span, high + room * span
    return (10**low, 10**high) if log else (low, high)


def printed(frame: pd.DataFrame, c: Column, key: str | None = None) -> np.ndarray:
    """(rows,) a column in its printed unit, NaN where nothing was measured or there is no such column."""
    key = c.key if key is None else key
    if key not in frame.columns:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[key]).to_numpy(dtype=float, na_value=np.nan) * c.style.scale
    return np.where(np.isfinite(values), values, np.nan)


def staircase_corners(ax: Axes, frame: pd.DataFrame, xc: Column, yc: Column, end: float | None = None) -> np.ndarray:
    """(corners, 2) of the staircase in printed units, from the axes' worst y to `end` or else to their worst x.

    The axes' limits must be set.
    """
    points = staircase(frame, xc.key, yc.key, xc.better or "low", yc.better or "high")
    points = points * np.array([xc.style.scale, yc.style.scale])
    if not len(points):
        return points
    worst_x = max(ax.get_xlim()) if xc.better != "high" else min(ax.get_xlim())
    worst_y = min(ax.get_ylim()) if yc.better != "low" else max(ax.get_ylim())
    xs = np.append(np.repeat(points[:, 0], 2), worst_x if end is None else end)
    ys = np.insert(np.repeat(points[:, 1], 2), 0, worst_y)
    return np.stack([xs, ys], axis=1)


def draw_staircase(ax: Axes, corners: np.ndarray) -> None:
    """A front as a line, and a tint on all that it dominates."""
    if len(corners):
        closed = np.concatenate([corners, [[corners[-1, 0], corners[0, 1]]]])
        ax.fill(*closed.T, color="#eef2f6", lw=0, zorder=0.4)
        ax.plot(*corners.T, color=INK, lw=1.1, alpha=0.75, solid_joinstyle="miter", zorder=2)


_STEPS = 400  # of the placement: a limit in time would make the outcome depend on the machine


def annotate(ax: Axes, points: np.ndarray, texts: Sequence[str], named: Sequence[int]) -> None:
    """Label some of the points on axes whose limits and scales do not change any more.

    Args:
        ax: the axes.
        points: (n, 2) all markers, in data coordinates; labels keep off them.
        texts: n names.
        named: indices of the points that get their label.
    """
    from adjustText import adjust_text  # with pyplot, so only once something is drawn

    if not len(named):
        return
    labels = [_label(ax, points[i], texts[i]) for i in named]
    adjust_text(
        labels,
        x=points[:, 0],
        y=points[:, 1],
        ax=ax,
        iter_lim=_STEPS,
        expand=(1.15, 1.5),
        force_text=(0.2, 0.3),
        min_arrow_len=14,
        arrowprops={"arrowstyle": "-", "color": "#9aa5b1", "lw": 0.6, "zorder": 3},
    )


def _label(ax: Axes, point: np.ndarray, text: str) -> object:
    return ax.text(
        point[0],
        point[1],
        drawn(text),
        fontsize=SMALL,
        fontweight="bold",
        color=INK,
        zorder=6,
        path_effects=[withStroke(linewidth=2.2, foreground=(1, 1, 1, 0.75))],  # legible across lines
        gid=f"label:{text}",  # in an SVG, text with an effect is outlines only
    )
