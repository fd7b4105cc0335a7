"""The pilot: each lever changes one thing, and its table shows what is trained, what failed and what is missing."""

from dataclasses import asdict

import pytest
from rich.console import Console

from bench.engine import helpers
from bench.study import Setting, load_results, plan_study, run_study
from bench.training.recipe import RECIPES, recipe_named
from studies.pilot import BASE, LEVERS, STUDY, Pilot, pulled

DATA = "terrain:size=32,train=4,val=2,test=2,seed=3"


@pytest.mark.parametrize("lever", LEVERS)
def test_a_lever_changes_its_own_field_and_nothing_else(lever):
    recipe = RECIPES["standard"]
    own, base = asdict(pulled(recipe, lever)), asdict(pulled(recipe, BASE))
    changed = {name for name in own if own[name] != base[name]} - {"eval_every"}
    assert changed == set(LEVERS[lever])
    assert own["steps"] / own["eval_every"] == base["steps"] / base["eval_every"] == 10


def test_the_pilot_compares_with_the_recipe_as_it_is_and_shows_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "usable_cores", lambda: 1)
    quiet = Console(quiet=True)
    levers = (BASE, "averaged weights", "twice the batch")
    pilot = Pilot(networks=("lale-s1",), levers=levers)
    setting = Setting(data=DATA, recipe=recipe_named("smoke"), seeds=(0, 1), out=tmp_path)
    plan = plan_study(pilot, setting, "pilot")
    part = Pilot(networks=("lale-s1",), levers=levers[:2])
    run_study(plan_study(part, setting, "pilot"), console=quiet)
    plan.manifest.save(plan.folder)
    report = pilot.report(load_results(plan.folder))
    frame = report.frame.set_index("lever")
    assert frame["trained"].to_dict() == dict(zip(levers, (2, 2, 0), strict=True))
    assert frame.loc["twice the batch", "reason"] == "not run yet"
    records = {label: plan.store.get(cell.key) for label, cell in plan.labelled.items()}
    scores = {n: r.result["test_scores"]["macro_f1"] for n, r in records.items() if r is not None}
    differences = [scores[f"lale-s1 | averaged weights | {s}"] - scores[f"lale-s1 | {BASE} | {s}"] for s in (0, 1)]
    assert frame.loc["averaged weights", "difference"] == pytest.approx(sum(differences) / 2)
    assert frame.loc["averaged weights", "low"] <= frame.loc["averaged weights", "difference"]
    assert "2 of 6 trainings are missing." in report.findings
    assert "not run yet" in (plan.folder / "table.md").read_text()


def test_the_most_telling_trainings_come_first():
    order, first = STUDY._order((0, 1)), list(LEVERS)[:2]
    assert order[:4] == [("lale-s1", lever, seed) for seed in (0, 1) for lever in first]
    assert {lever for _, lever, _ in order[: 4 * 2 * 2]} == set(first)  # of all networks, before any other
    assert len(set(order)) == len(order) == 4 * len(LEVERS) * 2
