"""Names beside the points of finished axes, with a thin line where a name stands away from its point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from bench.report.figures.fonts import drawn
from bench.report.figures.style import INK, SMALL

_STEPS = 400  # of the placement: a limit in time would make the outcome depend on the machine


def annotate(ax: Axes, points: np.ndarray, texts: Sequence[str], named: Sequence[int]) -> None:
    """Label some of the points on axes whose limits and scales do not change any more.

    Args:
        ax: the axes.
        points: (n, 2) all markers, in data coordinates; labels keep off them.
        texts: n names.
        named: indices of the points that get their label.
    """
    from adjustText import adjust_text  # with pyplot, so only once something is drawn

    if not len(named):
        return
    labels = [_label(ax, points[i], texts[i]) for i in named]
    adjust_text(
        labels,
        x=points[:, 0],
        y=points[:, 1],
        ax=ax,
        iter_lim=_STEPS,
        expand=(1.15, 1.5),
        force_text=(0.2, 0.3),
        min_arrow_len=14,
        arrowprops={"arrowstyle": "-", "color": "#9aa5b1", "lw": 0.6, "zorder": 3},
    )


def _label(ax: Axes, point: np.ndarray, text: str) -> object:
    return ax.text(
        point[0],
        point[1],
        drawn(text),
        fontsize=SMALL,
        fontweight="bold",
        color=INK,
        zorder=6,
        path_effects=[withStroke(linewidth=2.2, foreground=(1, 1, 1, 0.75))],  # legible across lines
        gid=f"label:{text}",  # in an SVG, text with an effect is outlines only
    )
