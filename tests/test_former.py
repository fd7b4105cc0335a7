"""Study folders of former formats carried over by `records upgrade`: `plot` opens them, twice without harm."""

import json
import shutil
from pathlib import Path

import pytest

from bench.cli.app import run
from bench.records.upgrade import upgrade_folder
from bench.study.former import upgrade_manifests
from bench.study.protocol import load_manifest

RESULTS = Path(__file__).parents[1] / "results"
DPT = "smp/dpt-maxvit_tiny_tf_224"
NO_FIT = "a 256x256 image does not fit: this network takes 224x224 only; counted at that size"


def row(label, cells, seeds=(), skipped="", base="lale-s1"):
    """A row as "lale-bench study 1" had it, with the keys of today's records."""
    trains = [cells[f"train: {label}, seed {seed}"] for seed in seeds]
    return {
        "label": label, "family": label.split("/")[0].split("-")[0], "factor": "", "static": cells[f"static: {label}"],
        "trains": trains, "trained": bool(seeds), "skipped": skipped, "base": base,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A study of variants of format 1 and a survey of format 1, with the records of the committed ones."""
    whole = json.loads((RESULTS / "dubai/benchmark/study.json").read_text())
    cells, setting = whole["cells"], whole["setting"]
    seeds = setting["seeds"]
    old = {
        "format": "lale-bench study 1", "study": "benchmark", "question": whole["question"], "base": "lale-s1",
        "figures": ["pareto", "per_class"], "data": whole["details"]["data"], "recipe": setting["recipe"],
        "seeds": seeds, "size": [256, 256], "device": "cpu",
        "speeds": {"1": cells["speed: batch 1"], "8": cells["speed: batch 8"]},
        "rows": [
            row("lale-s1", cells, seeds, base=None),
            row("smp/linknet-efficientnet_b0", cells, seeds),
            row("lale-b-s1-k7", cells),
            row(DPT, cells, skipped=NO_FIT),
        ],
    }  # fmt: skip
    runs = tmp_path / "runs"
    _write(runs / "benchmark" / "study.json", old)
    growth = json.loads((RESULTS / "scaling/study.json").read_text())
    survey = {"format": "lale-bench survey 1", "survey": "scaling", "device": "cpu"}
    _write(runs / "scaling" / "survey.json", survey | {key: growth[key] for key in ("question", "cells")})
    keys = {key for row in old["rows"] for key in (row["static"], *row["trains"])}
    for key in keys | set(old["speeds"].values()) | set(growth["cells"].values()):
        source = next(RESULTS.rglob(f"{key}.json"))
        place = runs / "records" / source.parent.name / source.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    return runs


def _write(path, document):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_plot_opens_what_was_carried_over(folder, capsys):
    before = contents(folder)
    assert run(["plot", str(folder / "benchmark")]) == 1 and "records upgrade" in capsys.readouterr().err
    assert run(["records", "upgrade", str(folder)]) == 0
    assert run(["plot", str(folder / "benchmark"), "--json"]) == 0
    rows = (folder / "benchmark/table.csv").read_text().splitlines()[1:]
    made = {line.split(",")[0]: line for line in rows}
    assert list(made) == ["lale-s1", "smp/linknet-efficientnet_b0", "lale-b-s1-k7", DPT]
    assert NO_FIT in made[DPT]
    assert run(["plot", str(folder / "scaling"), "--json"]) == 0
    assert (folder / "scaling/growth.csv").read_text() == (RESULTS / "scaling/growth.csv").read_text()
    backup = contents(folder.with_name("runs-schema-1"))
    assert set(map(str, backup)) == {"benchmark/study.json", "scaling/survey.json"} and backup.items() <= before.items()


def test_every_measured_cell_keeps_its_place(folder):
    old = json.loads((folder / "benchmark/study.json").read_text())
    upgrade_manifests(upgrade_folder(folder, {}))
    manifest = load_manifest(folder / "benchmark")
    assert manifest.declared and manifest.setting["batches"] == [1, 8] and manifest.skipped == {DPT: NO_FIT}
    for one in old["rows"]:
        assert manifest.cells[f"static: {one['label']}"] == one["static"]
        assert [key for label, key in manifest.cells.items() if label.startswith(f"train: {one['label']},")] == one[
            "trains"
        ]
    assert [manifest.cells[f"speed: batch {batch}"] for batch in (1, 8)] == list(old["speeds"].values())
    assert load_manifest(folder / "scaling").source == "scaling" and not (folder / "scaling/survey.json").exists()


def test_a_second_time_changes_nothing(folder):
    upgrade_manifests(upgrade_folder(folder, {}))
    before = contents(folder.parent)
    done = upgrade_folder(folder, {})
    upgrade_manifests(done)
    assert done.files == [] and contents(folder.parent) == before


def test_a_damaged_manifest_is_told_and_costs_no_other(folder):
    _write(folder / "bad" / "study.json", {"format": "lale-bench study 1"})
    done = upgrade_folder(folder, {})
    upgrade_manifests(done)
    assert list(done.aside) == [f"{folder / 'bad/study.json'} is no manifest that can be read; run the study again"]
    assert load_manifest(folder / "benchmark").study == "benchmark"
