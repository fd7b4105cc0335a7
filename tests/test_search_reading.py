"""Reading a search: members in words, what the score depended on, what the storage holds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_formula import QUIET, S1

import archs
from bench.cli.app import run as run_command
from bench.errors import BenchError
from bench.report.figures.space import draw_importance, draw_parallel
from bench.search import Budget, SearchPlan, words
from bench.search.halving import parse_rungs
from bench.search.importance import importance
from bench.search.report import (
    FORMAT,
    _edges,
    _findings,
    _member_columns,
    _members,
    described,
    known_as,
    report_search,
    searched_in,
)
from bench.search.run import SearchSetting, run_and_report
from bench.search.words import effect
from bench.training.recipe import Recipe


def test_a_difference_names_what_changed_and_nothing_else():
    other = replace(S1, norm="layernorm", depths=(1, 1, 2, 1), mixer_mlp=not S1.mixer_mlp)
    said = words.difference(S1, other)
    assert "norm layernorm (was rmsnorm)" in said and "depths 1, 1, 2, 1 (was" in said
    assert "mixer mlp" in said and said.count(";") == 2
    assert words.difference(S1, S1) == "the same network"
    assert "another family: smp" in words.difference(S1, archs.config("smp/unet-efficientnet_b0"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(100, 69, "31 % fewer parameters"), (100, 120, "20 % more parameters"), (100, 100, "as many parameters"),
     (100, 210, "2.1 times the parameters")],
)  # fmt: skip
def test_costs_in_words(before, after, said):
    assert words.change(before, after, "parameters") == said


def test_what_the_statistics_say_stands_with_the_effect():
    row = pd.Series({"effect": -0.012, "effect_low": -0.03, "effect_high": 0.006, "verdict": "undecided"})
    assert words.effect(row) == "−1.2 [−3.0, +0.6] points of F1 on these test images: undecided"
    assert words.effect(pd.Series({"effect": None})) == "not yet compared on test tiles"


def trials(score, n=60):
    """Fields a (numbers), b (names), c (numbers without effect), and a score of the first two."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": random.integers(5, size=n), "b": random.choice(["x", "y", "z"], size=n), "c": random.integers(5, size=n)}
    )
    return frame.assign(f1=[score(a, b) for a, b in zip(frame["a"], frame["b"], strict=True)])


DIMENSIONS = {"a": range(5), "b": ("x", "y", "z"), "c": range(5), "fixed": (1,)}


@given(st.floats(0.01, 100), st.floats(-5, 5))
@settings(max_examples=3)
def test_importance_finds_the_field_and_does_not_mind_the_scale(scale, offset):
    found = importance(trials(lambda a, b: scale * (0.01 * a) + offset).assign(fixed=1), DIMENSIONS)
    first = found.iloc[0]
    assert found["field"].iloc[0] == "a" and "fixed" not in set(found["field"])
    assert first["share"] == pytest.approx(1) and first["trend"] == pytest.approx(1) and first["best"] == 4
    assert first["p"] < 0.01 and (found["low"] <= found["share"]).all() and (found["share"] <= found["high"]).all()


def test_importance_of_names_and_of_noise():
    found = importance(trials(lambda a, b: {"x": 0.1, "y": 0.9, "z": 0.2}[b]).assign(fixed=1), DIMENSIONS)
    assert found["field"].iloc[0] == "b" and found.iloc[0]["best"] == "y" and np.isnan(found.iloc[0]["trend"])
    noise = np.random.default_rng(1)
    found = importance(trials(lambda a, b: noise.random()).assign(fixed=1), DIMENSIONS)
    assert (found["p"] > 0.01).all() and found["share"].max() < 0.2
    assert importance(trials(lambda a, b: a, n=7).assign(fixed=1), DIMENSIONS).empty


def test_figures_of_a_space(tmp_path):
    frame = trials(lambda a, b: 0.1 * a).assign(fixed=1, macs=1e9, front=False, status="")
    frame.loc[3, "f1"] = np.nan
    files = draw_parallel(frame, DIMENSIONS, "macs", tmp_path / "parallel")
    files += draw_importance(importance(frame, DIMENSIONS), tmp_path / "importance")
    assert len(files) == 2 and all(path.stat().st_size > 5000 for path in files)
    assert draw_parallel(frame.iloc[:1], DIMENSIONS, "macs", tmp_path / "one") == []
    assert draw_importance(importance(frame.iloc[:5], DIMENSIONS), tmp_path / "few") == []


def test_known_configs_are_called_by_their_names():
    assert known_as(archs.config("lale-s2"), S1) == "lale-s2"
    other = replace(S1, depths=(1, 1, 1, 2))
    assert known_as(other, other) == "base" and known_as(other, S1) == ""


def test_a_registered_member_of_a_front_has_both_of_its_names():
    s2 = archs.config("lale-s2")
    trial = {"variant": "lale-12345678", "known": "lale-s2", "status": "", "config": archs.to_dict(s2), "fields": {}}
    trials = pd.DataFrame([{**trial, "params": 2e6, "macs": 1e9, "latency_ms": None}])
    document = {"front": ["lale-12345678"], "ladder": None, "dimensions": {}, "cost": "macs", "base": archs.to_dict(S1)}
    assert "on the front: lale-12345678 (registered as lale-s2)." in _findings(document, trials, None)[0]
    (words,) = _members(document, trials, None)["words"]
    assert words.startswith("registered as lale-s2; ")


def test_a_folder_without_a_search_is_told(tmp_path, capsys):
    assert run_command(["search", "show", str(tmp_path / "nothing")]) == 1
    assert "holds no search that can be read" in capsys.readouterr().err


def test_a_searched_folder_is_read_again_and_members_have_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))
    plan = SearchPlan(S1, ("depths",), budget=Budget(max_gmacs=0.01), trials=3, sampler="random")
    recipe = Recipe(steps=2, eval_every=2, batch=4)
    setting = SearchSetting("terrain:seed=3,size=32,train=8,val=4,test=4", recipe, (1,), (32, 32), out=tmp_path,
                            rungs=parse_rungs("1,2"), name="search")  # fmt: skip
    report = run_and_report(plan, setting, console=QUIET)
    assert set(report.members["variant"]) == {path.stem for path in (tmp_path / "search/front").glob("*.safetensors")}
    for said in report.members["words"]:
        assert "points of F1 on these test images" in said or said == "the base itself"
    assert any("Successive halving took" in sentence for sentence in report.findings)
    assert "| 1 step" in (tmp_path / "search/halving.md").read_text()
    again = report_search(tmp_path / "search")
    pd.testing.assert_frame_equal(again.members, report.members)
    assert (tmp_path / "search" / "front.md").exists()
    assert run_command(["search", "show", str(tmp_path / "search"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["front"]


def test_a_front_at_the_end_of_the_space_says_so():
    document = {"dimensions": {"widths.1": [16, 24, 32], "depths.1": [1, 2, 3], "fusion": ["concat", "sum"]}}
    ends = [{"widths.1": 16, "depths.1": 1, "fusion": "sum"}, {"widths.1": 16, "depths.1": 3, "fusion": "sum"}]
    names = ["lale-1", "lale-2"]
    (sentence,) = _edges(document, pd.DataFrame({"variant": names, "fields": ends}))
    assert "All 2 members of the front have the smallest value that the space holds of widths.1:" in sentence
    inside = [{**ends[0], "widths.1": 24}, ends[1]]
    assert not _edges(document, pd.DataFrame({"variant": names, "fields": inside}))
    assert not _edges(document, pd.DataFrame({"variant": [], "fields": []}))
    one_twice = pd.DataFrame({"variant": ["lale-1", "lale-1"], "fields": [ends[0], ends[0]]})
    assert not _edges(document, one_twice)  # a front of one says nothing of the space


def test_a_front_by_latency_shows_it_and_is_sorted_by_it():
    s2, trial = archs.config("lale-s2"), {"known": "", "status": "", "fields": {}}
    rows = [
        {**trial, "variant": "lale-1", "config": archs.to_dict(s2), "params": 2e6, "macs": 1e9, "latency_ms": 3.0},
        {**trial, "variant": "lale-2", "config": archs.to_dict(S1), "params": 1e6, "macs": 9e9, "latency_ms": 2.0},
    ]
    document = {"front": ["lale-1", "lale-2"], "cost": "latency_ms", "base": archs.to_dict(S1)}
    found = _members(document, pd.DataFrame(rows), None)
    assert found["latency_ms"].tolist() == [2.0, 3.0] and "latency_ms" in [c.key for c in _member_columns(found)]
    assert "latency_ms" not in [c.key for c in _member_columns(found.assign(latency_ms=None))]


def test_a_member_whose_final_trainings_failed_says_so():
    row = pd.Series({"status": "failed", "reason": "CUDA ran out of memory", "effect": None})
    assert effect(row) == "its trainings for the test tiles failed: CUDA ran out of memory"


TILES = "terrain:seed=3,size=32,train=8,val=4,test=4"


def small_search(out, **changes):
    plan = SearchPlan(S1, ("depths", "decoder_width"), trials=3, sampler="random")
    setting = SearchSetting(TILES, Recipe(steps=2, eval_every=2, batch=4), (1,), (32, 32), out=out)
    setting = replace(setting, **{key: changes.pop(key) for key in list(changes) if hasattr(setting, key)})
    return run_and_report(replace(plan, **changes), setting, console=QUIET)


def params_of_front(report):
    front = report.folder / "front"
    assert {path.stem for path in front.glob("*.json")} == set(report.members["variant"])
    return [sum(p.numel() for p in archs.create(path).parameters()) for path in front.glob("*.json")]


@pytest.mark.slow
def test_each_search_has_a_folder_and_its_front_is_replaced_whole(tmp_path, monkeypatch):
    """A second budget once left members over it in the folder of the first front."""
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))
    first = small_search(tmp_path)
    params_of_front(first)
    (first.folder / "front" / "stale.json").write_text("left by an earlier front")
    second = small_search(tmp_path, budget=Budget(max_params=1.6e6))
    assert first.folder != second.folder and max(params_of_front(second)) <= 1.6e6
    longer = small_search(tmp_path, trials=5)
    assert longer.folder == first.folder
    params_of_front(longer)
    weights = {path.stem for path in (longer.folder / "front").glob("*.safetensors")}
    assert weights == set(longer.members["variant"])
    with pytest.raises(BenchError, match=r"holds another search, lale-\w+; this one is lale-\w+: give another --name"):
        small_search(tmp_path, budget=Budget(max_params=1.7e6), name=first.folder.name)
    with pytest.raises(BenchError, match="--name a/b is no name of a folder"):
        small_search(tmp_path, name="a/b")


def test_a_search_whose_trials_all_fail_is_one_sentence_and_takes_no_studys_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.training.trainer._Run.__init__", out_of_memory)
    with pytest.raises(BenchError, match=r"all 3 trials of the search failed, the first because .*memory"):
        small_search(tmp_path, name="small")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "study.json").write_text("{}")
    with pytest.raises(BenchError, match="taken holds a study: give another --name"):
        small_search(tmp_path, name="taken")


def out_of_memory(*args, **kwargs):
    raise RuntimeError("out of memory on purpose")


def test_halving_by_other_rungs_is_another_search(tmp_path):
    rows = [{"rung": "1 step", "steps": 1}, {"rung": "2 steps", "steps": 2}, {"rung": "MACs, no training", "steps": 0}]
    document = {"format": FORMAT, "search": "lale-1", "ladder": {"rungs": rows}}
    (tmp_path / "search.json").write_text(json.dumps(document))
    assert searched_in(tmp_path) == "lale-1 by 1 step, 2 steps" == described("lale-1", ["1 step", "2 steps"])


def test_the_old_name_of_halving_answers(capsys):
    assert run_command(["search", "--ladder", "25,75"]) == 1
    assert capsys.readouterr().err == "error: --ladder is called --halving now: give --halving 25,75\n"


def test_a_committed_search_still_opens(tmp_path):
    committed = Path(__file__).resolve().parent.parent / "results" / "dubai"
    for name in ("search", "search-front", "records"):
        shutil.copytree(committed / name, tmp_path / name)
    report = report_search(tmp_path / "search")
    assert list(report.members["variant"]) and report.final is not None
    assert (tmp_path / "search" / "front.md").read_text() == (committed / "search" / "front.md").read_text()
