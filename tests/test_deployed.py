"""The instrument `deployed`: latencies of the folded form in fp32 and int8, beside macro F1."""

from dataclasses import replace

import pandas as pd
import pytest

import archs
from bench.records import Record
from bench.scenes.accuracy import accuracy_cell
from bench.speed.comparison import latency_ratio
from bench.speed.protocol import SpeedProtocol
from bench.stats.verdicts import known_verdict
from bench.study import Setting, Variant, VariantStudy, deployed, load_results, plan_study, run_study, write_report
from bench.study.deployed import (
    DEPLOYED,
    INT8,
    LATENCIES,
    RUNTIMES,
    DeployedRun,
    deployed_findings,
    int8_label,
    run_label,
)
from bench.study.layout import train_label
from bench.study.protocol import WEIGHTS
from bench.study.result import result_of
from bench.training.recipe import RECIPES

DELTA = 0.02
DATA = "terrain:size=32,train=12,val=4,test=6"
TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
BASE, FOLDS = "base", "norm=batchrms,act=relu"  # a label with commas
RECIPE = replace(RECIPES["smoke"], steps=4, eval_every=2, warmup_steps=1, batch=2, crop=32)
NOT_KEPT = "Macro F1 in int8 is not shown: weights not kept."
BRIEF = SpeedProtocol(form="deployed", calls=1, rounds=6, min_seconds=0, max_seconds=0.1, warmup_seconds=0.05)


def tiny_study(**changes) -> VariantStudy:
    variants = (Variant(BASE, TINY), Variant(FOLDS, replace(TINY, norm="batchrms", act="relu"), "quantises"))
    fields = {"base": BASE, "instruments": ("static", "train", "deployed"), "figures": ("ablation",), **changes}
    return VariantStudy("tiny", "What does int8 bring?", variants, **fields)


def planned(out, study=None, keep_weights=False):
    setting = Setting(
        data=DATA, recipe=RECIPE, seeds=(0, 1), size=(32, 32), out=out, keep_weights=keep_weights, delta=DELTA
    )
    return plan_study(study or tiny_study(), setting)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployed, "PROTOCOL", BRIEF)
        plan = planned(tmp_path_factory.mktemp("deployed"))
        run_study(plan)
        return plan, write_report(plan.folder)


def the_run(plan) -> DeployedRun:
    return DeployedRun(plan.store.get(plan.labelled[DEPLOYED].key))


@pytest.mark.slow
def test_all_variants_runtimes_and_precisions_are_timed_in_the_same_rounds(finished):
    plan, _ = finished
    record = the_run(plan).record
    assert record.status == "ok", record.reason
    labels = {run_label(v, r, p) for v in (BASE, FOLDS) for p, runtimes in RUNTIMES.items() for r in runtimes}
    assert set(record.result["speeds"]) | set(record.result["missing"]) == labels
    speeds = record.result["speeds"].values()
    assert len({len(speed["latency_rounds_ms"]) for speed in speeds}) == 1
    assert {(speed["protocol"]["form"], speed["protocol"]["batch"]) for speed in speeds} == {("deployed", 1)}
    keyed = record.determinants["entries"][run_label(BASE, "openvino", "int8")]
    assert keyed["protocol"]["threads"] >= 1 and keyed["calibration"]["data"]


@pytest.mark.slow
def test_the_table_shows_the_quickest_runtime_of_each_precision(finished):
    plan, report = finished
    run, rows = the_run(plan), report.frame.set_index("variant")
    for variant in (BASE, FOLDS):
        best = {}
        for precision, runtimes in RUNTIMES.items():
            labels = {runtime: run_label(variant, runtime, precision) for runtime in runtimes}
            times = {runtime: run.speeds[label]["latency_ms"] for runtime, label in labels.items()}
            name = rows.loc[variant, f"deployed_{precision}_runtime"]
            assert rows.loc[variant, f"deployed_{precision}_ms"] == times[name] == min(times.values())
            best[precision] = labels[name]
        assert rows.loc[variant, "int8_speedup"] == latency_ratio(run.speeds, best["int8"], best["fp32"]).value
    shown = (plan.folder / "table.md").read_text(encoding="utf-8")
    assert "Latency, deployed fp32 (ms)" in shown and "Latency, deployed int8 (ms)" in shown
    assert "same rounds" in shown and shown.count(NOT_KEPT) == 1 and "Macro F1, int8" not in shown
    told = pd.read_csv(plan.folder / "table.csv").set_index("variant")
    assert told["deployed_int8_runtime"].tolist() == rows["deployed_int8_runtime"].tolist()
    assert all(
        f"Quickest runtime in {p}: {told.loc[BASE, f'deployed_{p}_runtime']}" in shown
        or f"{told.loc[BASE, f'deployed_{p}_runtime']} for {BASE}" in shown
        for p in RUNTIMES
    )
    keys = [one.key for one in report.columns]
    assert keys.index("f1") + 1 == keys.index("deployed_fp32_ms")  # F1 stands beside speed
    assert any(s.startswith("Latency in fp32 over that in int8") or "background" in s for s in report.findings)


@pytest.mark.slow
def test_records_are_resumed_and_plotted_again(finished, monkeypatch):
    plan, report = finished
    monkeypatch.setattr(deployed, "PROTOCOL", BRIEF)
    before = {path: path.stat().st_mtime_ns for path in plan.store.folder.rglob("*.json")}
    run_study(planned(plan.folder.parent))
    assert {path: path.stat().st_mtime_ns for path in plan.store.folder.rglob("*.json")} == before
    pd.testing.assert_frame_equal(result_of(load_results(plan.folder)).frame, report.frame)
    again = VariantStudy.from_details("tiny", "?", plan.manifest.details)
    assert {cell.key for cell in planned(plan.folder.parent, again).cells} == {cell.key for cell in plan.cells}


def test_the_instrument_is_asked_for(tmp_path):
    assert DEPLOYED not in planned(tmp_path, tiny_study(instruments=("static", "speed", "train"))).labelled
    alone = planned(tmp_path, tiny_study(instruments=("deployed",), timed=(BASE,)))
    assert list(alone.labelled) == [DEPLOYED]
    assert {label.partition(",")[0] for label in alone.labelled[DEPLOYED].determinants["entries"]} == {BASE}


def test_what_is_not_timed_is_shown_with_the_reason(tmp_path):
    plan = planned(tmp_path, tiny_study(instruments=("deployed",)))
    plan.manifest.save(plan.folder)
    report = write_report(plan.folder)
    assert set(LATENCIES) <= {one.key for one in report.columns} and report.frame["deployed_int8_ms"].isna().all()
    assert "Deployed latency: not measured yet." in (plan.folder / "table.md").read_text(encoding="utf-8")

    cell, reason = (
        plan.labelled[DEPLOYED],
        "openvino needs nncf, which is not installed: pip install 'lale-bench[openvino]'",
    )
    missing = {label: reason for label in cell.determinants["entries"] if "openvino" in label}
    one = run_label(BASE, "onnxruntime", "int8")
    result = {"speeds": {}, "missing": {**missing, one: "an operator is not known"}}
    plan.store.put(Record.of(cell.kind, cell.determinants, result, environment={"device": "cpu"}, seconds=1.0))
    write_report(plan.folder)
    table = (plan.folder / "table.md").read_text(encoding="utf-8")
    assert table.count("openvino needs nncf") == 1
    assert "onnxruntime int8): an operator is not known." in table


def _move_trainings_to_another_machine(plan):
    """As if they had been recorded, and their weights kept, by another one."""
    weights = plan.store.folder.parent / WEIGHTS
    for record in plan.store.all("train"):
        moved = Record.of(
            "train", {**record.determinants, "device": "another"}, record.result, environment=record.environment,
            seconds=record.seconds, about=record.about,
        )  # fmt: skip
        (weights / f"{record.key}.safetensors").rename(weights / f"{moved.key}.safetensors")
        (plan.store.folder / "train" / f"{record.key}.json").unlink()
        plan.store.put(moved)


@pytest.mark.slow
def test_kept_weights_are_scored_in_int8_on_the_test_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr(deployed, "PROTOCOL", BRIEF)
    study = tiny_study(accuracy=accuracy_cell)
    first = planned(tmp_path, study, keep_weights=True)
    assert not any(label.startswith(INT8) for label in first.labelled)  # there are no weights yet
    run_study(first)
    then = planned(tmp_path, study, keep_weights=True)
    scored = {int8_label(variant, runtime) for variant in (BASE, FOLDS) for runtime in RUNTIMES["int8"]}
    assert set(then.labelled) - set(first.labelled) == scored and then.missing == len(scored)
    run_study(then)
    report = write_report(then.folder)
    for row in report.frame.to_dict("records"):
        training = then.store.get(then.labelled[train_label(row["variant"], 0)].key)
        cell = then.store.get(then.labelled[int8_label(row["variant"], row["deployed_int8_runtime"])].key)
        assert cell.result["fp32_f1"] == pytest.approx(training.result["test_scores"]["macro_f1"], abs=1e-3)
        assert row["int8_effect"] == pytest.approx(row["int8_f1"] - cell.result["fp32_f1"])
        assert row["int8_verdict"] == known_verdict(row["int8_effect"], DELTA)
    keys = [one.key for one in report.columns]
    assert {"int8_f1", "int8_verdict"} <= set(keys)
    assert "int8_effect" in pd.read_csv(then.folder / "table.csv")
    assert NOT_KEPT not in (then.folder / "table.md").read_text(encoding="utf-8")
    assert any(sentence.startswith("Macro F1 in int8 against fp32") for sentence in report.findings)
    assert planned(tmp_path, study, keep_weights=True).missing == 0
    _move_trainings_to_another_machine(then)
    elsewhere = planned(tmp_path, study, keep_weights=True)
    assert set(elsewhere.labelled) - set(first.labelled) == scored and elsewhere.notes


def timed(milliseconds: dict[str, float], other_cores: float = 0.0) -> DeployedRun:
    """A run of given latencies, without spread."""
    speeds = {
        label: {
            "latency_ms": value, "latency_low": value, "latency_high": value, "latency_rounds_ms": [[value]] * 8,
            "threads": 1, "other_cores": other_cores, "size": [32, 32],
        }
        for label, value in milliseconds.items()
    }  # fmt: skip
    result = {"speeds": speeds, "missing": {}}
    environment = {"usable_cores": 1, "device_kind": "a CPU"}
    return DeployedRun(Record.of("race", {}, result, environment=environment, seconds=1.0))


def test_the_remark_names_the_quickest_runtime_of_most_and_the_exceptions():
    times = {
        ("a", "openvino"): 1.0,
        ("a", "eager"): 2.0,
        ("b", "openvino"): 1.0,
        ("c", "openvino"): 3.0,
        ("c", "eager"): 2.0,
    }
    run = timed({run_label(variant, runtime, "fp32"): value for (variant, runtime), value in times.items()})
    assert "Quickest runtime in fp32: openvino; eager for c." in run.remarks(["a", "b", "c"])
    assert not any("int8" in remark for remark in run.remarks(["a", "b", "c"]))


def test_remarks_name_the_runs_without_a_time_where_these_are_few():
    run = timed({run_label("a", "eager", "fp32"): 1.0})
    run.record.result["missing"] = {
        **{run_label("b", runtime, "fp32"): "no export" for runtime in ("openvino", "onnxruntime")},
        **{run_label(variant, "openvino", "int8"): "not installed" for variant in "cdefg"},
        run_label("a", "openvino", "fp32"): f"{run_label('a', 'openvino', 'fp32')} is not the same",
    }
    told = [remark for remark in run.remarks(["a"]) if remark.startswith("Not timed")]
    assert told == [
        f"Not timed ({run_label('b', 'openvino', 'fp32')}; {run_label('b', 'onnxruntime', 'fp32')}): no export.",
        "Not timed: not installed.",
        f"Not timed: {run_label('a', 'openvino', 'fp32')} is not the same.",
    ]


def test_findings_name_what_int8_brings_and_who_is_quicker_at_what_cost():
    times = {"base": (8.0, 7.0), "quick": (4.0, 2.0), "lossy": (5.0, 5.0), "slow": (9.0, 9.0)}
    runtimes = {"fp32": "openvino", "int8": "onnxruntime"}
    milliseconds = {
        run_label(variant, runtimes[precision], precision): value
        for variant, pair in times.items()
        for precision, value in zip(runtimes, pair, strict=True)
    }
    verdicts = {"base": None, "quick": "undecided", "lossy": "worse", "slow": "equivalent"}
    rows = [{"variant": v, "base": "" if v == "base" else "base", "verdict": word} for v, word in verdicts.items()]
    frame = pd.DataFrame(rows)
    gains, fp32, int8 = deployed_findings(timed(milliseconds), frame)
    assert gains.endswith(
        ": quick 2.00 [2.00, 2.00] times; base 1.14 [1.14, 1.14] times; lossy 1.00 [1.00, 1.00] times; "
        "slow 1.00 [1.00, 1.00] times."
    )
    none = "none with macro F1 equivalent, better or within delta"
    assert fp32 == (
        f"Deployed in fp32, quicker than base: {none}; macro F1 undecided: quick 2.00 [2.00, 2.00] times; "
        "macro F1 worse: lossy 1.60 [1.60, 1.60] times."
    )
    assert "lossy 1.40" in int8 and "slow" not in int8

    kept = frame.assign(verdict=[None, "equivalent", "worse", "equivalent"])
    assert "equivalent, better or within delta: quick 2.00" in deployed_findings(timed(milliseconds), kept)[1]

    lost = kept.assign(int8_f1=0.5, int8_effect=-0.03, int8_verdict=["equivalent", "worse", "equivalent", "equivalent"])
    scored = replace(timed(milliseconds), scored=dict.fromkeys(["one"]))
    _, accuracy, fp32, int8 = deployed_findings(scored, lost)
    assert "equivalent for 3, worse for 1 of 4 variants" in accuracy
    assert "within delta: quick" in fp32 and "macro F1 worse: quick 3.50" in int8
    unscored = lost.assign(int8_verdict=["equivalent", "not scored: no memory", None, "equivalent"])
    assert "macro F1 not judged: quick 3.50" in deployed_findings(scored, unscored)[-1]

    (load,) = deployed_findings(timed(milliseconds, other_cores=0.7), frame)
    assert "other processes used 0.7 of 1 cores" in load
