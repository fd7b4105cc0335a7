"""Keep figures those of the records: `python docs/fill_pages.py` writes the table of `choose` and fills marked places.

A place is `<!-- table FOLDER COLUMN,COLUMN PATTERN... -->` (columns and rows of a study of variants), `<!-- findings
FOLDER -->` (a study's sentences), `<!-- report FOLDER -->` (its main table and its sentences), `<!-- csv FILE -->` (a
file of figures that is no study's), `<!-- index FOLDER -->` (the studies and searches in the folder of the page), `<!--
columns -->` (what the columns of tables are) or `<!-- choose data=NAME land_km2=N gsd=N ... -->` (what `choose
--records-only` answers; `columns`, `sentences` and `scored=1`, without runs whose F1 nobody measured, show less of it);
it ends at `<!-- end -->`.
"""

import csv
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from bench.choose.known import TABLE, table_text
from bench.choose.reading import gather
from bench.cli.studying import find_again
from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.report.columns import COLUMNS, measured
from bench.report.tables import write_tables
from bench.search.report import FILE as SEARCH
from bench.search.report import final_name, is_search, load_search
from bench.study import Report, load_results, write_report
from bench.study.protocol import FILE as STUDY
from bench.study.report import describe, findings
from bench.study.result import result_of

PLACE = re.compile(r"(<!-- (table|findings|report|csv|index|columns|choose)([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
SETTLED = ("Better", "Worse", "Equivalent")  # how the sentences begin that say what a study has shown
OPENED = 2  # sentences of a study without one of those


def fill(text: str, root: Path) -> str:
    """The text with every marked place filled from the studies under `root`.

    Raises:
        BenchError: a place names a folder without a study.
    """
    return PLACE.sub(lambda match: match[1] + _content(match[2], shlex.split(match[3]), root) + match[4], text)


def _content(kind: str, words: list[str], root: Path) -> str:
    if kind == "columns":
        return _columns()
    if not words:
        raise BenchError(f"a place for {kind} in the README names no folder; write <!-- {kind} results/... -->")
    if kind == "choose":
        return _choice(dict(word.split("=", 1) for word in words))
    folder = root / words[0]
    if kind == "csv":
        return _csv(folder)
    if kind == "index":
        return index(folder)
    if kind == "table":
        return _table(folder, words[1].split(","), words[2:])
    with tempfile.TemporaryDirectory() as scratch:
        report = reported(folder, Path(scratch))
        sentences = "".join(f"- {sentence}\n" for sentence in report.findings)
        if kind == "findings":
            return sentences
        write_tables(report.frame, report.columns, Path(scratch) / "main")
        return (Path(scratch) / "main.md").read_text(encoding="utf-8") + "\n" + sentences


def _table(folder: Path, keys: list[str], patterns: list[str]) -> str:
    result = result_of(load_results(folder))
    frame = result.frame
    chosen = [not patterns or any(fnmatchcase(label, pattern) for pattern in patterns) for label in frame["variant"]]
    frame = frame[chosen].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_tables(frame, measured(frame, keys), Path(scratch) / "table", describe(result))
        return next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")


def _csv(path: Path) -> str:
    """A CSV file as a Markdown table, figures to the right."""
    head, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def _choice(asked: dict[str, str]) -> str:
    from bench.cli.choosing import from_records

    shown, count = asked.pop("columns", "").split(","), int(asked.pop("sentences", "99"))
    scored = asked.pop("scored", "0") == "1"
    data, gsd, within = asked.pop("data"), float(asked.pop("gsd")), asked.pop("within", None)
    rows, columns, sentences = from_records(data, gsd, within, **{key: float(value) for key, value in asked.items()})
    kept = [one for one in columns if one.key in shown or shown == [""]]
    rows = rows[rows["f1"].notna()].reset_index(drop=True) if scored else rows
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_tables(rows, kept, Path(scratch) / "table") if len(rows) else []
        tables = [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"]
    said = "".join(f"- {sentence}\n" for sentence in sentences[:count])
    return "\n".join(part for part in ("".join(tables), said) if part)


def _columns() -> str:
    """One row a column: its names in the CSV file and the unit there, its header in tables, and what it is."""
    better = {"high": "higher", "low": "lower", None: ""}
    rows = ["| CSV | unit | in tables | better | what it is |", "| --- | --- | --- | --- | --- |"]
    for one in COLUMNS.values():
        keys = ", ".join(f"`{key}`" for key in (one.key, one.low, one.high) if key)
        unit = one.style.raw or ("number" if one.style.spec else "text")
        rows.append(f"| {keys} | {unit} | {one.title} | {better[one.better]} | {one.how} |")
    return "\n".join(rows) + "\n"


# --- the index of results


def index(root: Path) -> str:
    """A Markdown section for each study and search under a folder, for a page that lies in the folder."""
    return "\n".join(_section(folder, root) for folder in indexed(root))


def indexed(root: Path) -> list[Path]:
    """The folders of studies and searches by name; the study of a search's front belongs to its search."""
    searches = {path.parent for path in root.glob(f"**/{SEARCH}")}
    studies = {path.parent for path in root.glob(f"**/{STUDY}")}
    return sorted((studies | searches) - {folder.with_name(final_name(folder)) for folder in searches})


def reported(folder: Path, scratch: Path) -> Report:
    """The report of a study, made anew from its records; its files go to `scratch`."""
    return write_report(folder, find=lambda source: find_again(source, folder), into=scratch)


def _section(folder: Path, root: Path) -> str:
    question, sentences = _told(folder)
    shown = [sentence for sentence in sentences if sentence.startswith(SETTLED)] or sentences[:OPENED]
    tables = _links(sorted(folder.glob("*.md")), folder, root)
    figures = _links(sorted(folder.glob("**/*.png")), folder, root)
    parts = [
        f"## {folder.relative_to(root).as_posix()}",
        f"*{question}*",
        "\n".join(f"- {sentence}" for sentence in shown),
        f"Tables: {tables}." + (f" Figures: {figures}." if figures else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _links(paths: Sequence[Path], folder: Path, root: Path) -> str:
    """By their names without `figures/` and ending."""
    return ", ".join(f"[{path.stem}]({path.relative_to(root).as_posix()})" for path in paths)


def _told(folder: Path) -> tuple[str, list[str]]:
    """The question and the findings of a study or search."""
    if is_search(folder):
        final = folder.with_name(final_name(folder))
        scored = findings(result_of(load_results(final))) if (final / STUDY).exists() else []
        limits = {name: value for name, value in load_search(folder)["budget"].items() if value is not None}
        within = ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "no budget"
        return f"Which variants are better ({within})?", scored or ["The front is not yet scored on test tiles."]
    results = load_results(folder)
    if results.manifest.declared:
        return results.manifest.question, findings(result_of(results))
    with tempfile.TemporaryDirectory() as scratch:
        return results.manifest.question, reported(folder, Path(scratch)).findings


# --- all pages


def pages(root: Path) -> list[Path]:
    """The pages that may have marked places."""
    return [root / "README.md", root / "results" / "README.md", *sorted((root / "docs").glob("*.md"))]


def main() -> None:
    """Rewrite the pages and the table in the working folder; exit status 1 if `--check` finds that one would change."""
    table = table_text(gather([Path("results")]))
    if "--check" not in sys.argv[1:]:
        write_atomically(TABLE, table.encode())
    stale = [] if TABLE.read_text(encoding="utf-8") == table else [str(TABLE)]
    for path in pages(Path()):
        old = path.read_text(encoding="utf-8")
        new = fill(old, Path())
        stale += [str(path)] if new != old else []
        if "--check" not in sys.argv[1:]:
            write_atomically(path, new.encode())
    if "--check" in sys.argv[1:] and stale:
        sys.exit(f"{', '.join(stale)} differs from the records; run python docs/fill_pages.py")


if __name__ == "__main__":
    main()
