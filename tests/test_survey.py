"""Surveys: studies that train nothing, from the command line."""

import json
from pathlib import Path

import pytest

from bench.cli.app import run
from bench.study.survey import Survey, is_survey, load_records, plan_survey, report_survey, run_survey
from studies.claims.study import STUDY as CLAIMS

SOURCE = """
from dataclasses import dataclass
import pandas as pd
from bench.report.columns import Column
from bench.engine import Cell
from bench.study.report import Report


@dataclass(frozen=True)
class Doubles:
    name: str = "doubles"
    question: str = "What is twice a number?"

    def cells(self, device):
        return {f"twice {n}": self.cell(n) for n in (1, 2)}

    def cell(self, n):
        return Cell("double", f"twice {n}", {"n": n}, lambda context: self.double(n))

    def double(self, n):
        if n == 2 and not ALLOWED:
            raise ValueError("too large")
        return {"twice": 2 * n}

    def report(self, records, folder):
        rows = [{"variant": l, "twice": r.result["twice"]} for l, r in records.items() if r.status == "ok"]
        return Report(folder, pd.DataFrame(rows), [Column("variant", "Variant"), Column("twice", "Twice", "count")],
                      "Twice.", [], [f"{len(rows)} numbers"])


ALLOWED = True
STUDY = Doubles()
"""


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "doubles.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_survey_runs_from_the_command_line_and_resumes(study_file, capsys):
    command = ["study", str(study_file), "--out", "runs", "--device", "cpu"]
    assert run([*command, "--dry-run", "--json"]) == 0
    assert [cell["status"] for cell in json.loads(capsys.readouterr().out)["cells"]] == ["missing", "missing"]
    assert run([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == [{"variant": "twice 1", "twice": 2}, {"variant": "twice 2", "twice": 4}]
    assert run([*command, "--dry-run"]) == 0
    assert "0 of 2 cells to measure" in capsys.readouterr().out
    assert is_survey(Path("runs/doubles"))


def test_a_failed_cell_is_measured_again_when_asked(study_file, capsys):
    study_file.write_text(SOURCE.replace("ALLOWED = True", "ALLOWED = False"), encoding="utf-8")
    command = ["study", str(study_file), "--out", "runs", "--device", "cpu"]
    assert run(command) == 0
    assert "1 numbers" in capsys.readouterr().out
    study_file.write_text(SOURCE, encoding="utf-8")
    assert run(command) == 0
    assert "1 numbers" in capsys.readouterr().out
    assert run([*command, "--retry-failed"]) == 0
    assert "2 numbers" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--budget", "quick"], ["--seeds", "2"], ["--variants", "lale-*"], ["--size", "64"]]
)
def test_options_of_trainings_are_refused(study_file, option, capsys):
    assert run(["study", str(study_file), *option]) == 1
    assert f"doubles brings its own networks and settings: {option[0]} does not go" in capsys.readouterr().err


def test_a_folder_without_a_survey_is_named(tmp_path, capsys):
    assert not is_survey(tmp_path)
    (tmp_path / "survey.json").write_text('{"format": "other"}', encoding="utf-8")
    assert run(["plot", str(tmp_path)]) == 1
    assert "is no survey of this version" in capsys.readouterr().err


def test_claims_counts_equal_networks_once():
    assert isinstance(CLAIMS, Survey)
    cells = CLAIMS.cells("cpu")
    assert cells["LALE S1-K3 for ARAS400k, 256x256"].key == cells["LALE S1-K3-PT for ARAS400k, 256x256"].key
    assert cells["Linknet for ARAS400k, 256x256"].key != cells["Linknet for BELDE, 256x256"].key
    assert len({cell.key for cell in cells.values()}) > 50
    assert {cell.kind for cell in cells.values()} == {"static", "cost"}
    standing = [row for row in CLAIMS.rows if CLAIMS.network(row, {}).name]
    assert {row.system for row in standing} >= {"UPerNet", "LALE", "LWGANet", "LeMeViT", "LeMoRe", "SegFormer-B0"}


def test_every_subject_stands_for_some_row():
    assert [s for s in CLAIMS.known if not any(s.stands_for(row) for row in CLAIMS.rows)] == []


def test_claims_about_two_networks_counted_here(tmp_path):
    """The real thing, for the two smallest networks of LALE's tables."""
    import dataclasses

    rows = tuple(r for r in CLAIMS.rows if r.dataset == "ARAS400k" and r.name in ("LALE S1-K3-PT", "LALE S1-K3"))
    survey = dataclasses.replace(CLAIMS, rows=rows, headlines=())
    plan = plan_survey(survey, "cpu", tmp_path)
    run_survey(plan)
    assert set(load_records(plan.folder)) == set(plan.labelled)
    report = report_survey(survey, plan.folder)
    counts = report.frame.set_index("paper").loc["LALE"]
    assert (counts["confirmed"], counts["not confirmed"]) == (5, 0)
    assert counts["not testable here"] == len(rows) - 5
