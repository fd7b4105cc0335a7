"""Studies with code of their own, from the command line: the user's and ours."""

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from bench.cli.app import run
from bench.study import Setting, Study, load_results, plan_study, run_study, write_report
from bench.study.testing import StudyTestCase
from studies.ablation import STUDY as ABLATION
from studies.calibration import STUDY as CALIBRATION
from studies.claims.study import STUDY as CLAIMS
from studies.deployment import STUDY as DEPLOYMENT
from studies.pilot import STUDY as PILOT
from studies.samplers import STUDY as SAMPLERS
from studies.scaling import STUDY as SCALING
from studies.tabulated import STUDY as TABULATED

SOURCE = """
from dataclasses import dataclass
import pandas as pd
from bench.report.columns import Column
from bench.report.tables import write_tables
from bench.engine import Cell
from bench.study import Layout, Report


@dataclass(frozen=True)
class Doubles:
    name: str = "doubles"
    question: str = "What is twice a number?"
    uses = ()

    def layout(self, setting):
        return Layout({f"twice {n}": self.cell(n) for n in (1, 2)})

    def cell(self, n):
        return Cell("double", f"twice {n}", {"n": n}, lambda context: self.double(n))

    def double(self, n):
        if n == 2 and not ALLOWED:
            raise ValueError("too large")
        return {"twice": 2 * n}

    def report(self, results):
        found = {label: results.records.get(label) for label in results.manifest.cells}
        frame = pd.DataFrame([{"variant": label, **self.row(record)} for label, record in found.items()])
        columns = [Column("variant", "Variant"), Column("twice", "Twice", "count")]
        files = write_tables(frame, columns, results.folder / "table")
        return Report(results.folder, frame, columns, "Twice.", files, [f"{frame['twice'].notna().sum()} numbers."])

    def row(self, record):
        if record is not None and record.status == "ok":
            return {"twice": record.result["twice"], "status": "", "reason": ""}
        status, reason = ("missing", "not yet") if record is None else (record.status, record.reason)
        return {"twice": None, "status": status, "reason": reason}


ALLOWED = True
STUDY = Doubles()
"""


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "doubles.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_study_of_the_users_own_runs_resumes_and_is_plotted_again(study_file, capsys):
    command = ["study", str(study_file), "--out", "runs", "--device", "cpu"]
    assert run([*command, "--dry-run", "--json"]) == 0
    assert [cell["status"] for cell in json.loads(capsys.readouterr().out)["cells"]] == ["missing", "missing"]
    assert run([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["variant"], row["twice"]) for row in report["rows"]] == [("twice 1", 2), ("twice 2", 4)]
    assert run([*command, "--dry-run"]) == 0
    assert "0 of 2 cells to measure" in capsys.readouterr().out
    assert run(["plot", "runs/doubles", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    study_file.rename("moved.py")
    assert run(["plot", "runs/doubles"]) == 1
    assert "doubles.py, is not to be found from runs/doubles; name it by --study FILE" in capsys.readouterr().err
    assert run(["plot", "runs/doubles", "--study", "moved.py", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_a_failed_cell_is_measured_again_when_asked(study_file, capsys):
    study_file.write_text(SOURCE.replace("ALLOWED = True", "ALLOWED = False"), encoding="utf-8")
    command = ["study", str(study_file), "--out", "runs", "--device", "cpu"]
    assert run(command) == 0
    shown = capsys.readouterr()
    assert "1 numbers" in shown.out
    assert "1 of 2 cells failed" in shown.err and "the same command with --retry-failed" in " ".join(shown.err.split())
    study_file.write_text(SOURCE, encoding="utf-8")
    assert run(command) == 0
    assert "1 numbers" in capsys.readouterr().out
    assert run([*command, "--dry-run", "--retry-failed"]) == 0
    assert "1 of 2 cells to measure" in capsys.readouterr().out
    assert run([*command, "--retry-failed"]) == 0
    assert "2 numbers" in capsys.readouterr().out


def test_a_study_of_which_every_cell_failed_has_failed(study_file, capsys):
    study_file.write_text(
        SOURCE.replace("ALLOWED = True", "ALLOWED = False").replace("(1, 2)", "(2,)"), encoding="utf-8"
    )
    assert run(["study", str(study_file), "--out", "runs", "--device", "cpu"]) == 1
    assert "1 of 1 cells failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--budget", "quick"], ["--seeds", "2"], ["--variants", "lale-*"], ["--size", "64"]]
)
def test_options_of_trainings_are_refused(study_file, option, capsys):
    assert run(["study", str(study_file), *option]) == 1
    assert f"doubles brings settings of its own: {option[0]} does not go" in capsys.readouterr().err


def test_a_manifest_of_another_version_is_named(tmp_path, capsys):
    (tmp_path / "study.json").write_text('{"format": "other"}', encoding="utf-8")
    assert run(["plot", str(tmp_path)]) == 1
    assert "study.json: the manifest is of another version" in capsys.readouterr().err


def test_claims_counts_equal_networks_once():
    assert isinstance(CLAIMS, Study)
    cells = CLAIMS.layout(Setting()).cells
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
    study = dataclasses.replace(CLAIMS, rows=rows, headlines=())
    plan = plan_study(study, Setting(out=tmp_path))
    run_study(plan)
    assert set(load_results(plan.folder).records) == set(plan.labelled)
    report = write_report(plan.folder, study=study)
    counts = report.frame.set_index("paper").loc["LALE"]
    assert (counts["confirmed"], counts["not confirmed"]) == (5, 0)
    assert counts["not testable here"] == len(rows) - 5


def executed(source):
    """The `STUDY` of a file's text."""
    module = types.ModuleType("study_of_a_user")
    sys.modules[module.__name__] = module  # where dataclasses look up their fields
    exec(source, vars(module))
    return module.STUDY


def documented(name):
    """The block of docs/extending.md that begins with a comment of this name."""
    text = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    return next(part for part in text.split("```python\n") if part.startswith(f"# {name}")).partition("```")[0]


class TestAblation(StudyTestCase):
    study = ABLATION.select(["norm*", "lale-b-*"])
    setting: ClassVar = {"data": "terrain:size=32,train=4,val=2,test=3", "seeds": (0,), "size": (64, 64)}


class TestCalibration(StudyTestCase):
    study = CALIBRATION


class TestPilot(StudyTestCase):
    study = PILOT
    setting: ClassVar = {"data": "terrain:size=32,train=4,val=2,test=3"}


class TestClaims(StudyTestCase):
    study = CLAIMS


class TestDeployment(StudyTestCase):
    study = DEPLOYMENT


class TestScaling(StudyTestCase):
    study = SCALING


class TestSamplers(StudyTestCase):
    study = SAMPLERS


class TestTabulated(StudyTestCase):
    study = replace(TABULATED, data="terrain:size=32,train=4,val=2,test=3", configs=4, repeated=2)


class TestTheOneOfTheDocumentation(StudyTestCase):
    study = executed(documented("counts.py"))
    setting: ClassVar = {"size": (64, 64)}
    runs = True


class TestOneOfAUser(StudyTestCase):
    """The study of the file above, measured for real."""

    study = executed(SOURCE)
    runs = True
