"""Names beside the points of finished axes, with a thin line where a name stands away from its point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation

from bench.report.figures.placement import Scene, place
from bench.report.figures.style import GREY, INK, SMALL

_PADDING = 1.5  # points on each side of a text that stay free
_NEAR = 0.45  # a label closer than this many of its heights needs no line to its point


def annotate(
    ax: Axes,
    points: np.ndarray,
    texts: Sequence[str],
    *,
    strong: Sequence[bool],
    radius: float,
    obstacles: np.ndarray | None = None,
    lines: np.ndarray | None = None,
) -> list[int]:
    """Label points on axes whose limits and scales do not change any more.

    Args:
        ax: the axes.
        points: (n, 2) in data coordinates.
        texts: n labels.
        strong: n, which labels are emphasised.
        radius: half the width of a marker, in typographic points.
        obstacles: (m, 2) further markers that no label may cover, in data coordinates.
        lines: (k, 4) segments x0, y0, x1, y1 to leave free where that is cheap, in data coordinates.

    Returns:
        Indices of the labels that found no room and are not drawn: say so elsewhere.
    """
    pixel = ax.get_figure().dpi / 72
    artists = [_text(ax, point, text, bold) for point, text, bold in zip(points, texts, strong, strict=True)]
    renderer = FigureCanvasAgg(ax.get_figure()).get_renderer()
    sizes = np.array([artist.get_window_extent(renderer).size for artist in artists]).reshape(-1, 2)
    scene = Scene(
        anchors=_to_pixels(ax, points, 2),
        sizes=sizes + 2 * _PADDING * pixel,
        frame=np.array(ax.get_window_extent(renderer).padded(-2 * pixel).extents),
        radius=radius * pixel,
        obstacles=_to_pixels(ax, obstacles, 2),
        lines=_to_pixels(ax, lines, 4),
    )
    boxes = place(scene)
    for artist, anchor, box in zip(artists, scene.anchors, boxes, strict=True):
        if box is None:
            artist.remove()
        else:
            _settle(artist, (box - np.tile(anchor, 2)) / pixel, radius)
    return [i for i, box in enumerate(boxes) if box is None]


def _text(ax: Axes, point: np.ndarray, text: str, bold: bool) -> Annotation:
    return ax.annotate(
        text,
        point,
        xytext=(0, 0),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=SMALL,
        fontweight="bold" if bold else "normal",
        color=INK if bold else GREY,
        zorder=6,
        path_effects=[withStroke(linewidth=2.2, foreground=(1, 1, 1, 0.75))],  # legible across lines
        gid=f"label:{text}",  # in an SVG, text with an effect is outlines only
    )


def _settle(artist: Annotation, box: np.ndarray, radius: float) -> None:
    """Move a text into its box (4,), in points from its anchor, and join the two where they stand apart."""
    artist.set_position(tuple(box[:2] + _PADDING))
    end = np.clip(0, box[:2] + _PADDING, box[2:] - _PADDING)
    if np.linalg.norm(end) > radius + _NEAR * (box[3] - box[1]):
        ax = artist.axes
        ax.annotate(
            "",
            artist.xy,
            xytext=tuple(end),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "#9aa5b1", "lw": 0.6, "shrinkA": 0, "shrinkB": radius},
            zorder=3,
        )


def _to_pixels(ax: Axes, coordinates: np.ndarray | None, width: int) -> np.ndarray:
    flat = np.zeros((0, 2)) if coordinates is None else np.reshape(coordinates, (-1, 2))
    return ax.transData.transform(flat).reshape(-1, width)
