"""The index of a folder of results: each study and search with its question, what it has shown, tables and figures."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.search.report import FILE as SEARCH
from bench.search.report import final_name, is_search, load_search
from bench.study import Report, load_results, write_report
from bench.study.manifest import FILE as STUDY
from bench.study.report import findings
from bench.study.result import result_of

SETTLED = ("Better", "Worse", "Equivalent")  # how the sentences begin that say what a study has shown
OPENED = 2  # sentences of a study without one of those


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
    from bench.cli.studying import find_again

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
