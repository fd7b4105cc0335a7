"""F1 of every class by variant: a table in colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from bench.errors import BenchError
from bench.report.figures.fonts import drawn_names
from bench.report.figures.style import (
    BAD,
    GREY,
    MARGIN,
    PAPER,
    SMALL,
    WIDTH,
    axes,
    bare,
    cell,
    cell_text,
    column_head,
    heading,
    save,
    sheet,
    shortened,
    table_text,
    text_size,
    wrapped,
)

BELOW_ABOVE = LinearSegmentedColormap.from_list("below-above", ["#e9a36b", "#f7f7f7", "#6aaed6"])
_ROW = 0.26  # inches
_KEY = "Colour: above (blue) or below (orange) the median variant of the class, up to {:.0f} points. Bold: best."


def draw_per_class(
    scores: Mapping[str, Sequence[float] | None],
    class_names: Sequence[str],
    stem: Path,
    *,
    macros: Mapping[str, float] | None = None,
    reasons: Mapping[str, str] | None = None,
    title: str = "",
    note: str = "",
) -> list[Path]:
    """Draw F1 per class (columns) of each variant (rows, in the order given), and the macro F1.

    Args:
        scores: variant -> F1 of each class as a fraction, NaN where the class is in neither truth nor
            prediction; None for a variant that has no result.
        class_names: names in the order of the scores.
        stem: path without an ending.
        macros: the macro F1 of each variant as a fraction; None takes the mean of its classes.
        reasons: why a variant has no result ("failed: out of memory").
        title, note: above and beneath the figure.

    Returns:
        The figure's files.

    Raises:
        BenchError: a variant has not one score a class.
    """
    table = _table(scores, class_names, macros or {})
    reasons, class_names = reasons or {}, drawn_names(class_names)
    with sheet(WIDTH, 1) as _:
        names_width = min(2.4, max((text_size(name, SMALL)[0] for name in scores), default=1.0) + 0.1)
        cell_width = (WIDTH - 2 * MARGIN - names_width) / table.shape[1]
        heads = ["\n".join(wrapped([name], cell_width - 0.08)) for name in (*class_names, "Macro")]
    head_height = 0.1 + 0.15 * max(head.count("\n") + 1 for head in heads)
    with sheet(WIDTH, 0.5 + head_height + _ROW * max(len(table), 1) + 0.1) as figure:
        heading(figure, title or "F1 by class (%)")
        ax = axes(figure, left=MARGIN + names_width, right=MARGIN, top=0.45 + head_height, bottom=0.1)
        _prepare(ax, table, heads)
        limit = _draw_cells(ax, table)
        for y, name in enumerate(scores):
            table_text(ax, MARGIN, y, shortened(name, names_width - 0.08))
            if np.isnan(table[y]).all():
                _draw_missing(ax, y, table.shape[1], shortened(reasons.get(name, "no result"), 5.0))
        return save(figure, stem, [note, _KEY.format(limit) if len(scores) > 1 else "", _reasons_note(reasons)])


def _table(
    scores: Mapping[str, Sequence[float] | None], class_names: Sequence[str], known: Mapping[str, float]
) -> np.ndarray:
    """(variants, classes + 1) percentages, the macro F1 last."""
    count = len(class_names)
    for name, values in scores.items():
        if values is not None and len(values) != count:
            raise BenchError(f"{name} has {len(values)} scores for {count} classes.")
    rows = [np.full(count, np.nan) if v is None else np.asarray(v, dtype=float) for v in scores.values()]
    means = [np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in rows]
    macros = [known.get(name, mean) for name, mean in zip(scores, means, strict=True)]
    return 100 * np.column_stack([np.reshape(rows, (-1, count)), macros])


def _prepare(ax: Axes, table: np.ndarray, heads: Sequence[str]) -> None:
    ax.set_xlim(-0.5, table.shape[1] - 0.5)
    ax.set_ylim(max(len(table), 1) - 0.5, -0.5)
    bare(ax)
    for x, head in enumerate(heads):
        column_head(ax, x, head, fontweight="bold" if x == len(heads) - 1 else "normal")


def _draw_cells(ax: Axes, table: np.ndarray) -> float:
    """Values on their colours; returns how many points the darkest colour stands for."""
    medians = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0 for column in table.T]
    distance = table - np.array(medians)
    finite = np.abs(distance[np.isfinite(distance)])
    limit = max(float(np.ceil(np.quantile(finite, 0.95))) if len(finite) else 1.0, 1.0)  # one collapse hides no rest
    printed = np.array([[f"{value:.1f}" for value in row] for row in table]).reshape(table.shape)
    for (y, x), value in np.ndenumerate(table):
        if np.isfinite(value):
            column = table[:, x]
            best = printed[y, x] == f"{column[np.isfinite(column)].max():.1f}" and np.isfinite(column).sum() > 1
            colour = BELOW_ABOVE(0.5 + 0.5 * np.clip(distance[y, x] / limit, -1, 1))
            cell(ax, x, y, colour)
            cell_text(ax, x, y, str(printed[y, x]), fontweight="bold" if best else "normal")
        elif not np.isnan(table[y]).all():
            cell_text(ax, x, y, "absent", color=GREY)
    return limit


def _draw_missing(ax: Axes, y: int, width: int, text: str) -> None:
    ax.add_patch(Rectangle((-0.5, y - 0.5), width, 1, facecolor="#f4f5f7", edgecolor=PAPER, lw=1.2))
    cell_text(ax, -0.4, y, text, ha="left", color=BAD, fontstyle="italic")


def _reasons_note(reasons: Mapping[str, str]) -> str:
    named = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return f"Without a result: {named}." if named else ""
