"""What is gained against what it costs: every variant as a point, the Pareto front as a staircase."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.columns import Column, column, is_missing, measured, troubles
from bench.report.figures.fronts import draw_staircase, printed, staircase_corners
from bench.report.figures.labels import annotate
from bench.report.figures.scales import apply_scale
from bench.report.figures.style import (
    GREY,
    INK,
    PAPER,
    WIDTH,
    axes,
    heading,
    legend_rows,
    save,
    sheet,
    signs,
)
from bench.stats.pareto import pareto_front

COSTS = ("params", "macs", "storage_bytes", "latency_ms", "throughput", "activations")
_CAUTION = "The front is that of the point estimates: where intervals overlap, the order is not settled."
NAMED = 8  # variants that are not drawn are named up to so many of one reason
_RADIUS = 4.6  # points; half the width of a marker with its edge


def draw_pareto(
    frame: pd.DataFrame, x: str, stem: Path, *, y: str = "f1", title: str = "", note: str = ""
) -> list[Path]:
    """Draw one quantity against another, with the Pareto front and a label on every point.

    Any two of `bench.report.columns.COLUMNS` that have a better end can be drawn: "f1" against "params", or without
    any training "params" against "macs".

    Args:
        frame: one row a variant: variant, family, x and y in raw units, and where they are known the bounds of
            their intervals, status and reason. Variants that failed or were skipped and those without a value
            are named beneath the figure.
        x, y: keys of the columns.
        stem: path without an ending.
        title: above the figure; made of the two quantities if empty.
        note: sentences beneath it (data, seeds, device).

    Returns:
        The PNG and the SVG.

    Raises:
        BenchError: an unknown column, or one that is not in the frame.
    """
    xc, yc = column(x), column(y)
    mask = pareto_front(frame, x, y, xc.better or "low", yc.better or "high")
    shown = np.isfinite(printed(frame, xc)) & np.isfinite(printed(frame, yc))
    drawn = frame[shown]
    with sheet(WIDTH, 4.9) as figure:
        heading(figure, title or f"{yc.header} against {_inside_sentence(xc.header)}")
        ax = axes(figure, left=0.75, right=0.2, top=0.5 + _legend(figure, drawn, xc, yc), bottom=0.58)
        _scale(ax, drawn, xc, yc)
        draw_staircase(ax, staircase_corners(ax, drawn, xc, yc))
        _draw_points(ax, drawn, mask[shown], xc, yc)
        lost = _draw_labels(ax, drawn, mask[shown], xc, yc)
        caution = _CAUTION if np.isfinite(_intervals(drawn, yc)).any() else ""
        return save(figure, stem, [note, caution, _absent(frame, shown, xc, yc), _unlabelled(drawn, lost)])


def draw_fronts(frame: pd.DataFrame, stem: Path, *, y: str = "f1", note: str = "") -> list[Path]:
    """`draw_pareto` against every cost that the frame has values of, as `<stem>-<cost>`."""
    if not measured(frame, [y]):
        return []
    costs = [c.key for c in measured(frame, COSTS) if c.key != y]
    return [path for x in costs for path in draw_pareto(frame, x, stem.with_name(f"{stem.name}-{x}"), y=y, note=note)]


def _intervals(frame: pd.DataFrame, c: Column) -> np.ndarray:
    """(2, rows) distances from the value down and up to its bounds, NaN where there are none."""
    value = printed(frame, c)
    low, high = (printed(frame, c, key or "") for key in (c.low, c.high))
    return np.maximum(np.stack([value - low, high - value]), 0)


def _scale(ax: Axes, frame: pd.DataFrame, xc: Column, yc: Column) -> None:
    """Limits that hold every point and interval."""
    for which, c in (("x", xc), ("y", yc)):
        bounds = [printed(frame, c, key) for key in (c.key, c.low or "", c.high or "")]
        apply_scale(ax, which, np.concatenate(bounds), c)
    if frame.empty:
        ax.text(0.5, 0.5, "nothing measured yet", transform=ax.transAxes, ha="center", color=GREY)


def _draw_points(ax: Axes, frame: pd.DataFrame, front: np.ndarray, xc: Column, yc: Column) -> None:
    looks = signs(_families(frame))
    xs, ys = printed(frame, xc), printed(frame, yc)
    points = np.stack([xs, ys], axis=1)
    bars = [_bars(points, _intervals(frame, c), axis) for axis, c in enumerate((xc, yc))]
    for i, family in enumerate(_families(frame)):
        colour, marker = looks[family]
        for x0, y0, x1, y1 in (known[i] for known in bars if np.isfinite(known[i]).all()):
            ax.plot([x0, x1], [y0, y1], color=colour, lw=1.1, alpha=0.45, solid_capstyle="butt", zorder=2.5)
        edge, size, alpha = (INK, 8.2, 1.0) if front[i] else (PAPER, 6.6, 0.8)
        ax.plot(xs[i], ys[i], marker, color=colour, ms=size, mec=edge, mew=1.0, alpha=alpha, zorder=4 + front[i])


def _draw_labels(ax: Axes, frame: pd.DataFrame, front: np.ndarray, xc: Column, yc: Column) -> list[int]:
    corners = staircase_corners(ax, frame, xc, yc)
    lines = np.concatenate([corners[:-1], corners[1:]], axis=1) if len(corners) else np.zeros((0, 4))
    points = np.stack([printed(frame, xc), printed(frame, yc)], axis=1)
    bars = [_bars(points, _intervals(frame, c), axis) for axis, c in enumerate((xc, yc))]
    return annotate(
        ax,
        points,
        _variants(frame),
        strong=list(front),
        radius=_RADIUS,
        lines=np.concatenate([lines, *(known[np.isfinite(known).all(axis=1)] for known in bars)]),
    )


def _bars(points: np.ndarray, errors: np.ndarray, axis: int) -> np.ndarray:
    """(rows, 4) interval bars as segments x0, y0, x1, y1; NaN where there is no interval."""
    low, high = points.copy(), points.copy()
    low[:, axis] -= errors[0]
    high[:, axis] += errors[1]
    return np.concatenate([low, high], axis=1)


def _legend(figure: Figure, frame: pd.DataFrame, xc: Column, yc: Column) -> float:
    """Families, front and intervals in rows beneath the title; returns the inches that they take."""
    handles = [
        Line2D([], [], color=colour, marker=marker, ls="", ms=6.6, mec=PAPER, label=family)
        for family, (colour, marker) in signs(_families(frame)).items()
    ]
    handles.append(Line2D([], [], color=INK, lw=1.1, alpha=0.75, label="Pareto front"))
    if any(np.isfinite(_intervals(frame, c)).any() for c in (xc, yc)):
        handles.append(Line2D([], [], color=GREY, lw=1.1, alpha=0.6, label="95 % interval"))
    return legend_rows(figure, handles)


def _families(frame: pd.DataFrame) -> list[str]:
    values = frame["family"] if "family" in frame.columns else pd.Series([""] * len(frame))
    return ["other" if is_missing(v) else str(v) for v in values]


def _variants(frame: pd.DataFrame) -> list[str]:
    return [str(v) for v in frame["variant"]]


def _absent(frame: pd.DataFrame, shown: np.ndarray, xc: Column, yc: Column) -> str:
    """Who is not in the figure, by reason."""
    trouble = troubles(frame)
    names: dict[str, list[str]] = {}
    for i in np.flatnonzero(~shown):
        lacking = " and ".join(_inside_sentence(c.header) for c in (xc, yc) if np.isnan(printed(frame, c)[i]))
        names.setdefault(str(trouble.get(int(i), f"no {lacking}")), []).append(_variants(frame)[i])
    named = [f"{_some(variants)} ({reason})" for reason, variants in names.items()]
    return f"Not drawn: {'; '.join(named)}." if named else ""


def _some(variants: list[str]) -> str:
    """By name, or by number where that would drown the figure; the table beside it names all."""
    return ", ".join(variants) if len(variants) <= NAMED else f"{len(variants)} variants"


def _unlabelled(frame: pd.DataFrame, lost: list[int]) -> str:
    return f"Without a label for want of room: {', '.join(_variants(frame)[i] for i in lost)}." if lost else ""


def _inside_sentence(header: str) -> str:
    """ "Parameters" becomes "parameters", "MACs" stays."""
    return header if header[:2].isupper() else header[:1].lower() + header[1:]
