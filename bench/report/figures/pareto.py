"""What is gained against what it costs: every variant as a point, the Pareto front as a staircase."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.columns import Column, column, is_missing, measured, troubles
from bench.report.figures.scatter import annotate, apply_scale, draw_staircase, printed, staircase_corners
from bench.report.figures.style import (
    GREY,
    INK,
    PAPER,
    SMALL,
    WIDTH,
    axes,
    heading,
    legend_rows,
    save,
    sheet,
    signs,
)
from bench.stats.pareto import pareto_front

COSTS = ("params", "macs", "storage_bytes", "latency_ms", "deployed_fp32_ms", "throughput", "activations")
_CAUTION = "The front is that of the point estimates: where intervals overlap, the order is not settled."
NAMED = 8  # variants that are not drawn are named up to so many of one reason
_FEWEST = 6  # points that say what a usual score is


def draw_pareto(
    frame: pd.DataFrame, x: str, stem: Path, *, y: str = "f1", title: str = "", note: str = ""
) -> list[Path]:
    """Draw one quantity against another, with the Pareto front; the front and the base have labels.

    Any two of `bench.report.columns.COLUMNS` that have a better end can be drawn: "f1" against "params", or without
    any training "params" against "macs".

    Args:
        frame: one row a variant: variant, family, x and y in raw units, and where they are known the bounds of
            their intervals, base, status and reason. Variants that failed or were skipped and those without a
            value are named beneath the figure.
        x, y: keys of the columns.
        stem: path without an ending.
        title: above the figure; made of the two quantities if empty.
        note: sentences beneath it (data, seeds, device).

    Returns:
        The figure's files.

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
        below = _far_below(drawn, yc)
        _scale(ax, drawn, below, xc, yc)
        draw_staircase(ax, staircase_corners(ax, drawn, xc, yc))
        _draw_points(ax, drawn, mask[shown], below, xc, yc)
        _draw_labels(ax, drawn[~below], mask[shown][~below], xc, yc)
        caution = _CAUTION if np.isfinite(_intervals(drawn, yc)).any() else ""
        return save(figure, stem, [note, caution, _unfinished(frame, shown), _absent(frame, shown, xc, yc)])


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


def _scale(ax: Axes, frame: pd.DataFrame, below: np.ndarray, xc: Column, yc: Column) -> None:
    """Limits that hold every point and interval but those that are far below."""
    for which, c, rows in (("x", xc, frame), ("y", yc, frame[~below])):
        bounds = [printed(rows, c, key) for key in (c.key, c.low or "", c.high or "")]
        apply_scale(ax, which, np.concatenate(bounds), c)
    if frame.empty:
        ax.text(0.5, 0.5, "nothing measured yet", transform=ax.transAxes, ha="center", color=GREY)


def _draw_points(ax: Axes, frame: pd.DataFrame, front: np.ndarray, below: np.ndarray, xc: Column, yc: Column) -> None:
    looks = signs(_families(frame))
    xs, ys = printed(frame, xc), printed(frame, yc)
    x_errors, y_errors = _intervals(frame, xc), _intervals(frame, yc)
    for i, family in enumerate(_families(frame)):
        colour, marker = looks[family]
        if below[i]:
            height = 0.03 + 0.045 * (below[:i].sum() % 3)  # names side by side would run into each other
            _draw_below(ax, xs[i], height, f"↓ {_variants(frame)[i]}: {ys[i]:.1f} {yc.style.unit}", looks[family])
            continue
        edge, size, alpha = (INK, 8.2, 1.0) if front[i] else (PAPER, 6.6, 0.8)
        ax.errorbar(xs[i], ys[i], y_errors[:, i : i + 1], x_errors[:, i : i + 1], fmt="none", ecolor=colour,
                    elinewidth=1.1, alpha=0.45, zorder=2.5)  # fmt: skip
        ax.plot(xs[i], ys[i], marker, color=colour, ms=size, mec=edge, mew=1.0, alpha=alpha, zorder=4 + front[i])


def _draw_labels(ax: Axes, frame: pd.DataFrame, front: np.ndarray, xc: Column, yc: Column) -> None:
    bases = set(frame["base"]) if "base" in frame.columns else set()
    named = [i for i, name in enumerate(_variants(frame)) if front[i] or name in bases]
    annotate(ax, np.stack([printed(frame, xc), printed(frame, yc)], axis=1), _variants(frame), named)


def _far_below(frame: pd.DataFrame, yc: Column) -> np.ndarray:
    """Whether a score lies so far below the others that an axis down to it would crowd them.

    Beyond Tukey's outer fence, and a quarter of the height of all other points and intervals beneath them.
    """
    ys = printed(frame, yc)
    if yc.style.unit != "%" or len(ys) < _FEWEST:
        return np.zeros(len(ys), bool)
    quarter, three = np.quantile(ys, (0.25, 0.75))
    usual = ys >= quarter - 3 * (three - quarter)
    bounds = np.concatenate([printed(frame, yc, key)[usual] for key in (yc.key, yc.low or "", yc.high or "")])
    return ~usual & (ys < np.nanmin(bounds) - (np.nanmax(bounds) - np.nanmin(bounds)) / 4)


def _draw_below(ax: Axes, x: float, height: float, text: str, looks: tuple[str, str]) -> None:
    """A point beneath the axis: its marker at the edge, with its value."""
    edge = ax.get_xaxis_transform()
    ax.plot(x, height, looks[1], color=looks[0], ms=7, mec=PAPER, mew=0.8, transform=edge, zorder=6)
    across = ax.transAxes.inverted().transform(ax.transData.transform((x, 0)))[0]
    right = across > 0.5  # its words would be cut off on that side
    words: dict[str, Any] = {"fontsize": SMALL, "color": GREY, "va": "center", "ha": "right" if right else "left"}
    ax.annotate(text, (x, height), (-7 if right else 7, 0), xycoords=edge, textcoords="offset points", **words)


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


def _unfinished(frame: pd.DataFrame, shown: np.ndarray) -> str:
    """Who is in the figure though not all of it was measured, by reason."""
    names: dict[str, list[str]] = {}
    for i, one in troubles(frame).items():
        if shown[i]:
            names.setdefault(str(one), []).append(_variants(frame)[i])
    named = [f"{_some(variants)} ({reason})" for reason, variants in names.items()]
    return f"Drawn, but not whole: {'; '.join(named)}." if named else ""


def _some(variants: list[str]) -> str:
    """By name, or by number where that would drown the figure; the table beside it names all."""
    return ", ".join(variants) if len(variants) <= NAMED else f"{len(variants)} variants"


def _inside_sentence(header: str) -> str:
    """ "Parameters" becomes "parameters", "MACs" stays."""
    return header if header[:2].isupper() else header[:1].lower() + header[1:]
