"""Settling: seeds are added where a verdict is undecided, every look is written down, and it goes on from there."""

import signal
import time
from dataclasses import replace

import pytest
from test_study import RECIPE, tiny_setting, tiny_study

from bench.engine import StudyInterrupted
from bench.errors import BenchError
from bench.study import load_results, plan_study, run_study, write_report
from bench.study.result import result_of
from bench.study.settling import Settling


def test_seeds_must_follow_each_other(tmp_path):
    for seeds in ((0,), (0, 2)):
        with pytest.raises(BenchError, match="follow each other"):
            Settling(tiny_study(), tiny_setting(tmp_path, seeds=seeds), run_study, 1.0)


def test_a_plan_has_as_many_trainings_of_each_variant_as_it_says(tmp_path):
    settling = Settling(tiny_study(), tiny_setting(tmp_path), run_study, 1.0)
    plan = settling.plan({"base": 4, "norm=layernorm": 2, "stem=patchify": 3}, [])
    trained = [label for label in plan.labelled if label.startswith("train")]
    assert [sum(name in label for label in trained) for name in ("base", "norm", "stem")] == [4, 2, 3]
    assert set(plan.labelled) == set(plan.manifest.cells)


def endless(plan):
    """A run that only an interruption ends, which every run of cells turns into this."""
    plan.manifest.save(plan.folder)
    try:
        while plan.missing:
            time.sleep(0.01)
    except KeyboardInterrupt:
        raise StudyInterrupted(plan.missing) from None


def test_a_first_look_that_the_time_does_not_suffice_for_is_interrupted(tmp_path):
    """It is no look: nothing is judged, and the same command goes on with it. So it does where a script that started it
    in the background has it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    settling = Settling(tiny_study(), tiny_setting(tmp_path), endless, 0.2 / 3600)
    began = time.monotonic()
    with pytest.raises(StudyInterrupted):
        settling.settle()
    assert time.monotonic() - began >= 0.2
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN


def test_ctrl_c_before_the_time_is_up_stays_ctrl_c(tmp_path):
    def interrupted(plan):
        raise StudyInterrupted(plan.missing)

    with pytest.raises(StudyInterrupted):
        Settling(tiny_study(), tiny_setting(tmp_path), interrupted, 1.0).settle()


def with_a_look(tmp_path):
    """A study of which the first look was taken, without its trainings."""
    settling = Settling(tiny_study(), tiny_setting(tmp_path), run_study, 1.0)
    counts = dict.fromkeys(("base", "norm=layernorm", "stem=patchify"), 2)
    look = {"level": 0.0125, "seeds": counts, "verdicts": dict.fromkeys(("norm=layernorm", "stem=patchify"), "worse")}
    plan = settling.plan(counts, [look])
    plan.manifest.save(plan.folder)
    return settling, counts, look


@pytest.mark.parametrize(
    "change",
    [
        {"setting": {"recipe": replace(RECIPE, lr=0.1)}},
        {"setting": {"delta": 0.05}},
        {"setting": {"seeds": (5, 6)}},
        {"setting": {"seeds": (0, 1, 2)}},
        {"study": {"variants": tiny_study().variants[:2]}},
    ],
)
def test_looks_at_other_trainings_are_not_taken_over(tmp_path, change):
    settling, _, _ = with_a_look(tmp_path)
    other = replace(
        settling,
        setting=tiny_setting(tmp_path, **change.get("setting", {})),
        study=tiny_study(**change.get("study", {})),
    )
    before = (tmp_path / "tiny" / "study.json").read_bytes()
    with pytest.raises(BenchError, match=r"looks at other trainings.*another --out"):
        other.settle()
    assert (tmp_path / "tiny" / "study.json").read_bytes() == before


def test_a_settled_study_is_not_run_without_its_looks(tmp_path):
    """Its intervals would be those of a single look, and the next --settle would spend the error once more."""
    with_a_look(tmp_path)
    before = (tmp_path / "tiny" / "study.json").read_bytes()
    with pytest.raises(BenchError, match="settled look by look: go on with --settle"):
        run_study(plan_study(tiny_study(), tiny_setting(tmp_path)))
    assert (tmp_path / "tiny" / "study.json").read_bytes() == before


def test_what_is_missing_of_the_last_look_is_measured_again(tmp_path):
    """As with --retry-failed, or where a record was damaged."""
    settling, _, _ = with_a_look(tmp_path)

    def run(plan):
        raise StudyInterrupted(plan.missing)

    with pytest.raises(StudyInterrupted) as stopped:
        replace(settling, run=run).settle()
    assert stopped.value.remaining > 0


def test_trainings_for_the_next_look_wait_until_it_is_taken(tmp_path):
    """Also where the process was killed before it could write that."""
    settling, counts, look = with_a_look(tmp_path)
    wider = settling.plan({**counts, "base": 4, "stem=patchify": 3}, [look])
    wider.manifest.save(wider.folder)
    declared = result_of(load_results(wider.folder)).manifest
    assert {label: len(declared.planned(label)) for label in counts} == counts


@pytest.mark.slow
def test_looks_are_written_down_resumed_and_read_at_their_level(tmp_path):
    setting = tiny_setting(tmp_path, delta=1e-6)  # nothing can be equivalent
    run_study(plan_study(tiny_study(), setting))  # the first look is measured when the time is up
    none_left = Settling(tiny_study(), setting, run_study, 0.0)
    plan = none_left.settle()
    (first,) = load_results(plan.folder).manifest.details["looks"]
    assert first["level"] == pytest.approx(0.0125)
    assert first["seeds"] == {"base": 2, "norm=layernorm": 2, "stem=patchify": 2}
    assert set(first["verdicts"]) == {"norm=layernorm", "stem=patchify"}
    at_first = dict(load_results(plan.folder).manifest.cells)
    cut = replace(none_left, run=endless, hours=0.2 / 3600).settle()  # stopped inside the second look
    manifest = load_results(cut.folder).manifest
    assert (manifest.details["looks"], dict(manifest.cells)) == ([first], at_first)
    looks = load_results(replace(none_left, hours=1.0).settle().folder).manifest.details["looks"]
    assert looks[0] == first
    assert 2 <= len(looks) <= 4
    result = result_of(load_results(plan.folder))
    counts = result.frame.set_index("variant")["seeds"].to_dict()
    assert counts == looks[-1]["seeds"]
    assert (result.frame["status"] == "").all()
    assert any(
        said.startswith(f"Looks taken: {len(looks)} of at most 4.") for said in write_report(plan.folder).findings
    )
    settled = {label for label, word in first["verdicts"].items() if word != "undecided"}
    assert all(looks[-1]["seeds"][label] == 2 for label in settled)
