"""`lale-bench list` and `show`: what they say is what the registry and the counter say."""

import io
import json

import pytest
from rich.console import Console

import archs
from bench.cli.app import run
from bench.counting import count_macs, count_params


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))


def listed(capsys, *arguments):
    assert run(["list", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_row_holds_the_networks_own_figures(capsys):
    (row,) = listed(capsys, "lemore", "--size", "64")
    entry = archs.entry("lemore")
    model = archs.build(entry.config)
    assert row["params"] == count_params(model).total
    assert row["macs"] == count_macs(model, (64, 64)).total
    assert (row["family"], row["year"], row["paper"]) == ("lemore", entry.provenance.year, entry.provenance.paper)
    assert row["reconstruction"] is True
    assert row["input"]


def test_known_figures_are_listed_without_a_progress_bar(capsys, monkeypatch):
    """On a terminal a bar was drawn and erased though nothing was to be counted."""
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("bench.cli.catalogue.PROGRESS", terminal)
    assert run(["list", "lale-s1", "--size", "64"]) == 0
    assert terminal.file.getvalue()  # the first time it is counted
    terminal.file.seek(0)
    terminal.file.truncate()
    assert run(["list", "lale-s1", "--size", "64"]) == 0
    assert terminal.file.getvalue() == ""


def test_several_patterns_name_each_once(capsys):
    names = [row["name"] for row in listed(capsys, "lale-s[12]", "lale-s1", "lale-b-*", "--size", "64")]
    assert names == ["lale-s1", "lale-s2", "lale-b-s1-k7", "lale-b-s2-k7"]


def test_sorted_by_what_is_asked_for(capsys):
    rows = listed(capsys, "lale-*", "--size", "64", "--sort", "macs")
    assert [row["macs"] for row in rows] == sorted(row["macs"] for row in rows)
    assert [row["name"] for row in rows] != archs.names("lale-*")


def test_the_table_shows_what_the_json_holds(capsys):
    assert run(["list", "lale-s1", "--size", "256"]) == 0
    out = capsys.readouterr().out
    assert "1,567,109" in out
    assert "0.576" in out
    assert "(reconstruction)" in out


def test_a_network_of_one_size_is_counted_at_that_size_and_says_so(capsys):
    (row,) = listed(capsys, "smp/dpt-efficientformer_l1", "--size", "64")
    assert row["size"] == [224, 224]
    assert row["macs"] > 0
    assert row["input"] == "224x224"


def test_the_parts_of_a_network_add_up_to_it(capsys):
    assert run(["show", "lale-s1", "--size", "256", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["params"] == sum(part["params"] for part in shown["parts"]) == 1_567_109
    assert shown["macs"] == sum(part["macs"] for part in shown["parts"]) == 576_323_584
    assert shown["parts"][0]["name"] == "stem"


def test_show_takes_other_fields_and_saved_configs(tmp_path, capsys):
    archs.save_config(archs.config("lale-s1", depths=(1, 2, 1, 1)), tmp_path / "mine.json")
    assert run(["show", "lale-s1", "--set", "depths=1,2,1,1", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert run(["show", str(tmp_path / "mine.json"), "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert one["params"] == other["params"] > 1_567_109


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "lale-s9*"), "lale-s9*"),
        (("list", "--sort", "beauty"), "params"),
        (("show", "lale-s11"), "lale-s1"),
        (("show", "lale-s1", "--set", "widhts=1"), "widths"),
    ],
)
def test_mistakes_get_a_sentence(arguments, said, capsys):
    assert run(list(arguments)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "lale-s1", "--out", "afile"),
        ("study", "benchmark", "--out", "afile"),
        ("study", "claims", "--out", "afile/below"),
        ("search", "--out", "afile"),
        ("quickstart", "--out", "afile"),
        ("export", "lale-s1", "--out", "afile/x"),
        ("export", "lale-s1", "--onnx", "afile/x.onnx"),
        ("data", "draw", "afile/x.png"),
        ("data", "tile", "images", "masks", "afile"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_the_start(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("x", encoding="utf-8")
    assert run(list(arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert f"since {tmp_path / 'afile'} is a file; give another path" in error
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["afile"]


def test_a_table_that_goes_to_a_file_comes_without_progress(capsys):
    assert run(["list", "lale-s1", "--size", "64"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["my.study", "nowhere", "studies.claims", "claims.report", ""])
def test_a_name_of_no_study_gets_a_sentence(name, capsys):
    assert run(["study", name]) == 1
    assert f"there is no study {name!r}; there are ablation, benchmark, calibration, claims" in capsys.readouterr().err


@pytest.mark.parametrize("counter", ["fvcore", "thop"])
def test_what_another_counter_sees_otherwise_adds_up(counter, capsys):
    assert run(["show", "lale-s1", "--size", "64", "--against", counter, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["reconciliation"]
    assert found["exact"] + sum(row["foreign"] - row["exact"] for row in found["rows"]) == found["foreign"]
    assert found["rows"] and found["counter"].startswith(counter)


def test_the_differences_of_a_counter_are_printed(capsys):
    assert run(["show", "lale-s1", "--size", "64", "--against", "fvcore"]) == 0
    assert "added" in capsys.readouterr().out
    assert run(["show", "lale-s1", "--size", "64", "--against", "ptflops"]) == 1
    assert "no counter 'ptflops' to compare with; there are fvcore, thop" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list", "lale-s1"], ["show", "lale-s1"], ["measure", "lale-s1", "--no-speed"]])
def test_an_image_without_a_pixel_is_refused(command, capsys):
    assert run([*command, "--size", "0"]) != 0
    assert "--size" in capsys.readouterr().err
