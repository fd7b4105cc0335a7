"""Effects of single changes as a forest plot: difference, interval, verdict, and what the change costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.errors import BenchError
from bench.report.columns import COLUMNS, is_missing, troubles
from bench.report.figures.style import (
    BAD,
    GOOD,
    GREY,
    INK,
    MARGIN,
    NEUTRAL,
    PAPER,
    WIDTH,
    heading,
    legend_rows,
    row_axes,
    rule,
    save,
    sheet,
    shortened,
    table_text,
)

VERDICTS = {
    "better": (GOOD, "^"),
    "better, within delta": (GOOD, "s"),
    "equivalent": (INK, "s"),
    "worse, within delta": (BAD, "s"),
    "worse": (BAD, "v"),
    "undecided": (NEUTRAL, "o"),
}
SCENES = ("scenes_low", "scenes_high")
_UNJUDGED = (NEUTRAL, "d")
_PLOT = (2.35, 5.0)  # inches from the left edge: the forest stands between names and figures
_COLUMNS = {"effect": 6.55, "delta_macs": 7.2, "delta_params": 7.85}  # right edges, in inches
_HEADERS = {"effect": "points", "delta_macs": "Δ MACs", "delta_params": "Δ params"}
_ROW = 0.25  # inches


@dataclass(frozen=True)
class Line:
    """One line of the figure: a factor's header (row None) or a variant."""

    text: str
    row: dict[str, Any] | None = None
    trouble: str = ""


def draw_ablation(
    frame: pd.DataFrame, stem: Path, *, base: str = "", delta: float | None = None, title: str = "", note: str = ""
) -> list[Path]:
    """Draw the effect of every variant on macro F1, grouped by factor in the order of the frame.

    Args:
        frame: one row a change: factor, variant, effect, effect_low, effect_high (fractions), verdict (of
            `VERDICTS`); where they are known, scenes_low and scenes_high (the interval for other scenes),
            delta_macs and delta_params (counts), base (what this row is compared with, if that is not `base`),
            status and reason. A row without an effect says why.
        stem: path without an ending.
        base: what the variants are compared with, for the axis.
        delta: differences up to which networks count as equivalent, drawn as a band.
        title, note: above and beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: the frame lacks a column.
    """
    _check(frame)
    lines = _lines(frame, base)
    with sheet(WIDTH, 1.5 + _ROW * max(len(lines), 2)) as figure:
        heading(figure, title or "Effect of each change on macro F1")
        _legend(figure, frame)
        ax = row_axes(figure, len(lines), left=_PLOT[0], right=WIDTH - _PLOT[1], top=0.92, bottom=0.55)
        _prepare(ax, frame, base)
        if delta is not None:
            ax.axvspan(-100 * delta, 100 * delta, color=GREY, alpha=0.13, lw=0, zorder=0)
        for y, line in enumerate(lines):
            _draw_line(ax, y, line)
        return save(figure, stem, [note, _key(frame, delta), _troubles_note(lines)])


def _check(frame: pd.DataFrame) -> None:
    for key in ("factor", "variant", "effect", "effect_low", "effect_high", "verdict"):
        if key not in frame.columns:
            have = ", ".join(map(str, frame.columns))
            raise BenchError(f"There is no column {key!r} to draw effects from; the table has: {have}.")


def _lines(frame: pd.DataFrame, base: str) -> list[Line]:
    """Every factor's header and its variants beneath it."""
    trouble = troubles(frame)
    rows = frame.to_dict("records")
    factors = ["" if is_missing(row["factor"]) else str(row["factor"]) for row in rows]
    lines = []
    for factor in dict.fromkeys(factors):
        lines += [Line(factor)] if factor else []
        for i in (i for i, of in enumerate(factors) if of == factor):
            other = rows[i].get("base")
            name = str(rows[i]["variant"])
            name += "" if is_missing(other) or other == base else f" (to {other})"
            why = str(trouble[i]) if i in trouble else "not measured" if is_missing(rows[i]["effect"]) else ""
            lines.append(Line(name, rows[i], why))
    return lines


def _legend(figure: Figure, frame: pd.DataFrame) -> None:
    """The verdicts that occur."""
    found = [verdict for verdict in VERDICTS if verdict in set(frame["verdict"])]
    handles = [
        Line2D([], [], color=VERDICTS[v][0], marker=VERDICTS[v][1], ms=6, lw=1.6, mec=PAPER, label=v) for v in found
    ]
    legend_rows(figure, handles)


def _prepare(ax: Axes, frame: pd.DataFrame, base: str) -> None:
    """Limits, the line of no effect, column headers."""
    ax.set_xlim(*_limits(frame))
    ax.axvline(0, color=INK, lw=1.0, zorder=2)
    ax.set_xlabel(f"Difference in macro F1 to {base or 'the base'} (points)   better →")
    for key in _present(frame):
        table_text(ax, _COLUMNS[key], -0.85, _HEADERS[key], ha="right", color=GREY)
    table_text(ax, MARGIN, -0.85, "change", color=GREY)


def _present(frame: pd.DataFrame) -> list[str]:
    return [key for key in _COLUMNS if key in frame.columns]


def _limits(frame: pd.DataFrame) -> tuple[float, float]:
    """In points, around zero and all intervals."""
    keys = [key for key in ("effect", "effect_low", "effect_high", *SCENES) if key in frame.columns]
    values = frame[keys].apply(pd.to_numeric).to_numpy(float, na_value=np.nan)
    points = np.append(100 * values[np.isfinite(values)], 0.0)
    room = 0.06 * (np.ptp(points) or 2.0)
    return float(points.min() - room), float(points.max() + room)


def _draw_line(ax: Axes, y: int, line: Line) -> None:
    if line.row is None:
        table_text(ax, MARGIN, y + 0.08, line.text, fontweight="bold")
        rule(ax, y - 0.5)
        return
    table_text(ax, MARGIN + 0.15, y, shortened(line.text, _PLOT[0] - MARGIN - 0.25))
    _draw_costs(ax, y, line.row)
    if is_missing(line.row["effect"]):
        text = shortened(line.trouble, _COLUMNS["effect"] - _PLOT[0] - 0.1)
        table_text(ax, _PLOT[0] + 0.1, y, text, color=BAD, fontstyle="italic", zorder=5, backgroundcolor=PAPER)
    else:
        _draw_effect(ax, y, line)


def _draw_effect(ax: Axes, y: int, line: Line) -> None:
    row = line.row or {}
    colour, marker = VERDICTS.get(row["verdict"], _UNJUDGED)
    effect, *bounds = (row[key] for key in ("effect", "effect_low", "effect_high"))
    beyond: list[Any] = [row.get(key) for key in SCENES]
    if not any(is_missing(bound) for bound in beyond):
        ax.plot([100 * bound for bound in beyond], [y, y], color=colour, lw=0.7, alpha=0.7, zorder=2)
    if not any(is_missing(bound) for bound in bounds):
        ax.plot([100 * bound for bound in bounds], [y, y], color=colour, lw=1.8, solid_capstyle="butt", zorder=3)
    ax.plot(100 * effect, y, marker, color=colour, ms=7, mec=PAPER, mew=0.9, zorder=4)
    text = COLUMNS["effect"].style.with_interval(effect, *bounds)
    judged = row["verdict"] != "undecided"
    table_text(ax, _COLUMNS["effect"], y, text, ha="right", color=colour if judged else GREY)


def _draw_costs(ax: Axes, y: int, row: dict[str, Any]) -> None:
    for key in ("delta_macs", "delta_params"):
        if key in row:
            table_text(ax, _COLUMNS[key], y, _cost_change(key, row[key]), ha="right", color=GREY)


def _cost_change(key: str, value: Any) -> str:
    """In the column's unit; one too small for its digits, as a whole number."""
    if is_missing(value) or not value:
        return "–" if is_missing(value) else "0"
    style = COLUMNS[key].style
    text = style.text(value)
    return f"{text} {style.unit}" if any(digit in text for digit in "123456789") else f"{value:+,.0f}".replace("-", "−")


def _key(frame: pd.DataFrame, delta: float | None) -> str:
    """What the lines are."""
    said = "Thick lines: 95 % intervals that hold together, on these test images."
    if "scenes_low" in frame.columns and not frame["scenes_low"].map(is_missing).all():
        said += " Thin lines: for other scenes of this set."
    return said + (f" Grey band: differences within ±{100 * delta:g} percentage points." if delta is not None else "")


def _troubles_note(lines: list[Line]) -> str:
    """In full, what may be cut short in the plot."""
    named = [f"{line.text}: {line.trouble}" for line in lines if line.trouble]
    return f"Without a full result: {'; '.join(named)}." if named else ""
