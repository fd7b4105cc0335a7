"""Published figures and our counts: their deviation, and the share of the device's peak that each rate needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bench.report.figures.style import (
    BAD,
    GOOD,
    GREY,
    INK,
    MARGIN,
    NEUTRAL,
    PAPER,
    SMALL,
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
from studies.claims.judgement import CONFIRMED, IMPOSSIBLE, UNCONFIRMED

_ROW = 0.2  # inches
_LEFT, _RIGHT = 4.75, 0.75  # inches beside the axes: names, and printed figures
_HEAD, _FOOT = 0.85, 0.6
_STRIP = 0.36  # inches of a paper's strip
_LIMIT = 0.01  # percent: deviations below are drawn as if they were equal
SIGNS = {CONFIRMED: (GOOD, "o"), UNCONFIRMED: (BAD, "D")}
METRICS = {"params": "parameters", "macs": "MACs", "storage": "storage"}


def draw_claims(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw `stem-counts` (published over ours, by paper and quantity) and `stem-rates` (share of the peak).

    Args:
        frame: one row a published figure; see `studies.claims.report.claims_frame`.
        stem: path without an ending; a part without any figure is left out.

    Returns:
        The PNGs and SVGs.
    """
    counts = frame[(frame["kind"] == "table") & frame["verdict"].isin(SIGNS)]
    rates = frame[(frame["kind"] == "table") & frame["share"].notna()]
    files = _draw_counts(counts, stem.with_name(f"{stem.name}-counts")) if len(counts) else []
    return files + (_draw_rates(rates, stem.with_name(f"{stem.name}-rates")) if len(rates) else [])


def _draw_counts(counts: pd.DataFrame, stem: Path) -> list[Path]:
    groups = [
        (paper, metric, counts[(counts["paper"] == paper) & (counts["metric"] == metric)])
        for paper in dict.fromkeys(counts["paper"])
        for metric in METRICS
    ]
    groups = [group for group in groups if len(group[2])]
    with sheet(WIDTH, _HEAD + _FOOT + _STRIP * len(groups)) as figure:
        heading(figure, "Published counts and ours")
        handles = [
            Line2D([], [], color=colour, marker=marker, ls="", ms=6, mec=PAPER, label=verdict)
            for verdict, (colour, marker) in SIGNS.items()
        ]
        legend_rows(figure, handles)
        ax = row_axes(figure, len(groups), left=2.0, right=1.5, top=_HEAD, bottom=_FOOT)
        _prepare_counts(ax)
        for y, (paper, metric, rows) in enumerate(groups):
            first = y == 0 or groups[y - 1][0] != paper
            _strip(ax, y, paper if first else "", metric, rows)
        note = "Ours is the nearest of the counters in use. Within 0.01 % is drawn at 0; points are spread vertically."
        return save(figure, stem, [note])


def _prepare_counts(ax: Axes) -> None:
    ax.set_xscale("symlog", linthresh=_LIMIT, linscale=0.35)
    ax.set_xlim(-60, 60)
    ticks = [-10, -1, -0.1, 0, 0.1, 1, 10]
    ax.set_xticks(ticks, [f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("published − ours (%)")
    ax.axvline(0, color=INK, lw=1.0, zorder=1)


def _strip(ax: Axes, y: int, paper: str, metric: str, rows: pd.DataFrame) -> None:
    """The deviations of one paper and quantity, with how many are confirmed."""
    away = 100 * (rows["number"] / rows["ours"].astype(float) - 1)
    away = away.where(away.abs() >= _LIMIT, 0.0).clip(-55, 55)
    spread = np.linspace(-0.24, 0.24, len(rows)) if len(rows) > 1 else np.zeros(1)
    for verdict, (colour, marker) in SIGNS.items():
        chosen = (rows["verdict"] == verdict).to_numpy()
        looks: dict[str, Any] = {"s": 30, "edgecolors": PAPER, "linewidths": 0.5, "zorder": 3}
        looks |= {"color": colour, "marker": marker}
        ax.scatter(away[chosen], y + spread[chosen], **looks)
    confirmed = int((rows["verdict"] == CONFIRMED).sum())
    table_text(ax, MARGIN, y, paper, fontweight="bold")
    table_text(ax, 0.95, y, METRICS[metric], color=GREY)
    table_text(ax, WIDTH - MARGIN, y, f"{confirmed} of {len(rows)} confirmed", ha="right", color=GREY)
    if paper and y:
        rule(ax, y - 0.5)


def _draw_rates(rates: pd.DataFrame, stem: Path) -> list[Path]:
    rows = rates.sort_values("share", ascending=False).to_dict("records")
    with sheet(WIDTH, _HEAD + _FOOT + _ROW * len(rows)) as figure:
        heading(figure, "Share of the device's peak that the published rates need")
        ax = row_axes(figure, len(rows), left=_LEFT, right=_RIGHT, top=0.5, bottom=_FOOT)
        ax.spines["left"].set_visible(True)
        shares = [100 * row["share"] for row in rows]
        ax.set_xscale("log")
        ax.set_xlim(min(shares) / 1.6, max(max(shares), 100) * 1.6)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_xlabel("share of the data sheet's peak (%)")
        ax.axvspan(100, ax.get_xlim()[1], color=BAD, alpha=0.10, lw=0)
        ax.axvline(100, color=BAD, lw=1.2)
        for y, row in enumerate(rows):
            _bar(ax, y, row)
        note = (
            "Two operations for each exact MAC of the published images a second, against the data sheet of the device. "
            "A share below 100 % is possible, not confirmed."
        )
        return save(figure, stem, [note])


def _bar(ax: Axes, y: int, row: dict) -> None:
    share = 100 * row["share"]
    colour = BAD if row["verdict"] == IMPOSSIBLE else NEUTRAL
    ax.barh(y, share - ax.get_xlim()[0], left=ax.get_xlim()[0], height=0.68, color=colour, zorder=2)
    table_text(ax, MARGIN, y, row["system"])
    table_text(ax, 2.15, y, shortened(str(row["device"]).removeprefix("NVIDIA "), 1.8), color=GREY)
    table_text(ax, _LEFT - 0.08, y, row["published"].split()[0], ha="right", color=GREY)
    text = f"{share:,.0f} %" if share >= 10 else f"{share:.2g} %"
    weight = "bold" if row["verdict"] == IMPOSSIBLE else "normal"
    table_text(ax, WIDTH - MARGIN, y, text, ha="right", fontsize=SMALL, fontweight=weight, color=colour)
