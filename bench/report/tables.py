"""Result frames as tables: CSV for machines, Markdown and LaTeX for papers, rich for the terminal.

Every row of the frame is in every table. A row that failed or was skipped keeps what was measured of it, shows
"–" for the rest, and carries a numbered note with the reason; it never wins a column. One whose trainings are not all
done wins no column of scores; its counts and speeds are whole.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.errors import BenchError
from bench.records.atomic import with_ending, write_atomically
from bench.report.columns import (
    COLUMNS,
    FORMATS,
    INCOMPLETE,
    SCORES,
    Column,
    Format,
    Trouble,
    column,
    is_missing,
    measured,
    troubles,
)
from bench.report.formats import TABLES, chosen
from bench.report.markup import escape_latex, escape_markdown, one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

__all__ = ["COLUMNS", "FORMATS", "Column", "Format", "column", "measured", "rich_table", "write_tables"]

FIRST = ("variant", "f1", "verdict", "effect", "params", "macs", "latency_ms", "throughput", "seeds")
"""Columns that a narrow terminal keeps, the most important first; then the others in their order."""
_ARROWS = {"high": " ↑", "low": " ↓", None: ""}
_HALF_WIDTH = "± is half the width of the {}"
_IN_FILE = ", whose bounds are in the CSV file."
_BOUNDS = "Brackets hold the {}."


@dataclass(frozen=True)
class TableCell:
    """What stands in one place of a table; `note` is the number of the row's note, or None."""

    text: str
    best: bool = False
    note: int | None = None


@dataclass(frozen=True)
class TableBody:
    """A table before any markup: headers, `numeric` (right-aligned) columns, rows of cells, notes."""

    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]


def write_tables(frame: pd.DataFrame, columns: Sequence[Column], stem: Path, caption: str = "") -> list[Path]:
    """Write a frame as `stem.csv` and `stem.md`, and as `stem.tex` where `bench.report.formats` asks for it.

    The CSV holds the raw values at full precision (counts, bytes, fractions, milliseconds), the bounds of the
    intervals, and status and reason. Markdown and LaTeX hold them printed, the best value of each column in
    bold: all that print like the best are bold, since digits that are not shown decide nothing.

    Args:
        frame: one row a variant; see `bench.report.columns.COLUMNS` for the units.
        columns: what to show, in this order.
        stem: path without an ending; its folder is made.
        caption: one or more sentences above the table.

    Returns:
        The paths.

    Raises:
        BenchError: no columns are asked for, or one is not in the frame.
    """
    body = _body(frame, columns)
    label = "tab:" + re.sub(r"[^A-Za-z0-9]+", "-", stem.name).strip("-")
    writers: dict[str, Callable[[], str]] = {
        "csv": lambda: _csv(frame, columns),
        "md": lambda: _markdown(body, caption),
        "tex": lambda: _latex(body, caption, label),
    }
    return [write_atomically(with_ending(stem, end), writers[end]().encode()) for end in chosen(TABLES)]


def rich_table(frame: pd.DataFrame, columns: Sequence[Column], caption: str = "") -> "TerminalTable":
    """The same table for `rich.print`, with as many of its columns as the terminal is wide.

    Raises:
        BenchError: no columns are asked for, or one is not in the frame.
    """
    _check(frame, columns)
    return TerminalTable(frame, tuple(columns), caption)


@dataclass(frozen=True)
class TerminalTable:
    """A frame as a terminal shows it: a table cut off at its edge would lack what comes last, verdicts among it.

    The columns that matter least are left out, by name; caption and notes stand in lines of their own.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    caption: str

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator[Any]:
        from rich.text import Text

        shown = list(self.columns)
        while len(shown) > 1 and _room(_body(self.frame, shown), options.max_width) < 0:
            shown.remove(max(shown, key=self._rank))
        if self.caption:
            yield Text(one_line(self.caption))
        body, left = _body(self.frame, shown), [c.header for c in self.columns if c not in shown]
        yield _terminal_table(body, options.max_width)
        lines = [f"{i}. {note}" for i, note in enumerate(body.notes, 1)]
        lines += [remark.replace(_IN_FILE, ".") for remark in body.remarks]  # a terminal has no file beside it
        lines += [f"Left out, since the terminal is not wide enough: {'; '.join(left)}."] if left else []
        if lines:
            yield Text("\n".join(lines))

    def _rank(self, c: Column) -> int:
        return FIRST.index(c.key) if c.key in FIRST else len(FIRST) + self.columns.index(c)


def _terminal_table(body: TableBody, width: int) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table, room = Table(box=box.SIMPLE_HEAD), max(0, _room(body, width))
    for j, (header, numeric) in enumerate(zip(body.headers, body.numeric, strict=True)):
        least, most = _widths(body, j)
        wide = least + min(room, most - least)  # what is left over goes to the first columns
        room -= wide - least
        table.add_column(Text(header), justify="right" if numeric else "left", width=wide)
    for row in body.rows:
        cells = [Text(cell.text + _superscript(cell.note), style="bold green" if cell.best else "") for cell in row]
        table.add_row(*cells, style="dim" if row[0].note else None)
    return table


def _room(body: TableBody, width: int) -> int:
    """Columns of the terminal that are left over; below 0 where words would be broken. Of a column, two are blank and
    one is its edge."""
    return width - 1 - sum(3 + _widths(body, j)[0] for j in range(len(body.headers)))


def _widths(body: TableBody, j: int) -> tuple[int, int]:
    """Of a column: without breaking a word, a number or a name; without breaking a line."""
    from rich.cells import cell_len

    header, cells = body.headers[j], [row[j].text + _superscript(row[j].note) for row in body.rows]
    whole = body.numeric[j] or header == "Variant"
    words = [word for text in ([header] if whole else [header, *cells]) for word in text.split()]
    least = max(map(cell_len, [*words, *(cells if whole else [])]), default=0)
    return least, max(map(cell_len, [header, *cells]), default=0)


def _body(frame: pd.DataFrame, columns: Sequence[Column]) -> TableBody:
    _check(frame, columns)
    trouble = troubles(frame)
    notes = list(dict.fromkeys(one_line(str(t)) for t in trouble.values()))
    numbers = {position: notes.index(one_line(str(t))) + 1 for position, t in trouble.items()}
    texts = [_texts(frame, c) for c in columns]
    best = [_best(frame, c, _beaten(trouble, c)) for c in columns]
    rows = tuple(
        tuple(TableCell(texts[j][i], i in best[j], numbers.get(i) if j == 0 else None) for j in range(len(columns)))
        for i in range(len(frame))
    )
    return TableBody(
        headers=tuple(c.title + _ARROWS[c.better] for c in columns),
        numeric=tuple(bool(c.style.spec) for c in columns),
        rows=rows,
        notes=tuple(notes),
        remarks=_remarks(columns, texts),
    )


def _check(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    if not columns:
        raise BenchError("A table needs at least one column.")
    for c in columns:
        if c.key not in frame.columns:
            have = ", ".join(map(str, frame.columns))
            raise BenchError(f"There is no column {c.key!r} to put into the table; the results have: {have}.")


def _texts(frame: pd.DataFrame, c: Column) -> list[str]:
    """The printed values of one column, without the row's note."""
    values = frame[c.key].tolist()
    lows, highs = (_bounds(frame, key) for key in (c.low, c.high))
    return [
        one_line(c.style.with_interval(value, low, high)) for value, low, high in zip(values, lows, highs, strict=True)
    ]


def _bounds(frame: pd.DataFrame, key: str | None) -> list[Any]:
    return frame[key].tolist() if key in frame.columns else [None] * len(frame)


def _beaten(trouble: Mapping[int, Trouble], c: Column) -> set[int]:
    """Rows that cannot win a column."""
    return {i for i, one in trouble.items() if one.status != INCOMPLETE or c.key in SCORES}


def _best(frame: pd.DataFrame, c: Column, beaten: set[int]) -> set[int]:
    """Rows that print like the best value; none where all rows do, or where neither end is wanted."""
    values = frame[c.key].tolist()
    rivals = [i for i, v in enumerate(values) if i not in beaten and not is_missing(v)]
    if c.better is None or not rivals:
        return set()
    choose = max if c.better == "high" else min
    printed = c.style.text(values[choose(rivals, key=lambda i: values[i])])
    winners = {i for i in rivals if c.style.text(values[i]) == printed}
    return winners if len(winners) < len(rivals) else set()


def _remarks(columns: Sequence[Column], texts: list[list[str]]) -> tuple[str, ...]:
    """What the intervals are, where some are shown, and what columns have to say."""
    remarks: list[str] = []
    for one, column_texts in zip(columns, texts, strict=True):
        if one.low:
            remarks += (
                [f"{_HALF_WIDTH.format(one.style.bounds)}{_IN_FILE}"] if any("±" in t for t in column_texts) else []
            )
            remarks += [_BOUNDS.format(one.style.bounds)] if any("[" in t for t in column_texts) else []
    told = [remark for one in columns for remark in one.remarks]
    return (*sorted(set(remarks), reverse=True), *dict.fromkeys(told))  # ± before brackets


def _csv(frame: pd.DataFrame, columns: Sequence[Column]) -> str:
    wanted = [key for c in columns for key in (c.key, c.low, c.high, c.detail)] + ["base", "seeds", "status", "reason"]
    keys = [key for key in dict.fromkeys(wanted) if key in frame.columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows(zip(*(_raw(frame[key]) for key in keys), strict=True))
    return out.getvalue()


def _raw(values: pd.Series) -> list[str]:
    """Shortest text that reads back to the same number; counts as integers though pandas holds them as floats."""
    items = [None if is_missing(v) else v for v in values.tolist()]
    floats = [v for v in items if isinstance(v, float)]
    whole = bool(floats) and all(v.is_integer() and abs(v) < 2**53 for v in floats)
    as_text = [str(int(v)) if whole and isinstance(v, float) else str(v) for v in items]
    return ["" if item is None else text for item, text in zip(items, as_text, strict=True)]


def _markdown(body: TableBody, caption: str) -> str:
    heads = [escape_markdown(h) for h in body.headers]
    grid = [[_markdown_cell(cell) for cell in row] for row in body.rows]
    widths = [max(map(len, column)) for column in zip(heads, *grid, strict=True)]
    widths = [max(width, 3) for width in widths]
    rule = [("-" * (w - 1) + ":") if n else "-" * w for w, n in zip(widths, body.numeric, strict=True)]
    lines = [_markdown_row(cells, widths, body.numeric) for cells in (heads, rule, *grid)]
    notes = [f"<sup>{i}</sup> {escape_markdown(note)}" for i, note in enumerate(body.notes, 1)]
    parts = [escape_markdown(caption), "\n".join(lines), "<br>\n".join([*notes, *map(escape_markdown, body.remarks)])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_cell(cell: TableCell) -> str:
    text = escape_markdown(cell.text)
    mark = f"<sup>{cell.note}</sup>" if cell.note else ""
    return (f"**{text}**" if cell.best else text) + mark


def _markdown_row(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True)]
    return "| " + " | ".join(padded) + " |"


def _latex(body: TableBody, caption: str, label: str) -> str:
    alignment = "".join("r" if n else "l" for n in body.numeric)
    notes = [rf"\textsuperscript{{{i}}} {escape_latex(note)}" for i, note in enumerate(body.notes, 1)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        *([rf"\caption{{{escape_latex(caption)}}}"] if caption else []),
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(escape_latex(h) for h in body.headers) + r" \\",
        r"\midrule",
        *(" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in body.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {note}}}" for note in [*notes, *map(escape_latex, body.remarks)]),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: TableCell) -> str:
    text = escape_latex(cell.text)
    mark = rf"\textsuperscript{{{cell.note}}}" if cell.note else ""
    return (rf"\textbf{{{text}}}" if cell.best else text) + mark


def _superscript(number: int | None) -> str:
    return "" if number is None else str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
