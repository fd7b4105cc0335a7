"""A study from its declaration to its tables, on land and networks small enough to train in a moment."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from torch import nn

import archs
from bench.cli.reporting import sections
from bench.errors import BenchError, DataWarning
from bench.records import RecordStore
from bench.stats import macro_f1
from bench.stats.pooled import class_counts
from bench.study import (
    Setting,
    Variant,
    VariantStudy,
    load_manifest,
    load_results,
    plan_study,
    run_study,
    write_report,
)
from bench.study.declare import FIGURES as FIGURE_NAMES
from bench.study.layout import static_label, train_label
from bench.study.report import FIGURES, describe, findings
from bench.study.result import _comparisons, result_of
from bench.training.recipe import RECIPES, still_rising

DATA = "terrain:size=32,train=12,val=4,test=6"
TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
RECIPE = replace(RECIPES["smoke"], steps=4, eval_every=2, warmup_steps=1, batch=2, crop=32)


@dataclass(frozen=True)
class BrokenConfig:
    """Counts as a network that cannot be trained."""

    family: ClassVar[str] = "broken"

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        return Broken(in_channels, num_classes, 1)


class Broken(nn.Conv2d):
    def forward(self, x):
        if self.training:
            raise RuntimeError("broken on purpose")
        return super().forward(x)


def tiny_study(**changes) -> VariantStudy:
    variants = (
        Variant("base", TINY),
        Variant("norm=layernorm", replace(TINY, norm="layernorm"), "norm"),
        Variant("stem=patchify", replace(TINY, stem="patchify"), "stem"),
    )
    fields = {"variants": variants, "base": "base", "instruments": ("static", "train"), **changes}
    return VariantStudy(**{"name": "tiny", "question": "Does it run?", "figures": ("ablation",), **fields})


def tiny_setting(out: Path, **changes) -> Setting:
    return Setting(**{"data": DATA, "recipe": RECIPE, "seeds": (0, 1), "size": (32, 32), "out": out, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    plan = plan_study(tiny_study(figures=FIGURE_NAMES), tiny_setting(out))
    run_study(plan)
    return plan, write_report(plan.folder, DATA)


def test_every_variant_has_its_row_and_every_cell_its_record(finished):
    plan, report = finished
    assert report.frame["variant"].tolist() == ["base", "norm=layernorm", "stem=patchify"]
    assert all(cell.key in plan.store for cell in plan.cells)
    assert report.frame["seeds"].tolist() == [2, 2, 2]
    assert report.frame["f1"].between(0, 1).all()
    assert (report.frame["f1_low"] <= report.frame["f1"]).all()


def test_counts_are_those_of_the_network(finished):
    _, report = finished
    params = sum(p.numel() for p in archs.build(TINY).parameters())
    assert report.frame["params"][0] == params
    assert report.frame["delta_params"][2] == report.frame["params"][2] - params


def test_tables_and_figures_are_written(finished):
    _, report = finished
    names = {path.name for path in report.files}
    assert {"table.csv", "table.md", "ablation.png", "panels.png", "curves.png", "f1-params.png"} <= names
    assert all(path.stat().st_size > 0 for path in report.files)
    assert pd.read_csv(report.folder / "table.csv")["variant"].tolist() == report.frame["variant"].tolist()
    assert any("majority class" in sentence for sentence in report.findings)


def test_what_is_not_settled_has_its_price(finished):
    _, report = finished
    prices = [sentence for sentence in report.findings if sentence.startswith("The 6 trainings took")]
    assert len(prices) == bool((report.frame["verdict"] == "undecided").any())
    named = " ".join(sentence for sentence in report.findings if "eeds" in sentence and "settle" in sentence)
    undecided = report.frame[report.frame["verdict"] == "undecided"]["variant"]
    assert all(label in named for label in undecided)


def test_trainings_that_were_too_short_are_told_by_network(finished, tmp_path, monkeypatch):
    result = result_of(load_results(finished[0].folder))

    def with_end(record, gain):
        ends = [{"step": 10 * i, "macro_f1": score} for i, score in enumerate([0.5] * 9 + [0.5 + gain], 1)]
        return replace(record, result={**record.result, "history": ends})

    gains = {"base": {0: 0.0, 1: 0.0}, "norm=layernorm": {0: 0.0, 1: 0.01}, "stem=patchify": {0: 0.01, 1: 0.01}}
    runs = {
        label: {run: with_end(record, gains[label][run[0]]) for run, record in found.items()}
        for label, found in result.runs.items()
    }
    changed = replace(result, runs=runs)
    assert [np.mean(changed.rising(label)) for label in gains] == [0, 0.5, 1]
    (told,) = [said for said in findings(changed) if "were still rising" in said]
    assert told.startswith("3 of 6 trainings")
    assert told.endswith(": norm=layernorm (1 of 2), stem=patchify (2 of 2).")
    shares = result.frame["variant"].map({"base": 0.0, "norm=layernorm": 0.5, "stem=patchify": 1.0})
    said = " ".join(findings(replace(changed, frame=result.frame.assign(rising=shares))))
    marked = re.findall(r"(\S+) [+-][\d.]+(?: \[[^]]*\])? \(still rising\)", said)
    assert set(marked) == {"stem=patchify"}
    notes: list[str] = []
    monkeypatch.setattr("bench.report.figures.pareto.draw_fronts", lambda *_, note: [notes.append(note)])
    FIGURES["pareto"](changed, tmp_path, None)
    assert notes[0].endswith("All trainings still rising at their end: stem=patchify.")


def test_the_table_says_what_share_of_trainings_was_too_short(finished):
    plan, report = finished
    histories = {
        label: [record.result["history"] for record in found.values()]
        for label, found in result_of(load_results(plan.folder)).runs.items()
    }
    expected = [np.mean([still_rising(history) for history in histories[label]]) for label in report.frame["variant"]]
    assert report.frame["rising"].tolist() == expected
    assert pd.read_csv(report.folder / "table.csv")["rising"].tolist() == expected


def test_captions_count_the_trainings_that_were_done(finished):
    result = result_of(load_results(finished[0].folder))
    counts = {(2, 2, 2): ", 2 seeds", (2, 1, 0): ", 1 to 2 seeds", (1, 1, 1): ", 1 seed", (0, 0, 0): ", 2 seeds"}
    for seeds, expected in counts.items():
        caption = describe(replace(result, frame=result.frame.assign(seeds=list(seeds))))
        assert re.search(r", \d[^,;]* seeds?\b", caption)[0] == expected


def test_captions_name_other_bases_the_machine_of_the_speeds_and_no_training_where_none_is_meant(finished):
    result = result_of(load_results(finished[0].folder))
    assert "Effects are against" not in describe(result)
    frame = result.frame.assign(base=["", "base", "norm=layernorm"])
    assert " Effects are against base, but that of stem=patchify against norm=layernorm." in describe(
        replace(result, frame=frame)
    )
    none = replace(result, frame=frame, manifest=replace(result.manifest, base=None))
    said = " Effects are of norm=layernorm against base, stem=patchify against norm=layernorm."
    assert said in describe(none)
    timed = replace(result, manifest=replace(result.manifest, batches=(1, 8)), speed_machine="a CPU, 2 threads")
    assert "latency (batch 1) and throughput (batch 8) on a CPU, 2 threads, at 32x32" in describe(timed)
    rows = tuple(replace(row, trained=False) for row in result.manifest.rows)
    assert "Training:" not in describe(replace(result, manifest=replace(result.manifest, rows=rows)))


def test_a_damaged_manifest_is_written_anew_and_a_damaged_record_costs_no_other(tmp_path):
    plan = plan_study(tiny_study(instruments=("static",)), tiny_setting(tmp_path))
    run_study(plan)
    key = plan.labelled[static_label("base")].key
    path = plan.store.folder / "static" / f"{key}.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"size"', '"side"', 1), encoding="utf-8")
    with pytest.warns(DataWarning, match="is damaged"):
        frame = write_report(plan.folder).frame
    assert frame["params"].isna().tolist() == [True, False, False]
    (plan.folder / "study.json").write_text("{", encoding="utf-8")
    again = plan_study(tiny_study(instruments=("static",)), tiny_setting(tmp_path))
    assert list(again.labelled) == list(plan.labelled)


def test_the_best_and_the_front_say_what_is_still_to_come(finished):
    result = result_of(load_results(finished[0].folder))
    frame = result.frame.assign(f1=[0.5, 0.6, 0.4], seeds=[2, 1, 2], rising=[0.0, 0.0, 1.0], params=[3, 2, 1])
    best, front = findings(replace(result, frame=frame))[:2]
    assert best.startswith("Highest macro F1: norm=layernorm (1 of 2 seeds), ")
    assert front.endswith(": stem=patchify (still rising), norm=layernorm (1 of 2 seeds).")


def test_a_network_of_one_seed_has_an_effect_and_no_verdict(finished):
    results = load_results(finished[0].folder)
    records = {label: one for label, one in results.records.items() if label != train_label("stem=patchify", 1)}
    result = result_of(replace(results, records=records))
    frame = result.frame.set_index("variant")
    one, two = frame.loc["stem=patchify"], frame.loc["norm=layernorm"]
    own, base = (result.confusions(label)[0] for label in ("stem=patchify", "base"))
    assert one["effect"] == pytest.approx(macro_f1(class_counts(own.sum(0))) - macro_f1(class_counts(base.sum(0))))
    assert (one["verdict"], one["seeds"]) == ("undecided", 1)
    assert np.isnan([one["effect_low"], one["f1_low"]]).all() and np.isfinite([two["effect_low"], two["f1_low"]]).all()
    assert "Not judged, since one training tells nothing of chance: stem=patchify." in findings(result)
    assert "1 of 6 planned trainings are not measured yet, so that verdicts may still change." in findings(result)
    assert not any("not measured yet" in said for said in finished[1].findings)


def test_a_base_of_one_seed_judges_nothing_and_is_no_matter_of_more_seeds(finished):
    results = load_results(finished[0].folder)
    records = {label: one for label, one in results.records.items() if label != train_label("base", 1)}
    said = findings(result_of(replace(results, records=records)))
    told = "norm=layernorm (against base), stem=patchify (against base)"
    assert f"Not judged, since one training tells nothing of chance: {told}." in said
    assert not any("Not resolvable" in one for one in said)


def test_a_price_does_not_rise_with_variants_that_are_not_trained(finished):
    results = load_results(finished[0].folder)
    result = result_of(replace(results, records=dict(results.records)))
    rows = result.manifest.rows
    more = [replace(rows[1], label=f"counted {n}", trained=False) for n in range(30)]
    runs = {**result.runs, **{row.label: {} for row in more}}
    wider = replace(result, manifest=replace(result.manifest, rows=(*rows, *more)), runs=runs)
    before, after = (_comparisons(one)["seeds_needed"].iloc[: len(rows)] for one in (result, wider))
    assert before.notna().any() and before.equals(after)


def test_with_folds_a_price_counts_the_trainings_of_a_seed(finished):
    result = result_of(load_results(finished[0].folder))
    frame = result.frame.assign(verdict=[None, "undecided", "undecided"], seeds_needed=[None, 4, 4])
    counted = [
        int(re.search(r"That is (\d+) more", said)[1])
        for folds in (0, 5)
        for said in findings(replace(result, frame=frame, manifest=replace(result.manifest, folds=folds)))
        if "That is" in said
    ]
    assert counted == [6, 30]


def test_on_a_page_trainings_of_other_seeds_are_another_condition(finished, tmp_path):
    first = finished[0]
    other = replace(first.manifest, setting={**first.manifest.setting, "seeds": [2, 3]})
    other.save(tmp_path / "tiny")
    (tmp_path / "records").symlink_to(first.folder.parent / "records")
    studies, _, _ = sections([first.folder, tmp_path / "tiny"], [])
    assert [", seeds 0, 1;" in one.condition for one in studies] == [True, False]
    assert ", seeds 2, 3;" in studies[1].condition


def test_a_second_run_measures_nothing_and_says_the_same(finished):
    plan, report = finished
    before = {path: path.stat().st_mtime_ns for path in plan.store.folder.rglob("*.json")}
    run_study(plan_study(tiny_study(figures=FIGURE_NAMES), tiny_setting(plan.folder.parent)))
    assert {path: path.stat().st_mtime_ns for path in plan.store.folder.rglob("*.json")} == before
    pd.testing.assert_frame_equal(result_of(load_results(plan.folder)).frame, report.frame)


def test_variants_are_paired_by_seed(finished):
    plan, _ = finished
    trains = [cell for cell in plan.cells if cell.kind == "train"]
    assert [cell.determinants["seed"] for cell in trains] == [0, 0, 0, 1, 1, 1]


def test_a_variant_that_cannot_take_the_tiles_is_shown_with_the_reason(tmp_path):
    fixed = Variant("fixed", TINY, inputs=archs.InputRule(fixed=(224, 224)))
    plan = plan_study(tiny_study().with_variants([fixed]), tiny_setting(tmp_path, seeds=(0,)))
    assert plan.manifest.skipped["fixed"].endswith("this network takes 224x224 only; counted at that size")
    assert plan.labelled[static_label("fixed")].determinants["size"] == (224, 224)
    plan.manifest.save(plan.folder)
    frame = result_of(load_results(plan.folder)).frame
    assert frame["status"].tolist() == ["incomplete", "incomplete", "incomplete", "skipped"]


def test_a_failed_training_is_shown_and_costs_nothing_else(tmp_path):
    broken = Variant("broken", BrokenConfig())
    plan = plan_study(tiny_study().with_variants([broken]), tiny_setting(tmp_path, seeds=(0,)))
    run_study(plan)
    report = write_report(plan.folder)
    row = report.frame.iloc[-1]
    assert row["status"] == "failed"
    assert "broken on purpose" in row["reason"]
    assert report.frame["f1"].notna().tolist() == [True, True, True, False]
    assert "broken on purpose" in (plan.folder / "table.md").read_text(encoding="utf-8")
    result = result_of(load_results(plan.folder))
    assert set(result.frame["uncounted"]) == {""} and not any("Not counted" in one for one in findings(result))
    result.frame.loc[0, "uncounted"] = "cdist"
    assert "Not counted, so that there are more MACs than shown: base (cdist)." in findings(result)


def test_selection_keeps_bases_and_refuses_what_matches_nothing():
    study = tiny_study()
    assert [v.label for v in study.select(["stem"]).variants] == ["base", "stem=patchify"]
    assert study.select([], ["norm*"]).trained == ("base", "norm=layernorm")
    assert study.select([], [], ["stem"]).timed == ("base", "stem=patchify")
    with pytest.raises(BenchError, match="No variant of the study tiny matches 'nrom'"):
        study.select(["nrom"])


def test_selection_keeps_bases_of_bases():
    chain = [Variant("base", TINY), Variant("one", TINY, base="base"), Variant("two", TINY, base="one")]
    study = tiny_study(variants=(*chain, Variant("three", TINY, base="two"), Variant("other", TINY, base="base")))
    assert [v.label for v in study.select(["three"]).variants] == ["base", "one", "two", "three"]
    assert study.select([], ["two"]).trained == ("base", "one", "two")
    assert study.select([], [], ["three"]).timed == ("base", "one", "two", "three")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "else"}, "none of its variants"),
        ({"figures": ("pie",)}, "no figure 'pie'"),
        ({"trained": ("base", "norm_layernorm")}, "trains or times 'norm_layernorm', which is none of its variants"),
        ({"instruments": ("weigh",)}, "no instrument 'weigh'; choose of static, speed, deployed, train"),
        ({"variants": (Variant("a", TINY), Variant("a", TINY)), "base": "a"}, "two variants called 'a'"),
        (
            {"variants": (Variant("base", TINY), Variant("a", TINY, base="a"))},
            "compares 'a' with itself; give it another",
        ),
    ],
)
def test_a_study_that_means_nothing_is_refused(changes, message):
    with pytest.raises(BenchError, match=message):
        tiny_study(**changes)


def test_panels_of_other_data_are_refused(finished):
    plan, _ = finished
    with pytest.raises(BenchError, match="is not the data of this study"):
        write_report(plan.folder, "terrain:size=32,train=12,val=4,test=6,seed=9")


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(BenchError, match=r"study\.json is missing"):
        load_manifest(tmp_path)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_study import tiny_setting, tiny_study
from bench.study import plan_study, run_study
run_study(plan_study(tiny_study(), tiny_setting(Path({out!r}))))
"""


@pytest.mark.slow
def test_killed_again_and_again_a_study_loses_and_repeats_nothing(finished, tmp_path):
    """SIGKILL at four moments; then to the end: the same table as the run that nothing disturbed."""
    script = SCRIPT.format(tests=str(Path(__file__).parent), out=str(tmp_path))
    written: dict[str, int] = {}
    for wait in (4.0, 5.0, 5.5, 6.5):
        process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "records").rglob("*/*.json")}
        assert written.items() <= now.items(), "a record was lost or measured twice"
        written = now
    plan = plan_study(tiny_study(), tiny_setting(tmp_path))
    run_study(plan)
    final = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "records").rglob("*/*.json")}
    assert written.items() <= final.items()
    assert len(RecordStore(tmp_path / "records").all()) == len(plan.cells)
    pd.testing.assert_frame_equal(result_of(load_results(plan.folder)).frame, finished[1].frame)


def test_the_manifest_names_no_path_and_no_host(finished):
    plan, _ = finished
    text = (plan.folder / "study.json").read_text(encoding="utf-8")
    assert str(plan.folder.parent) not in text
    assert json.loads(text)["details"]["data"]["name"] == "terrain"


@pytest.mark.slow
def test_a_delta_that_was_changed_after_trainings_is_told(tmp_path):
    setting = replace(tiny_setting(tmp_path), delta=0.01)
    first = plan_study(tiny_study(), setting)
    run_study(first)
    assert "deltas" not in load_results(first.folder).manifest.details
    for delta in (0.02, 0.02):
        run_study(plan_study(tiny_study(), replace(setting, delta=delta)))
    assert load_results(first.folder).manifest.details["deltas"] == [0.01]
    told = [said for said in write_report(first.folder).findings if said.startswith("Delta")]
    assert told == ["Delta was changed after trainings were recorded: 1 points before, 2 now."]
