"""Samplers compared: hypervolume over evaluations and over compute, medians with quartiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.report.figures.style import (
    GREY,
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

_PANEL = 2.7  # inches, height of a panel with its margins
_GRID = 60  # places along the axis of compute at which searches are compared


def draw_contest(
    runs: pd.DataFrame, samplers: Sequence[str], models: Sequence[str], truths: Mapping[str, str], stem: Path, note: str
) -> list[Path]:
    """Draw two panels a surrogate: hypervolume by evaluations, and by the compute of the trainings.

    Args:
        runs: one row a search: model, sampler, hypervolume and macs (lists, an entry an evaluation).
        samplers, models: in the order in which they are shown.
        truths: model -> what it is called.
        stem: path without an ending.
        note: beneath the figure.

    Returns:
        The figure's files.
    """
    named = [sampler for sampler in samplers if sampler in set(runs["sampler"])]
    colours = {sampler: SIGNS[i % len(SIGNS)][0] for i, sampler in enumerate(named)}
    shown = [model for model in models if model in set(runs["model"])]
    with sheet(WIDTH, 1.0):
        above = 0.5 + legend_height(legend_places(named, WIDTH))
    with sheet(WIDTH, above + _PANEL * len(shown)) as figure:
        heading(figure, "Hypervolume found, by evaluations and by compute")
        legend_rows(figure, [Line2D([], [], color=colours[name], lw=1.8, label=name) for name in named])
        for row, model in enumerate(shown):
            own = runs[runs["model"] == model]
            places = {"top": above + 0.32 + row * _PANEL, "bottom": 0.5 + (len(shown) - 1 - row) * _PANEL}
            left = axes(figure, left=0.75, right=WIDTH / 2 + 0.1, **places)
            right = axes(figure, left=WIDTH / 2 + 0.6, right=0.15, **places)
            left.set_title(f"F1 from {truths[model]}", loc="left", fontsize=SMALL, color=GREY)
            _by_evaluations(left, own, colours)
            _by_compute(right, own, colours)
        return save(figure, stem, [note])


def _by_evaluations(ax: Axes, runs: pd.DataFrame, colours: Mapping[str, str]) -> None:
    for sampler, colour in colours.items():
        curves = runs[runs["sampler"] == sampler]["hypervolume"]
        if len(curves):
            values = 100 * np.array(curves.tolist())
            _band(ax, np.arange(1, values.shape[1] + 1), values, colour)
    ax.set_xscale("log")
    ax.set_xlim(left=5)
    ax.set_xticks([5, 10, 25, 50, 100, 200], ["5", "10", "25", "50", "100", "200"])
    ax.minorticks_off()
    ax.set_xlabel("evaluations")
    ax.set_ylabel("hypervolume (points × GMACs)   better →", fontsize=SMALL)
    ax.set_ylim(bottom=_floor(runs))


def _by_compute(ax: Axes, runs: pd.DataFrame, colours: Mapping[str, str]) -> None:
    most = max((macs[-1] for macs in runs["macs"]), default=1.0)
    places = np.geomspace(most / 120, most, _GRID)
    for sampler, colour in colours.items():
        own = runs[runs["sampler"] == sampler]
        if own.empty:
            continue
        within = places[places <= min(macs[-1] for macs in own["macs"])]
        values = 100 * np.array(
            [_at(macs, curve, within) for macs, curve in zip(own["macs"], own["hypervolume"], strict=True)]
        )
        _band(ax, within / 1e9, values, colour)
    ax.set_xscale("log")
    ax.set_xlabel("GMACs of the configs trained, summed")
    ax.set_ylim(bottom=_floor(runs))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()


def _at(macs: Sequence[float], curve: Sequence[float], places: np.ndarray) -> np.ndarray:
    """The hypervolume after so much compute."""
    last = np.searchsorted(np.asarray(macs), places, side="right") - 1
    return np.where(last >= 0, np.asarray(curve)[np.maximum(last, 0)], 0.0)


def _band(ax: Axes, x: np.ndarray, values: np.ndarray, colour: str) -> None:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    ax.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
    ax.plot(x, middle, color=colour, lw=1.8)


def _floor(runs: pd.DataFrame) -> float:
    """The axis begins near the lowest value after ten evaluations."""
    tenth = [100 * curve[min(9, len(curve) - 1)] for curve in runs["hypervolume"]]
    return 0.8 * float(np.min(tenth))
