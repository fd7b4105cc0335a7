"""Keep the README's figures those of the records: `python -m bench.cli.readme` fills its marked places anew.

A place is `<!-- table FOLDER COLUMN,COLUMN PATTERN... -->` or `<!-- findings FOLDER -->` of a study, or
`<!-- survey FOLDER -->` (what a survey found, in sentences), or `<!-- claims FOLDER -->` (the short form of the survey
of published figures); it ends at `<!-- end -->`.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.report.columns import measured
from bench.report.tables import write_tables
from bench.study.report import describe, findings
from bench.study.result import StudyResult, load_result
from studies.claims.report import SHORT

PLACE = re.compile(r"(<!-- (table|findings|survey|claims) ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, root: Path) -> str:
    """The text with every marked place filled from the studies under `root`.

    Raises:
        BenchError: a place names a folder without a study.
    """
    return PLACE.sub(lambda match: match[1] + _content(match[2], shlex.split(match[3]), root) + match[4], text)


def _content(kind: str, words: list[str], root: Path) -> str:
    if not words:
        raise BenchError(f"a place for {kind} in the README names no folder; write <!-- {kind} results/... -->")
    if kind in ("claims", "survey"):
        return _surveyed(root / words[0], short=kind == "claims")
    result = load_result(root / words[0])
    if kind == "findings":
        return "".join(f"- {sentence}\n" for sentence in findings(result))
    return _table(result, words[1].split(","), words[2:])


def _table(result: StudyResult, keys: list[str], patterns: list[str]) -> str:
    frame = result.frame
    chosen = [not patterns or any(fnmatchcase(label, pattern) for pattern in patterns) for label in frame["variant"]]
    frame = frame[chosen].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tables(frame, measured(frame, keys), Path(folder) / "table", describe(result))
        return next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")


def _surveyed(folder: Path, short: bool) -> str:
    """What a survey found, judged anew from its records: its own short form, or its sentences.

    Raises:
        BenchError: the folder holds no such survey.
    """
    from bench.cli.studying import find_study
    from bench.study.survey import load_records, survey_name

    survey = find_study(survey_name(folder))
    with tempfile.TemporaryDirectory() as scratch:
        report = survey.report(load_records(folder), Path(scratch))
        if short:
            return (report.folder / SHORT).read_text(encoding="utf-8")
        return "".join(f"- {sentence}\n" for sentence in report.findings)


def main() -> None:
    """Rewrite README.md in the working folder; exit status 1 if `--check` finds that it would change."""
    path = Path("README.md")
    old = path.read_text(encoding="utf-8")
    new = fill(old, Path())
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == old else "README.md does not show what the records say; run python -m bench.cli.readme")
    write_atomically(path, new.encode())


if __name__ == "__main__":
    main()
