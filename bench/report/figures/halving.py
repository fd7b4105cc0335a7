"""How well each rung of successive halving, and each ranking that costs nothing, ranks candidates as the last rung."""

from pathlib import Path

import numpy as np
import pandas as pd

from bench.report.figures.style import (
    GREY,
    INK,
    MARGIN,
    NEUTRAL,
    WIDTH,
    heading,
    row_axes,
    rule,
    save,
    sheet,
    shortened,
    table_text,
)

_ROW = 0.3  # inches


def draw_halving(rungs: pd.DataFrame, stem: Path, *, title: str = "", note: str = "") -> list[Path]:
    """Draw Kendall's tau of each rung against the last, with its interval (see `bench.search.halving`).

    Args:
        rungs: rung, trained, tau, low, high, pairs; the rungs first, then what needs no training.
        stem: path without an ending.
        title, note: above and beneath the figure.

    Returns:
        The figure's files; nothing where no rung could be judged.
    """
    judged = rungs[rungs["tau"].notna()].reset_index(drop=True)
    if judged.empty:
        return []
    left, right = 2.3, 1.6
    with sheet(WIDTH, 1.3 + _ROW * len(judged)) as figure:
        heading(figure, title or "How well each rung ranks candidates as the last one does")
        ax = row_axes(figure, len(judged), left=left, right=right, top=0.75, bottom=0.55)
        ax.set_xlim(min(-0.25, judged["low"].min() - 0.05), 1.05)
        ax.axvline(0, color=GREY, lw=1.0, zorder=1)
        ax.set_xlabel("Kendall's τ against the last rung   better →")
        table_text(ax, MARGIN, -0.9, "ranked by", color=GREY)
        table_text(ax, WIDTH - right + 0.2, -0.9, "trained", color=GREY)
        for y, row in enumerate(judged.to_dict("records")):
            rule(ax, y + 0.5)
            colour = INK if row["steps"] else NEUTRAL
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.3, zorder=2)
            ax.plot(row["tau"], y, "o", color=colour, ms=6.5, zorder=3)
            table_text(ax, MARGIN, y, shortened(str(row["rung"]), left - 2 * MARGIN))
            table_text(ax, WIDTH - right + 0.2, y, f"{row['trained']}" if row["steps"] else "none", color=colour)
        pairs = int(np.max(judged["pairs"]))
        return save(figure, stem, [note, (
            f"On {pairs} candidates drawn at random, which were trained at every rung whether promoted or not; 95 % "
            "intervals by resampling them. A rung whose ranking is no better than that by parameters or MACs is "
            "not worth its steps."
        )])  # fmt: skip
