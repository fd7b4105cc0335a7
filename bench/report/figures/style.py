"""How all figures look, and how they are saved."""

import io
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox, blended_transform_factory

from bench.records.atomic import with_ending, write_atomically
from bench.report.figures.fonts import drawn, families
from bench.report.formats import FIGURES, chosen
from bench.report.markup import one_line

INK, GREY, FAINT, PAPER = "#1f2933", "#5f6b7a", "#e3e7ec", "#ffffff"
GOOD, BAD, NEUTRAL = "#0072b2", "#c8500a", "#8a94a3"  # blue and orange: told apart by every kind of eye
DPI = 200
WIDTH = 8.0  # inches: 800 px of a README page at twice the resolution
MARGIN = 0.15
SMALL, TEXT, TITLE = 8.5, 9.5, 11.5  # points

_LEGEND_ROW = 0.2  # inches
_UNDATED: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

# Okabe and Ito's palette without its yellow, which vanishes on white; a marker each, for print without colour.
SIGNS = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
    ("#e69f00", "v"),
    ("#56b4e9", "<"),
    ("#1f2933", "X"),
)

_STYLE: dict[str, Any] = {
    "font.size": TEXT,
    "text.color": INK,
    "text.hinting": "no_hinting",  # a text is as wide in the PNG as in the SVG
    "text.parse_math": False,  # a dollar sign in a name or a reason is a dollar sign
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": "#9aa5b1",
    "ytick.color": "#9aa5b1",
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "hatch.linewidth": 0.6,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.hashsalt": "bench",
    "svg.fonttype": "path",  # a reader's fonts would be wider or narrower than the room made for each text
}


@contextmanager
def sheet(width: float, height: float) -> Iterator[Figure]:
    """A blank figure of so many inches, with our style while the block lasts and none of it after."""
    untouched: dict[Any, Any] = {key: value for key, value in mpl.rcParamsDefault.items() if "backend" not in key}
    with mpl.rc_context(untouched | _STYLE | {"font.family": families()}):
        figure = Figure(figsize=(width, height), facecolor=PAPER)
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, stem: Path, notes: Iterable[str] = ()) -> list[Path]:
    """Write `stem.png`, and whatever else `bench.report.formats` asks for, without dates or versions in them.

    The notes, a paragraph each, are small print that is added below the sheet. Call it inside the `sheet` block.
    """
    for text in figure.findobj(Text):
        text.set_text(drawn(text.get_text()))
    below = _write_below(figure, notes)
    width, height = figure.get_size_inches()
    page = Bbox([[0, -below], [width, height]])
    paths = []
    for ending in chosen(FIGURES):
        content = io.BytesIO()
        figure.savefig(content, format=ending, metadata=_UNDATED[ending], bbox_inches=page)
        paths.append(write_atomically(with_ending(stem, ending), content.getvalue()))
    return paths


def _write_below(figure: Figure, notes: Iterable[str]) -> float:
    """Put the notes beneath the sheet's lower edge; returns how many inches they take."""
    width = figure.get_size_inches()[0]
    lines = wrapped(notes, width - 2 * MARGIN)
    if not lines:
        return 0.0
    figure.text(MARGIN / width, 0, "\n".join(lines), fontsize=SMALL, color=GREY, ha="left", va="top", linespacing=1.4)
    return 0.17 * len(lines) + MARGIN


def axes(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes with margins in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(box)


def row_axes(figure: Figure, rows: int, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes beside a table, margins in inches: a row for each of its lines, the first on top; no scale of y."""
    ax = axes(figure, left, right, top, bottom)
    ax.set_ylim(max(rows, 1) - 0.5, -0.5)
    ax.tick_params(axis="y", left=False, labelleft=False)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False, axis="y")
    return ax


def figure_of(ax: Axes) -> Figure:
    """The sheet that axes stand on."""
    found = ax.get_figure(root=True)
    assert isinstance(found, Figure)
    return found


def heading(figure: Figure, title: str) -> None:
    """The title, at the top left corner."""
    width, height = figure.get_size_inches()
    figure.text(
        MARGIN / width, 1 - MARGIN / height, drawn(title), fontsize=TITLE, fontweight="bold", ha="left", va="top"
    )


def legend_rows(figure: Figure, handles: Sequence[Artist]) -> float:
    """A legend in rows beneath the heading, each as full as the width allows; returns its height in inches."""
    width, height = figure.get_size_inches()
    places = legend_places([str(handle.get_label()) for handle in handles], width)
    for handle, (x, row) in zip(handles, places, strict=True):
        handle.set_label(drawn(str(handle.get_label())))
        figure.legend(
            handles=[handle],
            loc="center left",
            bbox_to_anchor=(x / width, 1 - (0.5 + _LEGEND_ROW * row) / height),
            borderpad=0,
            borderaxespad=0,
            handlelength=1.4,
            handletextpad=0.5,
        )
    return legend_height(places)


def legend_places(labels: Sequence[str], width: float) -> list[tuple[float, int]]:
    """Inches from the left edge and row of each entry of a legend on a sheet so many inches wide."""
    places, x, row = [], MARGIN, 0
    for label in labels:
        entry = text_size(label, SMALL)[0] + 0.4
        if x > MARGIN and x + entry > width - MARGIN:
            x, row = MARGIN, row + 1
        places.append((x, row))
        x += entry
    return places


def legend_height(places: Sequence[tuple[float, int]]) -> float:
    """Inches that a legend with these places takes."""
    return _LEGEND_ROW * (places[-1][1] + 1) if places else 0.0


def table_text(ax: Axes, x: float, y: float, text: str, **looks: Any) -> None:
    """Text at x inches from the sheet's left edge and at y in the data coordinates of the axes."""
    place = blended_transform_factory(figure_of(ax).dpi_scale_trans, ax.transData)
    looks = dict[str, Any]({"fontsize": SMALL, "va": "center_baseline", "ha": "left"}) | looks
    ax.text(x, y, text, transform=place, clip_on=False, **looks)


def rule(ax: Axes, y: float) -> None:
    """A faint line across the whole sheet at y in the data coordinates of the axes."""
    across = blended_transform_factory(figure_of(ax).dpi_scale_trans, ax.transData)
    width = figure_of(ax).get_size_inches()[0]
    ax.plot([MARGIN, width - MARGIN], [y, y], color=FAINT, lw=0.8, transform=across, clip_on=False, zorder=0)


def bare(ax: Axes) -> None:
    """No grid, no ticks, no frame: axes that hold a table or an image."""
    ax.grid(visible=False)
    ax.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def cell(ax: Axes, x: float, y: float, colour: Any) -> None:
    """The coloured ground of the cell in column x and row y."""
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor=PAPER, lw=1.4))


def cell_text(ax: Axes, x: float, y: float, text: str, **looks: Any) -> None:
    """What stands in a cell."""
    looks = dict[str, Any]({"ha": "center", "va": "center_baseline", "fontsize": SMALL}) | looks
    ax.text(x, y, text, **looks)


def column_head(ax: Axes, x: float, text: str, offset: float = 6.0, **looks: Any) -> None:
    """A header so many points above the first row (y = -0.5)."""
    looks = dict[str, Any]({"ha": "center", "va": "baseline", "fontsize": SMALL, "linespacing": 1.05}) | looks
    ax.annotate(text, (x, -0.5), (0, offset), textcoords="offset points", annotation_clip=False, **looks)


def shortened(text: str, width: float, points: float = SMALL) -> str:
    """The text in one line, or as much of its beginning as fits into so many inches, with an ellipsis."""
    text = drawn(one_line(text))
    if text_size(text, points)[0] <= width:
        return text
    too_long = bisect_right(range(len(text)), width, key=lambda n: text_size(text[:n] + "…", points)[0])
    return text[: max(too_long - 1, 0)].rstrip() + "…"


def text_size(text: str, points: float, weight: str = "normal") -> tuple[float, float]:
    """Width and height of one line of text in inches. Call it inside a `sheet` block."""
    properties = FontProperties(size=points, weight=weight)
    width, height, _ = RendererAgg(1, 1, DPI).get_text_width_height_descent(drawn(text), properties, False)
    return width / DPI, height / DPI


def wrapped(paragraphs: Iterable[str], width: float, points: float = SMALL) -> list[str]:
    """Lines that are at most so many inches wide; a word that is wider alone is broken after / - _ or +."""
    lines: list[str] = []
    for paragraph in paragraphs:
        line = ""
        for space, piece in _pieces(drawn(paragraph), width, points):
            longer = f"{line}{space}{piece}" if line else piece
            if line and text_size(longer, points)[0] > width:
                lines.append(line)
                longer = piece
            line = longer
        lines += [line] if line else []
    return lines


def _pieces(paragraph: str, width: float, points: float) -> Iterator[tuple[str, str]]:
    """What must stay together, each with what stands before it within a line; no piece is over 60 characters."""
    for word in paragraph.split():
        fits = len(word) <= 60 and text_size(word, points)[0] <= width
        parts = [word] if fits else re.findall(r"[^/_+-]{1,60}[/_+-]*|[/_+-]{1,60}", word)
        yield from zip((" ", *[""] * (len(parts) - 1)), parts, strict=True)


def signs(families: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each family, in the order of their names; both repeat only after 49 families."""
    names = sorted(set(families))
    return {name: (SIGNS[i % 7][0], SIGNS[(i + i // 7) % 7][1]) for i, name in enumerate(names)}
