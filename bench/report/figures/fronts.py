"""A frame's quantities in printed units, and its Pareto front on axes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.report.columns import Column
from bench.report.figures.style import INK
from bench.stats.pareto import staircase


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
