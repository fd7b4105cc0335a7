"""What a search has found, and how fast: its trials with their front and budget, its hypervolume trial by trial."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bench.report.columns import Column, column, is_missing, troubles
from bench.report.figures.scatter import annotate, apply_scale, draw_staircase, printed, staircase_corners
from bench.report.figures.style import (
    BAD,
    GREY,
    INK,
    PAPER,
    SIGNS,
    SMALL,
    WIDTH,
    axes,
    heading,
    legend_rows,
    save,
    sheet,
)
from bench.stats.pareto import hypervolume_trace, pareto_front

_TIME = LinearSegmentedColormap.from_list("time", ["#cfe3f1", "#5aa0cf", "#08527f"])
_KNOWN = "#e69f00"


def draw_search(
    frame: pd.DataFrame,
    x: str,
    stem: Path,
    *,
    y: str = "f1",
    limit: float | None = None,
    title: str = "",
    note: str = "",
) -> list[Path]:
    """Draw every trial of a search, the front among them, the configs that were known before, and the budget.

    Args:
        frame: one row a trial in the order of the search: variant, x and y in raw units, and where they are
            known `known` (true for a config that was enqueued, or its name), status and reason. Trials without
            a value stand as ticks on the lower edge at their cost.
        x, y: keys of `bench.report.columns.COLUMNS`.
        stem: path without an ending.
        limit: the budget of x in raw units; what lies beyond is shaded.
        title, note: above and beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: an unknown column, or one that is not in the frame.
    """
    xc, yc = column(x), _searched(y)
    front = pareto_front(frame, x, y, xc.better or "low", yc.better or "high")
    xs, ys = printed(frame, xc), printed(frame, yc)
    with sheet(WIDTH, 4.9) as figure:
        heading(figure, title or f"Search: {len(frame)} trials")
        legend_rows(figure, _legend(frame, xs, ys, limit))
        ax = axes(figure, left=0.75, right=0.95, top=0.72, bottom=0.58)
        edge = None if limit is None else limit * xc.style.scale
        apply_scale(ax, "x", np.append(xs, [] if edge is None else edge), xc, room=0.11)
        apply_scale(ax, "y", ys, yc)
        _shade_budget(ax, edge, xc)
        draw_staircase(ax, staircase_corners(ax, frame, xc, yc, edge))
        _draw_trials(figure, ax, xs, ys, front, _known(frame))
        _label_trials(ax, frame, xs, ys, front)
        return save(figure, stem, [note, _failures(frame)])


def draw_hypervolume(
    frame: pd.DataFrame, x: str, stem: Path, *, reference: tuple[float, float], note: str = ""
) -> list[Path]:
    """Draw how the hypervolume of F1 and a cost grew from trial to trial, with the configs that were known marked.

    Args:
        frame: one row a trial, in the order of the trials; see `draw_search`.
        x: the cost, of `bench.report.columns.COLUMNS`.
        stem: path without an ending.
        reference: (x, F1) in raw units, worse than all that counts, chosen before the search: with another one, other
            figures come out.
        note: beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: a column is missing.
    """
    xc, yc, known = column(x), _searched("f1"), _known(frame)
    trace = hypervolume_trace(frame, x, "f1", reference, xc.better or "low", yc.better or "high")
    trace *= xc.style.scale * yc.style.scale
    with sheet(WIDTH, 3.4) as figure:
        heading(figure, "Hypervolume by trial")
        ax = axes(figure, left=0.85, right=0.2, top=0.5, bottom=0.55)
        ax.step(np.arange(1, len(trace) + 1), trace, where="post", color=SIGNS[0][0], lw=1.6)
        ax.plot(np.flatnonzero(known) + 1, trace[known], "*", color=_KNOWN, ms=9, mec=PAPER, mew=0.7, zorder=5)
        ax.set_xlabel("Trials")
        ax.set_ylabel(f"Hypervolume ({yc.style.unit} × {xc.style.unit})   better →")
        ax.set_ylim(bottom=0)
        ax.set_xlim(left=0)
        corner = f"{xc.title} {xc.style.text(reference[0])}, {yc.title} {yc.style.text(reference[1])}"
        orange = "Orange: configs that were known before." if known.any() else ""
        return save(figure, stem, [note, f"Reference point: {corner}. {orange}"])


def _searched(key: str) -> Column:
    """A search sees no test tiles: its F1 is that of the validation tiles, and is called so."""
    found = column(key)
    return replace(found, header=f"{found.header} on validation tiles") if key in ("f1", "iou") else found


def _known(frame: pd.DataFrame) -> np.ndarray:
    if "known" not in frame.columns:
        return np.zeros(len(frame), bool)
    return np.array([not is_missing(value) and bool(value) for value in frame["known"]], dtype=bool)


def _legend(frame: pd.DataFrame, xs: np.ndarray, ys: np.ndarray, limit: float | None) -> list[Line2D | Patch]:
    """Only what the figure holds."""
    trial: dict[str, Any] = {"color": _TIME(0.6), "ls": "", "mec": PAPER}
    handles: list[Line2D | Patch] = [Line2D([], [], marker="o", ms=6, label="trial", **trial)]
    if _known(frame).any():
        handles.append(Line2D([], [], marker="*", ms=10, label="known before", **(trial | {"color": _KNOWN})))
    handles.append(Line2D([], [], color=INK, lw=1.1, alpha=0.75, label="Pareto front"))
    if (np.isfinite(xs) & ~np.isfinite(ys)).any():
        handles.append(Line2D([], [], color=BAD, marker="|", ls="", ms=8, mew=1.4, label="failed, at its cost"))
    if limit is not None:
        handles.append(Patch(facecolor="#fbeee3", label="beyond the budget"))
    return handles


def _shade_budget(ax: Axes, edge: float | None, xc: Column) -> None:
    if edge is not None:
        end = ax.get_xlim()[0 if xc.better == "high" else 1]
        ax.axvspan(edge, end, color="#fbeee3", lw=0, zorder=0.45)
        ax.axvline(edge, color=BAD, lw=1.0, ls=(0, (4, 3)), zorder=1.5)


def _draw_trials(
    figure: Figure, ax: Axes, xs: np.ndarray, ys: np.ndarray, front: np.ndarray, known: np.ndarray
) -> None:
    """Points coloured by when they came; known configs as stars; failures on the edge."""
    numbers = np.arange(1, len(xs) + 1)
    looks: dict[str, Any] = {"cmap": _TIME, "vmin": 1, "vmax": max(len(xs), 2)}
    points: Any = None
    for member in (False, True):
        chosen = (front == member) & ~known
        points = ax.scatter(xs[chosen], ys[chosen], c=numbers[chosen], s=62 if member else 40, linewidths=1.0,
                            edgecolors=INK if member else PAPER, zorder=4 + member, **looks)  # fmt: skip
    edges: Any = [INK if member else PAPER for member in front[known]]
    ax.scatter(xs[known], ys[known], c=_KNOWN, s=150, marker="*", linewidths=0.9, edgecolors=edges or None, zorder=5.5)
    failed = np.isfinite(xs) & ~np.isfinite(ys)
    ax.plot(xs[failed], np.zeros(failed.sum()), "|", color=BAD, ms=12, mew=1.4, clip_on=False,
            transform=ax.get_xaxis_transform(), zorder=6)  # fmt: skip
    _time_bar(figure, ax, points)


def _time_bar(figure: Figure, ax: Axes, points: Any) -> None:
    box = ax.get_position()
    bar_axes = figure.add_axes((box.x1 + 0.025, box.y0, 0.014, box.height * 0.55))
    bar: Any = figure.colorbar(points, cax=bar_axes, ticks=MaxNLocator(5, integer=True))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.ax.set_title("trial", fontsize=SMALL, color=GREY, loc="left", pad=5)


def _label_trials(ax: Axes, frame: pd.DataFrame, xs: np.ndarray, ys: np.ndarray, front: np.ndarray) -> None:
    """Names of the front's members and of the known configs."""
    shown = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
    points, texts = np.stack([xs, ys], axis=1)[shown], [_name(frame, i) for i in shown.tolist()]
    annotate(ax, points, texts, np.flatnonzero((front | _known(frame))[shown]).tolist())


def _name(frame: pd.DataFrame, i: int) -> str:
    """The known config's own name where it has one."""
    known = frame["known"].iloc[i] if "known" in frame.columns else None
    return known if isinstance(known, str) and known else str(frame["variant"].iloc[i])


def _failures(frame: pd.DataFrame) -> str:
    """How many failed, and of what, each reason once."""
    found = [str(trouble) for trouble in troubles(frame).values()]
    counts = {text: found.count(text) for text in dict.fromkeys(found)}
    return " ".join(f"{count} × {text}." for text, count in counts.items())
