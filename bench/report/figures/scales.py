"""Axes of quantities: unit, direction, and a logarithm where the range asks for one."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.report.columns import Column

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
