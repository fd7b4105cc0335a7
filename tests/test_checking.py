"""`records check` lets the committed results pass, and finds what was made up, edited or leaked, in a sentence each."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.app import run
from bench.errors import BenchError
from bench.records import RecordStore
from bench.study.checking import check_folder, record_problems, table_problems

RESULTS = Path(__file__).parent.parent / "results"


def first(kind, folder="dubai/records", having=lambda record: True):
    return next(r for r in RecordStore(RESULTS / folder).all(kind) if r.status == "ok" and having(r))


def changed(record, part, **values):
    return replace(record, **{part: {**getattr(record, part), **values}})


@pytest.mark.slow
def test_the_committed_results_are_to_be_believed():
    assert check_folder(RESULTS) == []


@pytest.mark.parametrize("kind", ["train", "static", "speed"])
def test_a_committed_record_is_to_be_believed(kind):
    assert record_problems(first(kind)) == []


def test_a_score_that_its_matrices_do_not_give_is_found():
    record = first("train")
    edited = {**record.result["test_scores"], "macro_f1": 0.99}
    (problem,) = record_problems(changed(record, "result", test_scores=edited))
    assert problem.startswith("test_scores.macro_f1 is 0.99, but its matrices give 0.")


def test_a_score_that_is_no_share_is_found():
    problems = record_problems(changed(first("train"), "result", extra={"macro_iou": 1.2}))
    assert problems == ["result.extra.macro_iou is 1.2; it is a share between 0 and 1"]


def test_a_count_that_the_counter_does_not_give_is_found():
    record = first("static", having=lambda r: r.determinants["config"] == {"family": "lale"})  # lale-s1
    wrong = record.result["params"] + 1
    (problem,) = record_problems(changed(record, "result", params=wrong, params_by_part={}))
    assert problem == f"params is {wrong:,}, but the counter gives {wrong - 1:,}"
    (problem,) = record_problems(changed(record, "result", params=wrong), counts=False)
    assert problem == f"params is {wrong}, but params_by_part adds up to {wrong - 1}"


def test_a_rate_over_the_roofline_is_found():
    record = first("speed")
    label, speed = next(iter(record.result["speeds"].items()))
    faster = {**speed, "ceiling_share": 1.7, "ceiling_share_low": 1.5, "ceiling_share_high": 1.9}
    problems = record_problems(changed(record, "result", speeds={label: faster}))
    assert f"{label}: 170% of the roofline; the clock did not wait for the device" in problems
    assert any("but its throughput makes it" in problem for problem in problems)


@pytest.mark.parametrize(
    "part, values, sentence",
    [
        ("environment", {"cpu_capability": ""}, "its environment lacks cpu_capability"),
        ("environment", {"packages": {}}, "its environment does not name the version of torch"),
        ("environment", {"hostname": "node-17"}, "a field of this name tells of the machine"),
        ("about", {"data": "/home/someone/tiles/"}, "an absolute path"),
        ("about", {"config": {"family": "lale", "depths": [4, 4, 4, 4]}}, "is not the one of its key"),
    ],
)
def test_what_a_record_must_and_must_not_say(part, values, sentence):
    (problem,) = record_problems(changed(first("train"), part, **values), counts=False)
    assert sentence in problem


def test_an_edited_record_and_an_empty_folder(tmp_path, capsys):
    record = first("train")
    path = RecordStore(tmp_path / "records").put(record)
    assert run(["records", "check", str(tmp_path)]) == 0
    path.write_text(path.read_text().replace(f'"seed": {record.determinants["seed"]}', '"seed": 77'), encoding="utf-8")
    assert run(["records", "check", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "its key is not that of its kind and determinants" in said.out
    assert len([line for line in said.out.splitlines() if "damaged" in line]) == 1
    assert "1 problem in" in said.err
    with pytest.raises(BenchError, match="holds no records"):
        check_folder(tmp_path / "nothing")


def test_a_verdict_in_a_table_that_the_records_do_not_give_is_found(tmp_path):
    study = json.loads((RESULTS / "dubai" / "ablation" / "study.json").read_text(encoding="utf-8"))
    folder = tmp_path / "ablation"
    shutil.copytree(RESULTS / "dubai" / "ablation", folder, ignore=shutil.ignore_patterns("figures"))
    for key in study["cells"].values():
        for source in (RESULTS / "dubai" / "records").glob(f"*/{key}.json"):
            target = tmp_path / "records" / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    assert table_problems(folder) == []
    table = folder / "table.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("undecided", "better", 1), encoding="utf-8")
    (problem,) = table_problems(folder)
    assert "verdict is better, but the records give undecided" in problem
    header, base, *rest = table.read_text(encoding="utf-8").splitlines()
    base = ",".join(
        "n/a" if key == "f1" else value for key, value in zip(header.split(","), base.split(","), strict=True)
    )
    table.write_text("\n".join([header, base, *rest]), encoding="utf-8")
    assert any("f1 is n/a, but the records give 0." in problem for problem in table_problems(folder))
