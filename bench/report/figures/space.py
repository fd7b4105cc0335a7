"""Where in its space a search has been: every trial as a line across the searched fields, and what each field did."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D

from bench.report.columns import column
from bench.report.figures.scatter import printed
from bench.report.figures.style import (
    GREY,
    INK,
    MARGIN,
    NEUTRAL,
    SMALL,
    WIDTH,
    axes,
    bare,
    heading,
    legend_rows,
    row_axes,
    rule,
    save,
    sheet,
    shortened,
    table_text,
)

_SCORE = LinearSegmentedColormap.from_list("score", ["#d9dde3", "#7fb3d6", "#08527f"])
_ROW = 0.27  # inches
_STAGGER = 0.012  # of an axis: trials that share a value are told apart


def draw_parallel(
    trials: pd.DataFrame,
    dimensions: Mapping[str, Sequence[Any]],
    cost: str,
    stem: Path,
    *,
    title: str = "",
    note: str = "",
) -> list[Path]:
    """Draw every scored trial as a line over the fields that varied, its cost and its F1.

    Args:
        trials: one row a trial: a column for each dimension, the cost, `f1`, and `front` (whether nothing beats it).
        dimensions: name -> values in their order.
        cost: key of `bench.report.columns.COLUMNS`.
        stem: path without an ending.
        title, note: above and beneath the figure.

    Returns:
        The figure's files; nothing where fewer than two trials have a score.
    """
    scored = trials[trials["f1"].notna()].sort_values("f1").reset_index(drop=True)
    varied = {name: values for name, values in dimensions.items() if len(set(scored[name])) > 1}
    if len(scored) < 2 or not varied:
        return []
    with sheet(WIDTH, 4.3) as figure:
        heading(figure, title or f"{len(scored)} trials across the searched fields")
        colour = Normalize(scored["f1"].min() * 100, scored["f1"].max() * 100)
        legend_rows(figure, _parallel_legend(colour))
        ax = axes(figure, left=0.4, right=0.85, top=1.25, bottom=0.2)
        bare(ax)
        heights = [_heights(scored[name], values) for name, values in varied.items()]
        heights += [_quantity(ax, scored, key, len(varied) + i) for i, key in enumerate((cost, "f1"))]
        for i, (name, values) in enumerate(varied.items()):
            _field_axis(ax, i, name, values)
        _lines(ax, np.stack(heights, axis=1), scored, colour)
        ax.set_xlim(-0.2, len(heights) - 0.8)
        ax.set_ylim(-0.06, 1.06)
        return save(figure, stem, [note, "Fields that every trial shares are left out. Each axis is linear in steps."])


def _parallel_legend(colour: Normalize) -> list[Line2D]:
    shades = [(0.0, f"F1 {colour.vmin:.1f} %"), (0.5, ""), (1.0, f"F1 {colour.vmax:.1f} %")]
    handles = [Line2D([], [], color=_SCORE(at), lw=2.2, label=text) for at, text in shades if text]
    return [*handles, Line2D([], [], color=INK, lw=2.4, label="on the front")]


def _heights(values: pd.Series, order: Sequence[Any]) -> np.ndarray:
    """0 to 1, by the position among the field's values, trials with the same value staggered a little."""
    positions = values.map(list(order).index).to_numpy(dtype=float) / max(len(order) - 1, 1)
    same = values.groupby(values).cumcount().to_numpy()
    return positions + _STAGGER * ((same + 1) // 2) * np.where(same % 2, 1, -1) * (same < 7)


def _field_axis(ax: Axes, at: int, name: str, values: Sequence[Any]) -> None:
    ax.axvline(at, color=NEUTRAL, lw=0.8, zorder=1)
    _axis_name(ax, at, name.replace("_", " "))
    shown = range(len(values)) if len(values) <= 5 else (0, len(values) // 2, len(values) - 1)
    for i in shown:
        _tick(ax, at, i / max(len(values) - 1, 1), str(values[i]))


def _quantity(ax: Axes, scored: pd.DataFrame, key: str, at: int) -> np.ndarray:
    """A measured column as heights, with its axis."""
    c = column(key)
    values = printed(scored, c)
    low, high = np.nanmin(values), np.nanmax(values)
    ax.axvline(at, color=INK, lw=1.2, zorder=1)
    _axis_name(ax, at, c.title)
    digits = max(0, 2 - int(np.floor(np.log10(max(high - low, 1e-9)))))
    for height in (0.0, 0.5, 1.0):
        _tick(ax, at, height, f"{low + height * (high - low):.{min(digits, 4)}f}")
    return (values - low) / ((high - low) or 1.0)


def _axis_name(ax: Axes, at: int, text: str) -> None:
    ax.annotate(
        text, (at, 1.0), (0, 15), textcoords="offset points", rotation=28, ha="left", va="bottom", fontsize=SMALL,
        rotation_mode="anchor", annotation_clip=False,
    )  # fmt: skip


def _tick(ax: Axes, at: int, height: float, text: str) -> None:
    ax.annotate(
        text, (at, height), (3, 0), textcoords="offset points", fontsize=SMALL - 1.5, color=GREY, va="center",
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}, zorder=5, annotation_clip=False,
    )  # fmt: skip


def _lines(ax: Axes, heights: np.ndarray, scored: pd.DataFrame, colour: Normalize) -> None:
    for row, f1, front in zip(heights, scored["f1"], scored["front"], strict=True):
        shade = _SCORE(colour(100 * f1))
        if front:
            ax.plot(np.arange(len(row)), row, color=INK, lw=3.0, zorder=3, solid_joinstyle="round")
        ax.plot(np.arange(len(row)), row, color=shade, lw=1.6 if front else 1.0, zorder=3.2 if front else 2)


def draw_importance(found: pd.DataFrame, stem: Path, *, title: str = "", note: str = "") -> list[Path]:
    """Draw how much of the score each field explains by itself, with its interval (see `bench.search.importance`).

    Args:
        found: field, share, low, high, p, trend, best, from the top row to the last.
        stem: path without an ending.
        title, note: above and beneath the figure.

    Returns:
        The figure's files; nothing for an empty frame.
    """
    if found.empty:
        return []
    left, right = 1.9, 2.4
    with sheet(WIDTH, 1.25 + _ROW * len(found)) as figure:
        heading(figure, title or "What F1 depended on")
        ax = row_axes(figure, len(found), left=left, right=right, top=0.72, bottom=0.53)
        ax.set_xlim(0, max(100 * found["high"].max() * 1.05, 10))
        ax.set_xlabel("Share of the variance of F1's ranks (%)")
        _head(ax, MARGIN, "field")
        _head(ax, WIDTH - right + 0.2, "trend, best value")
        for y, row in enumerate(found.to_dict("records")):
            rule(ax, y + 0.5)
            sure = row["p"] < 0.05
            ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=INK if sure else NEUTRAL, lw=1.2, zorder=2)
            ax.plot(100 * row["share"], y, "o", color=INK if sure else NEUTRAL, ms=6, zorder=3, clip_on=False)
            table_text(ax, MARGIN, y, shortened(row["field"].replace("_", " "), left - 2 * MARGIN))
            table_text(ax, WIDTH - right + 0.2, y, _tendency(row), color=INK if sure else GREY)
        return save(figure, stem, [
            note,
            "Share that the field explains alone, in ranks, adjusted for chance; 95 % intervals: bootstrap of trials. "
            "Grey: not significant (permutation test of one field at a time, p of 0.05 or more). The trials are those "
            "that the search chose: this describes the search, not the whole space.",
        ])  # fmt: skip


def _head(ax: Axes, x: float, text: str) -> None:
    table_text(ax, x, -0.5 - 0.45, text, color=GREY)


def _tendency(row: Mapping[str, Any]) -> str:
    if row["p"] >= 0.05:
        return "not significant"
    if np.isnan(row["trend"]):
        return f"best on average: {row['best']}"
    arrow = "more is better" if row["trend"] > 0 else "less is better"
    return f"{arrow} ({row['trend']:+.2f}); best {row['best']}".replace("-", "−")
