"""How cost grows with the side of the image: four panels over one axis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.report.figures.style import (
    GREY,
    PAPER,
    SIGNS,
    SMALL,
    WIDTH,
    axes,
    heading,
    legend_height,
    legend_places,
    legend_rows,
    save,
    sheet,
)

_PANEL = 2.45  # inches, height of a panel with its margins
_LINES = ("-", "--")
SHORT_AXIS = 100  # an axis that spans less is marked at 2 and 5 too

Values = Callable[[pd.DataFrame], pd.Series]
PANELS: tuple[tuple[str, Values, bool], ...] = (
    ("MACs a pixel (thousands)", lambda rows: rows["macs"] / rows["side"] ** 2 / 1e3, True),
    ("attention products, share of the MACs (%)", lambda rows: 100 * rows["attention_share"], False),
    ("peak activation memory (MiB)", lambda rows: rows["peak_activation_bytes"] / 2**20, True),
    ("latency (ms)", lambda rows: rows["latency_ms"], True),
)


def draw_scaling(points: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw MACs a pixel, the share of attention, peak memory and latency over the side, batch 1.

    Args:
        points: one row a measurement; see `studies.scaling.report.points_frame`.
        stem: path without an ending.

    Returns:
        The figure's files.
    """
    rows = points[(points["batch"] == 1) & points["macs"].notna()].sort_values("side")
    variants = [v for v in dict.fromkeys(points["variant"]) if v in set(rows["variant"])]
    looks: dict[str, dict[str, Any]] = {variant: _look(i) for i, variant in enumerate(variants)}
    with sheet(WIDTH, 1.0):  # texts are measured in the style of a sheet
        above = 0.5 + legend_height(legend_places(variants, WIDTH))
    height = above + 2 * _PANEL
    with sheet(WIDTH, height) as figure:
        heading(figure, "Growth with the side of the image")
        legend_rows(figure, [Line2D([], [], label=variant, ms=5, mec=PAPER, **looks[variant]) for variant in variants])
        for i, (title, values, log) in enumerate(PANELS):
            row, column = divmod(i, 2)
            ax = axes(
                figure,
                left=0.65 + column * WIDTH / 2,
                right=0.15 + (1 - column) * WIDTH / 2,
                top=above + 0.32 + row * _PANEL,
                bottom=0.5 + (1 - row) * _PANEL,
            )
            _panel(ax, title, rows, values, log, looks)
        return save(figure, stem, [_note(points)])


def _look(i: int) -> dict[str, str]:
    colour, marker = SIGNS[i % len(SIGNS)]
    return {"color": colour, "marker": marker, "ls": _LINES[i // len(SIGNS) % 2]}


def _panel(ax: Axes, title: str, rows: pd.DataFrame, values: Values, log: bool, looks: dict) -> None:
    for variant, look in looks.items():
        own = rows[rows["variant"] == variant]
        shown = values(own)
        kept = shown.notna()
        ax.plot(own["side"][kept], shown[kept].astype(float), lw=1.4, ms=4.5, mec=PAPER, mew=0.5, **look)
    sides = sorted(set(rows["side"]))
    ax.set_xscale("log", base=2)
    ax.set_xlim(sides[0] / 1.15, sides[-1] * 1.15)
    ax.set_xticks(sides, [str(side) for side in sides])
    if log and values(rows).notna().any():
        ax.set_yscale("log")
        shown = values(rows).dropna().astype(float)
        few = shown.max() / shown.min() < SHORT_AXIS
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif not log:
        ax.axhline(50, color=GREY, lw=0.8, ls=":")
        ax.set_ylim(-3, 103)
    ax.minorticks_off()
    ax.set_title(title, loc="left", fontsize=SMALL, color=GREY)
    ax.set_xlabel("side (pixels)", fontsize=SMALL)


def _note(points: pd.DataFrame) -> str:
    absent = points[points["reason"] != ""].drop_duplicates("variant")
    parts = [f"{row.variant} at {row.side} px: {row.reason}" for row in absent.itertuples()]
    flat = "A flat line of MACs a pixel is a cost that is linear in the pixels."
    return f"{flat} Batch 1. Networks tied to a size are rebuilt for each." + (
        f" Not applicable: {'; '.join(parts)}." if parts else ""
    )
