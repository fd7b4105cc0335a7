"""A conformance kit: what every study must do, as tests that any study inherits.

    from bench.study.testing import StudyTestCase

    class TestMine(StudyTestCase):
        study = MyStudy()

Runs under pytest and under unittest. A study of cells that take seconds sets `runs = True`, to be measured for real.
"""

import json
import re
import tempfile
import unittest
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from bench.records import Record, private_parts
from bench.report.columns import is_missing
from bench.study.protocol import Report, Results, Setting, Study, load_manifest
from bench.study.run import StudyPlan, plan_from_manifest, plan_study, run_study, write_report

REASON = "it failed on purpose"
VARIANTS = "variants"  # what options read that choose variants, which are no field of a setting


class StudyTestCase(unittest.TestCase):
    """The battery; without a `study` it is no test.

    Attributes:
        study: the study.
        setting: fields of the `Setting` under which it is tried, as a small data set.
        runs: whether its cells take seconds, so that they can be measured.
    """

    __test__ = False

    study: ClassVar[Study]
    setting: ClassVar[Mapping[str, Any]] = {}
    runs: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__test__ = hasattr(cls, "study")
        if not cls.runs:
            cls.test_a_run_records_every_cell_and_is_reported_the_same_again = None  # type: ignore[assignment]

    def setUp(self) -> None:
        """Every test has an empty output folder."""
        if not hasattr(self, "study"):
            self.skipTest("no study: set `study` in a subclass")
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.out = Path(scratch.name)

    def plan(self) -> StudyPlan:
        """The study's plan in the output folder."""
        return plan_study(self.study, Setting(**{**self.setting, "out": self.out}), "mine")

    def report(self, plan: StudyPlan, records: Mapping[str, Record]) -> Report:
        """The study's report of some records."""
        return self.study.report(Results(plan.manifest, records, plan.folder))

    def test_members(self) -> None:
        """The name is one of a folder, the question a sentence, and what it reads of a setting exists."""
        self.assertIsInstance(self.study, Study)
        self.assertRegex(self.study.name, r"^[a-z0-9]+(-[a-z0-9]+)*$")
        self.assertTrue(self.study.question.endswith(("?", ".")))
        self.assertLessEqual(set(self.study.uses), {field.name for field in fields(Setting)} | {VARIANTS})

    def test_planning_is_repeatable_and_measures_nothing(self) -> None:
        """Two plans have the same cells under the same keys, and leave nothing behind."""
        first, second = self.plan(), self.plan()
        self.assertTrue(first.cells)
        self.assertEqual(first.manifest, second.manifest)
        self.assertEqual(list(self.out.iterdir()), [])

    def test_the_manifest_rebuilds_the_plan_elsewhere(self) -> None:
        """Saved, read and planned again it has the same keys; it names no host, person or folder."""
        plan = self.plan()
        plan.manifest.save(plan.folder)
        loaded = load_manifest(plan.folder)
        self.assertEqual(loaded.to_dict(), json.loads(json.dumps(plan.manifest.to_dict())))
        self.assertEqual(private_parts(loaded.to_dict(), "manifest"), [])
        setting = Setting(**{**self.setting, "out": self.out})
        again = plan_from_manifest(loaded.to_dict(), setting.data, setting.device, self.out, lambda source: self.study)
        self.assertEqual(again.manifest.cells, plan.manifest.cells)

    def test_without_records_the_report_says_what_is_missing(self) -> None:
        """An empty report can be written, printed and turned into JSON."""
        report = self.report(self.plan(), {})
        self._check(report)
        self.assertGreater(len(report.frame), 0)

    def test_a_failed_cell_is_shown_with_its_reason(self) -> None:
        """If everything failed, the reason stands in a table or a sentence."""
        plan = self.plan()
        records = {label: _failed(plan, label) for label in plan.labelled}
        report = self.report(plan, records)
        self._check(report)
        written = [path.read_text(encoding="utf-8") for path in report.files if path.suffix == ".csv"]
        self.assertIn(REASON, " ".join([*written, *report.findings]))

    def test_a_run_records_every_cell_and_is_reported_the_same_again(self) -> None:
        """A second run measures nothing, and the report from disk is that of the run."""
        plan = self.plan()
        run_study(plan, console=Console(quiet=True))
        before = {path: path.stat().st_mtime_ns for path in plan.store.folder.rglob("*.json")}
        self.assertTrue(all(cell.key in plan.store for cell in plan.cells))
        first = write_report(plan.folder, study=self.study)
        run_study(self.plan(), console=Console(quiet=True))
        self.assertEqual({path: path.stat().st_mtime_ns for path in plan.store.folder.rglob("*.json")}, before)
        self.assertEqual(write_report(plan.folder, study=self.study).to_dict(), first.to_dict())
        self._check(first)

    def _check(self, report: Report) -> None:
        """All files are there, every column of the main table is in its frame, sentences are sentences."""
        self.assertEqual([path for path in report.files if not path.is_file()], [])
        self.assertLessEqual({column.key for column in report.columns}, set(report.frame.columns))
        self.assertTrue(all(re.search(r"[.!?]$", sentence) for sentence in report.findings), report.findings)
        report.table()
        json.dumps(report.to_dict(), default=str)
        self.assertFalse(is_missing(report.caption))


def _failed(plan: StudyPlan, label: str) -> Record:
    cell = plan.labelled[label]
    return Record.of(
        cell.kind, cell.determinants, {}, environment={}, seconds=1.0, status="failed", reason=f"{REASON}."
    )
