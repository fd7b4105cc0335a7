"""`choose`: which networks meet a wish, from records of real studies, and what it refuses to say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import archs
from bench.choose import words
from bench.choose.answer import ALIKE, ELSEWHERE, HERE, MIB, RECORD, THREADS, answer, contenders
from bench.choose.candidates import NOT_COMPARED, candidates, find_set, relation
from bench.choose.known import (
    TABLE,
    Known,
    KnownComparison,
    KnownNetwork,
    KnownSet,
    KnownSpeed,
    KnownStudy,
    Machine,
    Score,
    committed,
    table_text,
)
from bench.choose.reading import counted, gather, known_study
from bench.choose.timing import Land, Race, Raced, available
from bench.choose.wish import Wish, agreed_gsd, parse_duration
from bench.cli.app import run
from bench.counting import count_params
from bench.errors import BenchError
from bench.records import Record, RecordStore
from bench.report.columns import is_missing
from bench.study import Setting, Variant, VariantStudy, load_results, plan_study, run_study
from bench.study.result import result_of
from bench.training.recipe import RECIPES

ROOT = Path(__file__).parent.parent
LAND = "terrain:size=32,train=12,val=4,test=6"
TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
RECIPE = replace(RECIPES["smoke"], steps=4, eval_every=2, warmup_steps=1, batch=2, crop=32)
ASKED = ["choose", "--data", LAND, "--land-km2", "1", "--gsd", "0.5"]

SET = KnownSet("made", "f" * 32, (256, 256), 5, 3)
MACHINE = Machine("a processor", 2)
RECIPES_MADE = {"steps": 10, "batch": 8, "crop": 128, "precision": "fp32"}


# Made by hand: plain data, as records give it


def network(name, f1=0.6, mib=6.0, params=1e6, trainings=3, half=0.02, **scores):
    costs = {"params": params, "storage_bytes": mib * MIB, "deployed_params": params, "deployed_file_bytes": mib * MIB}
    own = Score(f1, f1 - half, f1 + half, trainings)
    return KnownNetwork(name, {"family": name}, costs, {"fp32": own, **scores})


def study(*networks, comparisons=(), name="benchmark", recipe=RECIPES_MADE):
    return KnownStudy(name, SET, recipe, tuple(networks), tuple(comparisons))


def speed(name, throughput=10.0, **changes):
    about = {"device": MACHINE.device, "threads": MACHINE.threads, "form": "deployed", "runtime": "openvino"}
    fields = {"size": (256, 256), "num_classes": 5, "in_channels": 3, "precision": "fp32", "batch": 4, **about}
    rates = {"throughput": throughput, "low": 0.9 * throughput, "high": 1.1 * throughput}
    return KnownSpeed({"family": name}, memory_format="contiguous", **{**fields, **rates, **changes})


def known(*studies, speeds=()):
    return Known(tuple(studies), tuple(speeds))


def names(offers):
    return [offer.name for offer in offers]


def wish(**limits):
    return Wish(10.0, 0.5, **limits)


PAIR = known(
    study(
        network("small", 0.60), network("large", 0.65, mib=40.0, params=9e6),
        comparisons=[KnownComparison(1, 0, "undecided")],
    ),
    speeds=[speed("small", 20.0), speed("large", 5.0)],
)  # fmt: skip


# What meets a wish


def test_the_highest_f1_stands_first_and_the_tie_and_the_quickest_are_told():
    found = answer(PAIR, SET, wish(f1=0.5), here=MACHINE)
    assert names(found.chosen) == ["large", "small"]
    assert found.verdicts == (("undecided", ""),)
    said = " ".join(words.sentences(found))
    assert "Highest macro F1 of those that meet the wish: large" in said
    assert "Tied in verdict on these test images: small (undecided)" in said
    assert "The quickest of these: small" in said


@pytest.mark.parametrize(
    "limit, option, figure",
    [
        ({"within": 100.0}, "--within", "it takes"),
        ({"max_mib": 30.0}, "--max-mib", "40 MiB of weights"),
        ({"max_params": 5e6}, "--max-params", "9,000,000 parameters"),
        ({"max_memory": 100.0}, "--max-memory", "200 MiB of memory"),
    ],
)
def test_a_limit_excludes_the_best_and_is_named(limit, option, figure):
    def peak(net, run):
        return (200 if net.name == "large" else 50) * MIB

    found = answer(PAIR, SET, wish(**limit), here=MACHINE, memory=peak)
    assert names(found.chosen) == ["small"]
    assert list(found.excluded[0].breaks) == [option]
    (sentence,) = [one for one in words.sentences(found) if one.startswith("Best of the 1 excluded: large (65.0 %)")]
    assert figure in sentence and option in sentence


def test_too_low_an_f1_excludes_and_nothing_may_be_left():
    found = answer(PAIR, SET, wish(f1=0.7), here=MACHINE)
    assert names(found.excluded) == ["large", "small"]
    assert words.sentences(found)[0] == "No network is known to meet the wish."
    assert "its macro F1 is 65.0 % and --f1 70.0 %" in words.sentences(found)[1]


@given(
    f1s=st.lists(st.floats(0.3, 0.9), min_size=1, max_size=6),
    f1=st.none() | st.floats(0.3, 0.9),
    within=st.none() | st.floats(1, 1e5),
    most=st.none() | st.floats(1, 20),
)
def test_every_network_is_chosen_or_excluded_with_a_limit_that_it_breaks(f1s, f1, within, most):
    made = [network(f"n{i}", value, mib=2.0 + 3 * i) for i, value in enumerate(f1s)]
    speeds = [speed(f"n{i}", 1.0 + 4 * i) for i in range(0, len(made), 2)]
    asked = wish(f1=f1, within=within, max_mib=most)
    found = answer(known(study(*made), speeds=speeds), SET, asked, here=MACHINE)
    assert sorted(names(found.chosen) + names(found.excluded)) == sorted(one.name for one in made)
    for offers in (found.chosen, found.excluded):
        assert [o.score.f1 for o in offers] == sorted((o.score.f1 for o in offers), reverse=True)
    for offer in found.chosen:
        assert f1 is None or offer.score.f1 >= f1
        assert within is None or offer.seconds <= within
        assert most is None or offer.bytes <= most * MIB
    for offer in found.excluded:
        broken = {
            "--f1": f1 is not None and offer.score.f1 < f1,
            "--within": within is not None and (offer.seconds is None or offer.seconds > within),
            "--max-mib": most is not None and offer.bytes > most * MIB,
        }
        assert set(offer.breaks) == {option for option, is_broken in broken.items() if is_broken}


def test_only_what_can_still_meet_the_wish_is_timed():
    found = candidates(PAIR, SET)
    assert names(contenders(found, wish(max_mib=30), 5)) == ["small"]
    assert names(contenders(found, wish(), 1)) == ["large"]


def test_what_an_interval_does_not_settle_is_said():
    large, small = answer(PAIR, SET, wish(f1=0.59), here=MACHINE).chosen
    asked = wish(f1=0.59, within=1.01 * large.seconds)
    assert large.unsettled(asked) == ["time"] and small.unsettled(asked) == ["F1"]
    unsure = replace(network("once"), scores={"fp32": Score(0.9, None, None, 1)})
    (offer,) = answer(known(study(unsure)), SET, wish(f1=0.5)).chosen
    assert offer.unsettled(wish(f1=0.5)) == ["F1"]


# Time for the land


def test_time_is_that_of_the_windows_overlaps_included():
    land = Land.of(wish().pixels, SET)
    assert land.pixels == 4e7
    # Windows of 256 px overlap by 64: of each, (192/256)^2 of the pixels are of use, but at the borders of a scene.
    assert land.useful == pytest.approx((192 / 256) ** 2, rel=0.05)
    offer = answer(PAIR, SET, wish()).chosen[1]
    assert offer.seconds == pytest.approx(4e7 / land.useful / 256**2 / 20)
    assert offer.low < offer.seconds < offer.high
    assert offer.low == pytest.approx(offer.seconds / 1.1)


def test_energy_is_that_of_all_windows_where_it_is_counted():
    counted = known(study(network("a")), speeds=[speed("a", joules=2.0)])
    found = answer(counted, SET, wish())
    assert found.chosen[0].joules == pytest.approx(2 * found.land.computed / 256**2)
    rows = words.frame(found)
    assert "Energy" in [one.header for one in words.columns(found, rows)]
    assert "Energy" not in [one.header for one in words.columns(answer(PAIR, SET, wish()), rows.assign(kwh=None))]


def test_a_speed_of_another_size_says_so():
    found = answer(known(study(network("a")), speeds=[speed("a", size=(128, 128))]), SET, wish())
    assert words.frame(found)["run"][0].endswith("of 128x128")
    same = answer(known(study(network("a")), speeds=[speed("a", 2.5)]), SET, wish())
    assert found.chosen[0].seconds == pytest.approx(same.chosen[0].seconds)


def test_a_network_of_other_classes_or_bands_is_another_network():
    for change in ({"num_classes": 7}, {"in_channels": 4}):
        found = answer(known(study(network("a")), speeds=[speed("a", **change)]), SET, wish())
        assert found.chosen[0].speed is None
        assert "Time not known: a." in words.sentences(found)


def test_without_a_speed_a_limit_of_time_is_not_met():
    found = answer(known(study(network("a"))), SET, wish(within=60))
    assert found.chosen == () and "its time is not known" in found.excluded[0].breaks["--within"]


# Whose figures


@pytest.mark.parametrize(
    "where, here",
    [(ALIKE, MACHINE), (THREADS, MACHINE._replace(threads=1)), (ELSEWHERE, Machine("b", 2)), (RECORD, None)],
)
def test_recorded_speeds_are_marked(where, here):
    found = answer(PAIR, SET, wish(within=1e9), here=here)
    assert {offer.where for offer in found.chosen} == {where}
    told = [*words.sentences(found), *words.frame(found)["where"]]
    assert any("a processor, 2 threads" in text for text in told)
    assert all(("time" in offer.unsettled(found.wish)) == (where in (THREADS, ELSEWHERE)) for offer in found.chosen)


def test_what_was_raced_here_is_judged_by_the_race_alone():
    raced = [speed("small", 1.0), speed("small", 2.0, runtime="eager")]
    large, small = answer(PAIR, SET, wish(), raced=raced, here=MACHINE).chosen
    assert (small.where, small.speed.runtime, small.speed.throughput) == (HERE, "eager", 2.0)
    assert large.where == ALIKE


def test_a_speed_of_this_machine_goes_before_a_quicker_one_of_another():
    both = known(study(network("a")), speeds=[speed("a", 99.0, device="b"), speed("a", 1.0)])
    assert answer(both, SET, wish(), here=MACHINE).chosen[0].speed.throughput == 1.0
    assert answer(both, SET, wish(), here=Machine("b", 2)).chosen[0].speed.throughput == 99.0


def test_disturbed_races_and_failures_are_told():
    busy = Raced((speed("a", other_cores=1.5, cores=2),), {"b, eager, fp32": "no memory"}, earlier=True)
    said = " ".join(busy.sentences)
    assert "other processes used 1.5 of 2 cores" in said and "recorded before" in said
    assert "Not timed: b, eager, fp32 (no memory)." in said
    assert Raced((speed("a", other_cores=0.0, cores=2),)).sentences == []


# Precision


def test_a_precision_without_accuracy_is_shown_and_never_chosen():
    speeds = [speed("a", 10.0), speed("a", 99.0, precision="int8")]
    found = answer(known(study(network("a")), speeds=speeds), SET, wish())
    assert [offer.precision for offer in found.chosen] == ["fp32"]
    assert [offer.precision for offer in found.unscored] == ["int8"]
    row = words.frame(found).to_dict("records")[-1]
    assert row["verdict"] == "accuracy not measured" and is_missing(row["f1"])


def test_a_precision_whose_accuracy_is_known_can_be_chosen():
    speeds = [speed("a", 10.0), speed("a", 99.0, precision="int8")]
    scored = network("a", **{"int8 openvino": Score(0.58, None, None, 1)})
    found = answer(known(study(scored), speeds=speeds), SET, wish(f1=0.5))
    assert [(offer.label, offer.score.f1) for offer in found.chosen] == [("a", 0.6), ("a in int8", 0.58)]
    assert found.verdicts == ((NOT_COMPARED, ""),)  # that of the trainings does not hold for int8
    assert found.chosen[1].unsettled(wish(f1=0.5)) == ["F1"]
    assert "of the weights of one training, scored in that precision" in " ".join(words.sentences(found))
    strict = answer(known(study(scored), speeds=speeds), SET, wish(f1=0.59))
    assert [offer.label for offer in strict.chosen] == ["a"]
    assert [(offer.label, list(offer.breaks)) for offer in strict.excluded] == [("a in int8", ["--f1"])]


def test_the_accuracy_of_one_runtime_is_not_carried_over_to_another():
    quick = speed("a", 99.0, precision="int8", runtime="onnxruntime")
    scored = network("a", **{"int8 openvino": Score(0.58, None, None, 1)})
    found = answer(known(study(scored), speeds=[speed("a"), quick]), SET, wish())
    assert [offer.run for offer in found.unscored] == ["deployed, onnxruntime, int8, batch 4"]
    both = [speed("a"), quick, speed("a", 50.0, precision="int8")]
    found = answer(known(study(scored), speeds=both), SET, wish())
    assert [offer.run for offer in found.chosen] == [f"deployed, openvino, {p}, batch 4" for p in ("fp32", "int8")]
    assert not found.unscored


# Verdicts


def test_a_run_that_is_too_slow_for_certain_is_no_offer_though_its_accuracy_is_not_known():
    timed = known(study(network("one", 0.6)), speeds=[speed("one", 20.0), speed("one", 25.0, precision="int8")])
    land = Land.of(wish().pixels, SET)
    seconds = land.seconds(timed.speeds[1], 25.0)
    assert names(answer(timed, SET, wish(within=1.5 * seconds)).unscored) == ["one"]
    late = answer(timed, SET, wish(within=0.9 * seconds))
    assert not late.unscored and not late.chosen
    assert not any("Time not known" in sentence for sentence in words.sentences(late))


def test_a_time_that_was_taken_under_load_is_not_settled():
    timed = known(study(network("one", 0.6)), speeds=[speed("one", 20.0, other_cores=1.5, cores=2)])
    found = answer(timed, SET, wish(within=1e6), here=MACHINE)
    assert found.chosen[0].unsettled(found.wish) == ["time"]
    assert any("while other processes used the cores" in sentence for sentence in words.sentences(found))


def test_what_a_study_did_not_count_is_counted():
    config = archs.to_dict(TINY, defaults=False)
    bare = KnownNetwork("tiny", config, {}, {"fp32": Score(0.6, 0.5, 0.7, 3)})
    strange = replace(bare, name="strange", config={"family": "nowhere"})
    found = counted(known(study(bare, strange)), SET).studies[0].networks
    assert found[0].costs["params"] == count_params(archs.build(TINY, 5)).total > found[0].costs["deployed_params"]
    assert found[1].costs == {} and Race((), (), "cpu", 1.0, Path()).protocol(bare, "eager", "fp32", (64, 64)).form == (
        "deployed"
    )


def test_verdicts_are_the_studies_own_and_nothing_is_compared_anew():
    made = study(
        network("base"), network("a"), network("b"),
        comparisons=[KnownComparison(1, 0, "worse", "undecided"), KnownComparison(2, 0, "equivalent")],
    )  # fmt: skip
    base, a, b = (one for name in ("base", "a", "b") for one in candidates(known(made), SET) if one.name == name)
    assert relation(known(made), a, base) == ("worse", "undecided")
    assert relation(known(made), base, a) == ("better", "undecided")
    assert relation(known(made), b, base) == relation(known(made), base, b) == ("equivalent", "")
    assert relation(known(made), a, b) == (NOT_COMPARED, "")


def test_the_verdict_is_of_the_most_trainings_and_of_the_same_recipe():
    def compared(verdict, trainings, recipe=RECIPES_MADE):
        pair = (network("a", trainings=trainings), network("b", trainings=trainings))
        return study(*pair, comparisons=[KnownComparison(1, 0, verdict)], name=verdict, recipe=recipe)

    longer = {**RECIPES_MADE, "steps": 99}
    made = known(compared("undecided", 3), compared("worse", 9), compared("better", 5, longer))
    found = candidates(made, SET)
    short = [one for one in found if one.study.recipe == RECIPES_MADE]
    assert {one.score.trainings for one in short} == {9}
    a, b = sorted(short, key=lambda one: one.name)
    assert relation(made, b, a) == ("worse", "")
    assert relation(made, b, next(one for one in found if one.study.recipe == longer)) == (NOT_COMPARED, "")
    said = answer(made, SET, wish())
    assert "Training" in [one.header for one in words.columns(said, words.frame(said))]


# What is refused


def test_a_name_or_a_fingerprint_finds_the_set_and_nothing_else_does():
    assert find_set(PAIR, "made") == find_set(PAIR, "ffffff") == SET
    with pytest.raises(
        BenchError, match=r"no study has scores on potsdam, .* not carried over .* records of made \(f+\)"
    ):
        find_set(PAIR, "potsdam")
    twin = replace(PAIR.studies[0], data=replace(SET, fingerprint="e" * 32))
    with pytest.raises(BenchError, match=r"2 data sets with records are called made; give one's fingerprint: f+, e+"):
        find_set(known(*PAIR.studies, twin), "made")


def test_f1_belongs_to_a_pixel_size():
    assert agreed_gsd(0.31, 0.3, "d")[0] == 0.31 and agreed_gsd(None, 0.3, "d")[0] == 0.3
    with pytest.raises(BenchError, match=r"pixels of 0.3 m and --gsd says 0.5 m: .* not carried over"):
        agreed_gsd(0.5, 0.3, "d")
    with pytest.raises(BenchError, match="pixel size of d is not recorded; give that of your land"):
        agreed_gsd(None, None, "d")
    assert "is not recorded" in agreed_gsd(0.5, None, "d")[1] and "assumed" in agreed_gsd(0.5, None, "d")[1]


@pytest.mark.parametrize("text, seconds", [("90s", 90), ("30min", 1800), ("2h", 7200), ("1.5d", 129600), (None, None)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--within", "soon"], "write it as 90s, 30min, 2h or 1.5d"),
        (["--within", "0h"], "--within 0 is no amount"),
        (["--f1", "60"], "give a number from 0 to 1"),
        (["--land-km2", "-1"], "--land-km2 -1 is no amount"),
        (["--gsd", "0"], "--gsd 0 is no size of a pixel"),
        (["--data", "world"], "no study has scores on world"),
        (["--data", "terrain:size=32,seed=1,train=4,val=4,test=4"], "F1 is not carried over from other land"),
        (["--data", "nowhere"], "no study has scores on nowhere"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(studied, capsys, options, sentence):
    assert run([*ASKED, "--records", str(studied), "--records-only", *options]) == 1
    assert sentence in capsys.readouterr().err


def test_a_folder_without_a_study_is_named(tmp_path, capsys):
    assert run([*ASKED, "--records", str(tmp_path)]) == 1
    assert "holds no study" in capsys.readouterr().err


# From a real study


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study of three small networks, one of which is not trained, with two seeds."""
    out = tmp_path_factory.mktemp("runs")
    variants = (
        Variant("tiny", TINY),
        Variant("norm=layernorm", replace(TINY, norm="layernorm"), "norm"),
        Variant("untrained", replace(TINY, stem="patchify")),
    )
    fields = {"instruments": ("static", "train"), "trained": ("tiny", "norm=layernorm"), "figures": ()}
    made = VariantStudy("mine", "Which?", variants, "tiny", **fields)
    run_study(plan_study(made, Setting(LAND, RECIPE, (0, 1), size=(64, 64), out=out)))
    return out


def asked(capsys, *options):
    status = run([*ASKED, "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def test_scores_in_int8_are_those_of_the_studys_own_weights(studied):
    results = load_results(studied / "mine")
    network = {"config": archs.to_dict(TINY, defaults=False), "precision": "int8"}
    cells = [{**network, "runtime": "openvino"}, {**network, "runtime": "onnxruntime"}]
    scored, failed = (Record.of("accuracy", cell, {"f1": 0.3}, environment={}, seconds=1.0) for cell in cells)
    failed = replace(failed, status="failed")
    found = known_study(replace(results, records={**results.records, "one": scored, "two": failed}))
    assert found is not None
    tiny, other, _ = found.networks
    assert list(tiny.scores) == [RECIPE.precision, "int8 openvino"]
    assert tiny.scores["int8 openvino"] == Score(0.3, None, None, 1)
    assert list(other.scores) == [RECIPE.precision]


def test_the_answer_is_what_the_study_found(studied, capsys):
    status, found = asked(capsys, "--records", str(studied), "--records-only")
    frame = result_of(load_results(studied / "mine")).frame.set_index("variant")
    assert status == 0 and {row["variant"] for row in found["networks"]} == {"tiny", "tiny (norm=layernorm)"}
    for row in found["networks"]:
        own = frame.loc["tiny" if row["variant"] == "tiny" else "norm=layernorm"]
        assert [row[key] for key in ("f1", "f1_low", "f1_high")] == pytest.approx(
            [own["f1"], own["f1_low"], own["f1_high"]]
        )
        assert (row["storage_bytes"], row["params"]) == (own["deployed_file_bytes"], own["deployed_params"])
        assert (row["seconds"], row["run"]) == (None, "not timed")
        assert row["peak_inference_bytes"] > row["storage_bytes"] / 2
        assert archs.from_dict(row["config"]) in (TINY, replace(TINY, norm="layernorm"))
    assert found["without_f1"] == {"untrained": "not trained"}
    second = found["networks"][1]
    verdict = frame.loc["norm=layernorm"]["verdict"]
    assert second["verdict"] in (verdict, {"better": "worse", "worse": "better"}.get(verdict))


def test_a_race_on_this_machine_decides_and_is_made_once(studied, tmp_path, capsys):
    runs = shutil.copytree(studied, tmp_path / "runs")
    options = ("--records", str(runs), "--runtime", "eager", "--networks", "1", "--seconds", "0.1", "--out", str(runs))
    status, found = asked(capsys, *options)
    raced, other = sorted(found["networks"], key=lambda row: row["where"], reverse=True)
    assert status == 0 and (raced["where"], raced["run"]) == (HERE, "deployed, eager, fp32, batch 64")
    assert other["seconds"] is None
    (record,) = RecordStore(runs / "records").all("race")
    (timed,) = record.result["speeds"].values()
    computed = found["land"]["pixels"] / found["land"]["useful"]
    assert raced["seconds"] == pytest.approx(computed / (timed["throughput"] * 64 * 64))
    again = asked(capsys, *options)[1]
    assert any("recorded before" in note for note in again["notes"])
    read = asked(capsys, "--records", str(runs), "--records-only")[1]
    for later, where in ((again, HERE), (read, ALIKE)):
        (row,) = [row for row in later["networks"] if row["variant"] == raced["variant"]]
        assert (row["seconds"], row["where"]) == (raced["seconds"], where)


def test_the_gpu_that_was_asked_for_is_the_one_that_is_timed(studied, tmp_path, capsys, monkeypatch):
    seen = []

    def race(networks, side, data, how):
        seen.append(how.device)
        return Raced()

    def this_machine(device):
        seen.append(device)
        return MACHINE

    monkeypatch.setattr("bench.records.environment.resolve_device", torch.device)
    monkeypatch.setattr("bench.choose.timing.race", race)
    monkeypatch.setattr("bench.choose.timing.this_machine", this_machine)
    asked(capsys, "--records", str(studied), "--out", str(tmp_path), "--device", "cuda:1")
    assert seen == ["cuda:1", "cuda:1"]


def test_every_gpu_is_timed_as_a_gpu():
    assert available("cuda:1") == available("cuda") == ["eager", "compile"]
    races = [Race(("eager",), ("fp32",), device, 1.0, Path("runs")) for device in ("cuda:1", "cuda")]
    first, second = (race.protocol(network("one"), "eager", "fp32", (64, 64)) for race in races)
    assert first == second and first.threads is None


def test_int8_is_calibrated_on_the_data_and_not_chosen_without_its_accuracy(studied, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    options = ("--runtime", "onnxruntime", "--precision", "int8", "--networks", "1", "--seconds", "0.1")
    found = asked(capsys, "--records", str(studied), "--out", str(tmp_path), *options)[1]
    assert all("int8" not in row["run"] for row in found["networks"])
    told = [row["variant"] for row in found["accuracy_not_measured"]] + list(found["not_raced"])
    assert len(told) == 1


def test_the_table_is_printed_with_what_is_assumed_and_status_1_says_that_none_meets(studied, capsys):
    options = ["--records", str(studied), "--records-only"]
    assert run([*ASKED, *options, "--f1", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "Macro F1" in printed and "Time not known: tiny" in printed
    assert "pixel size of terrain is not recorded" in printed and "Counted and not trained" in printed
    assert run([*ASKED, *options, "--f1", "1"]) == 1
    assert "No network is known to meet the wish." in capsys.readouterr().out


def test_a_network_that_cannot_be_built_here_says_so(studied, tmp_path, capsys, monkeypatch):
    made = gather([studied])
    strange = [replace(one, config={"family": "elsewhere"}) for one in made.studies[0].networks]
    elsewhere = Known((replace(made.studies[0], networks=tuple(strange)),), ())
    monkeypatch.setattr("bench.choose.reading.gather", lambda folders: elsewhere)
    found = asked(capsys, "--records", str(studied), "--out", str(tmp_path))[1]
    assert any("no architecture family 'elsewhere'" in why for why in found["not_raced"].values())


# The table inside the package


def test_the_committed_table_is_what_the_results_give():
    assert table_text(gather([ROOT / "results"])) == TABLE.read_text(encoding="utf-8")


def test_recorded_speeds_are_those_of_the_study():
    frame = result_of(load_results(ROOT / "results" / "dubai" / "benchmark")).frame.set_index("variant")
    (found,) = [
        one
        for one in committed().speeds
        if one.config == {"family": "lale"} and one.batch == 8 and one.num_classes == 5
    ]
    assert (found.form, found.runtime, found.precision, found.size) == ("trained", "eager", "fp32", (256, 256))
    assert [found.throughput, found.low] == pytest.approx(
        list(frame.loc["lale-s1"][["throughput", "throughput_low"]]), rel=1e-5
    )


def test_the_table_says_all_that_was_gathered():
    assert table_text(committed()) == TABLE.read_text(encoding="utf-8")
    assert "dubai" in [one.name for one in committed().sets]
