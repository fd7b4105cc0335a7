"""A tabulated benchmark: F1 over cost, and the surrogate's predictions over the trained F1."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.report.columns import column
from bench.report.figures.scatter import apply_scale
from bench.report.figures.style import GOOD, GREY, INK, PAPER, WIDTH, axes, heading, save, sheet
from studies.tabulated.benchmark import SURROGATES


def draw_tabulated(
    table: pd.DataFrame, predicted: np.ndarray, f1: np.ndarray, noise: float, fit: Any, stem: Path
) -> list[Path]:
    """Draw F1 over MACs, and held-out predictions over trained F1.

    Args:
        table: one row a training.
        predicted, f1: (configs,) 0 to 1, in the order in which configs first appear.
        noise: standard deviation between trainings of the typical config.
        fit: the errors of the surrogate, see `studies.tabulated.benchmark.Fit`.
        stem: path without an ending.

    Returns:
        The figure's files.
    """
    with sheet(WIDTH, 3.9) as figure:
        heading(figure, f"{len(f1)} configs of LALE, trained, and a surrogate over them")
        left = axes(figure, left=0.75, right=WIDTH / 2 + 0.1, top=0.55, bottom=0.58)
        macs, score = column("macs"), column("f1")
        xs = table["macs"].to_numpy(float) * macs.style.scale
        ys = table["f1"].to_numpy(float) * 100
        left.plot(xs, ys, "o", color=GOOD, ms=4, mec=PAPER, mew=0.4, alpha=0.8)
        apply_scale(left, "x", xs, macs, room=0.04)
        apply_scale(left, "y", ys, score, room=0.04)
        left.set_ylabel("F1 on validation tiles (%)   better →")
        right = axes(figure, left=WIDTH / 2 + 0.75, right=0.15, top=0.55, bottom=0.58)
        _agreement(right, predicted, f1, noise)
        note = (
            f"Right: each config predicted by a {SURROGATES[fit.model]} fitted without it; R² {fit.r2:.2f}, RMSE "
            f"{100 * fit.rmse:.2f} points, Kendall's τ {fit.tau:.2f}. Band: ± two standard deviations between "
            "trainings of the typical config."
        )
        return save(figure, stem, [note])


def _agreement(ax: Axes, predicted: np.ndarray, f1: np.ndarray, noise: float) -> None:
    ends = np.array([min(predicted.min(), f1.min()), max(predicted.max(), f1.max())]) * 100
    ends += np.array([-1, 1]) * 0.04 * np.ptp(ends)
    band = 200 * noise
    ax.fill_between(ends, ends - band, ends + band, color="#e8eef4", lw=0, zorder=0.5)
    ax.plot(ends, ends, color=GREY, lw=0.9, zorder=1)
    ax.plot(100 * f1, 100 * predicted, "o", color=INK, ms=3.6, mec=PAPER, mew=0.4, alpha=0.75, zorder=2)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_xlabel("F1 trained (%)")
    ax.set_ylabel("F1 predicted (%)")
