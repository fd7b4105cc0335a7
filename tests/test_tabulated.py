"""Tabulated benchmarks: a table of trainings, the surrogate over it, and samplers against each other on it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import archs
from bench.errors import BenchError
from bench.records import Record
from bench.search import Budget, SearchPlan, run_search
from bench.search.space import config_key
from bench.stats.pareto import hypervolume_2d
from bench.study import Setting, load_results, plan_study, run_study, write_report
from studies import tabulated
from studies.samplers.contest import UNFILTERED, hypervolume_of_chosen
from studies.samplers.study import Samplers
from studies.tabulated.benchmark import FOLDER, TABLE, Scope, points_of
from studies.tabulated.noise import Noise, deviations_of, noise_of
from studies.tabulated.report import Training, noise_sentence, report_tabulated
from studies.tabulated.study import STUDY as TABULATION

S1 = archs.config("lale-s1")
SCOPE = Scope(S1, (64, 64), 7, 0.03, 0.09, ("widths", "depths"))
NOISE = 0.01
QUIET = Console(quiet=True)


def truth(config):
    """Wider and deeper is better, with diminishing returns; the third stage counts most."""
    size = sum(w * d * k for w, d, k in zip(config.widths, config.depths, (1, 1, 3, 1), strict=True))
    return 0.3 + 0.4 * size / (size + 600)


def training_record(config, seed, rng):
    result = {"val_scores": {"macro_f1": truth(config) + rng.normal(0, NOISE)}}
    shared = {"data": {"name": "terrain"}, "recipe": {"steps": 5}, "versions": {"torch": "2"}}
    return Record.of(
        "train", {**shared, "config": archs.to_dict(config), "seed": seed}, result, environment={}, seconds=1.0
    )


def made(number):
    """Trainings and their records by formula, in the form of the study's."""
    rng = np.random.default_rng(0)
    drawn = SCOPE.spread(number, seed=1, bins=5)
    wanted = [(config, 0) for config in drawn] + [(config, seed) for config in drawn[:15] for seed in (1, 2, 3)]
    trainings = {f"{i}": Training(config, seed) for i, (config, seed) in enumerate(wanted)}
    records = {label: training_record(one.config, one.seed, rng) for label, one in trainings.items()}
    return trainings, records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tabulated")
    report_tabulated(SCOPE, *made(number=60), folder)
    return folder


def test_configs_are_spread_evenly_over_their_macs():
    drawn = SCOPE.spread(50, seed=3, bins=5)
    macs = np.array([SCOPE.price(config).macs for config in drawn]) / 1e9
    counts, _ = np.histogram(np.log(macs), np.linspace(np.log(0.03), np.log(0.09), 6))
    assert len(set(drawn)) == 50 and counts.tolist() == [10] * 5
    assert SCOPE.spread(50, seed=3, bins=5) == drawn != SCOPE.spread(50, seed=4, bins=5)
    with pytest.raises(BenchError, match="too few configs between"):
        replace(SCOPE, low_gmacs=1e-6, high_gmacs=2e-6).spread(5, seed=0)


def test_the_surrogate_knows_configs_that_were_not_trained(folder):
    benchmark = tabulated.load(folder)
    configs = SCOPE.spread(80, seed=99, bins=5)
    expected = benchmark.expected(configs)
    right = np.array([truth(config) for config in configs])
    assert np.abs(expected - right).mean() < 0.01
    assert np.corrcoef(expected, right)[0, 1] > 0.95
    assert benchmark.expected(configs[:1])[0] == expected[0]
    assert {fit.model for fit in benchmark.fits} == {"gp", "forest"}
    assert 0 < min(fit.rmse for fit in benchmark.fits) < 0.03 and max(fit.tau for fit in benchmark.fits) > 0.7


def test_noise_is_that_of_seeds_and_an_observation_repeats(folder):
    benchmark = tabulated.load(folder)
    assert benchmark.noise.typical == pytest.approx(NOISE, rel=0.3)
    seen = [benchmark.observe(S1, seed) for seed in range(400)]
    assert np.std(seen) == pytest.approx(benchmark.noise.drawn(config_key(S1)), rel=0.15)
    assert np.mean(seen) == pytest.approx(benchmark.expected([S1])[0], abs=0.002)
    assert benchmark.observe(S1, 7) == seen[7]
    with pytest.raises(BenchError, match="no config of the table was trained with two seeds"):
        noise_of(pd.DataFrame({"config_key": ["a", "b"], "f1": [0.1, 0.2]}))


def drawn_table(deviations, seeds=3):
    """Trainings of as many configs as there are deviations; a seed's share is the same for all of them."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, seeds)
    return pd.DataFrame(
        {"config_key": f"config {i}", "seed": seed, "f1": 0.5 + shared[seed] + rng.normal(0, deviation)}
        for i, deviation in enumerate(deviations)
        for seed in range(seeds)
    )


def test_one_config_that_goes_astray_does_not_make_the_others_noisy():
    quiet = np.full(29, 0.01)
    alike, wild = noise_of(drawn_table([*quiet, 0.01])), noise_of(drawn_table([*quiet, 0.1]))
    assert alike.typical == pytest.approx(0.01, rel=0.2)
    assert wild.typical == pytest.approx(alike.typical, rel=0.25) and wild.freedom < alike.freedom
    assert wild.configs["config 29"] > 3 * wild.typical
    assert max(wild.configs[f"config {i}"] for i in range(29)) < 2 * wild.typical
    pooled = float(np.sqrt((deviations_of(drawn_table([*quiet, 0.1])) ** 2).mean()))
    assert pooled > 1.5 * wild.typical  # what all configs would have got before


def test_simulated_trainings_vary_as_the_trained_configs_do():
    """Deviations of configs never trained have the distribution of those that were; known ones keep theirs."""
    noise = Noise(typical=0.02, freedom=4.0, configs={"known": 0.05})
    assert noise.drawn("known") == noise.expected("known") == 0.05
    assert noise.expected("new") == 0.02
    drawn = np.array([noise.drawn(f"config {i}") for i in range(4000)])
    assert noise.drawn("config 7") == drawn[7]
    chi_squared = 4.0 * (0.02 / drawn) ** 2
    assert chi_squared.mean() == pytest.approx(4.0, rel=0.05) and chi_squared.var() == pytest.approx(8.0, rel=0.12)


def test_a_mean_weighs_by_its_own_noise(folder):
    """The surrogate's variance of a config's mean: its own deviation over its trainings, not one for all."""
    benchmark = tabulated.load(folder)
    first = benchmark.table["config_key"].iloc[0]
    calm = replace(benchmark.noise, configs=benchmark.noise.configs | {first: 1e-4})
    before = points_of(benchmark.scope, benchmark.table, benchmark.noise)[2]
    after = points_of(benchmark.scope, benchmark.table, calm)[2]
    assert after[0] == pytest.approx(1e-8 / 4) and (after[1:] == before[1:]).all()
    assert before[-1] == pytest.approx(benchmark.noise.typical**2)  # trained once


def test_the_report_says_which_noise_is_meant():
    table = drawn_table([0.01] * 9 + [0.1])
    noise, plain = noise_of(table), deviations_of(table)
    sentence = noise_sentence(table, noise)
    assert f"{100 * noise.typical:.2f} points in the typical config" in sentence
    assert f"to {100 * max(noise.configs.values()):.2f} in the 10 that were trained more than once" in sentence
    assert f"from {100 * plain.min():.2f} to {100 * plain.max():.2f}" in sentence


def test_the_shipped_noise_is_that_of_the_shipped_table():
    shipped = tabulated.load().noise
    again = noise_of(pd.read_csv(FOLDER / TABLE).query("status == 'ok'"))
    assert (again.typical, again.freedom) == pytest.approx((shipped.typical, shipped.freedom))
    assert dict(again.configs) == pytest.approx(dict(shipped.configs))


def test_a_search_over_a_table_trains_nothing_and_finds_better(folder, tmp_path):
    benchmark = tabulated.load(folder)
    budget = Budget(max_gmacs=0.05)
    plan = SearchPlan(S1, SCOPE.free, budget=budget, trials=11, sampler="ehvi")
    result = run_search(plan, benchmark, tmp_path, console=QUIET)
    assert all(benchmark.price(trial.config).macs <= 0.05e9 for trial in result.trials)
    best = max(result.trials, key=lambda trial: trial.objectives[0])
    assert truth(best.config) > truth(result.trials[0].config)
    with pytest.raises(BenchError, match="has no latencies"):
        benchmark.latency_ms(S1)


def test_an_unfinished_or_damaged_table_is_said_to_be_so(folder, tmp_path):
    trainings, records = made(number=60)
    some = dict(list(records.items())[:10])
    report = report_tabulated(SCOPE, trainings, some, tmp_path / "some")
    assert report.findings == ["10 of 105 trainings are done: too few for a surrogate."]
    assert len(pd.read_csv(tmp_path / "some" / "table.csv")) == 105
    with pytest.raises(BenchError, match="holds no tabulated benchmark"):
        tabulated.load(tmp_path / "some")
    with pytest.raises(BenchError, match="no surrogate 'spline'; possible: gp, forest"):
        tabulated.load(folder, "spline")
    document = json.loads((folder / "benchmark.json").read_text())
    (tmp_path / "some" / "benchmark.json").write_text(json.dumps({**document, "format": "another"}))
    with pytest.raises(BenchError, match="of this version"):
        tabulated.load(tmp_path / "some")
    first = next(iter(records))
    records[first] = replace(records[first], determinants={**records[first].determinants, "recipe": {"steps": 6}})
    with pytest.raises(BenchError, match="differ in data or recipe"):
        report_tabulated(SCOPE, trainings, records, tmp_path / "mixed")


def test_a_front_is_chosen_by_what_was_observed_and_valued_by_what_is_true():
    costs, observed = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, 0.9, 0.7, np.nan])
    expected, corner = np.array([0.5, 0.6, 0.7, 0.8]), np.array([4.0, 0.0])
    chosen = pd.DataFrame({"x": [1.0, 2.0], "y": [0.5, 0.6]})  # the lucky one is taken, and is worth what it is
    found = hypervolume_of_chosen(observed, costs, expected, corner)
    assert found == pytest.approx(hypervolume_2d(chosen, "x", "y", (4.0, 0.0)))


def test_samplers_compete_under_one_budget_and_resume(folder, tmp_path):
    contest = Samplers(
        evaluations=(("ehvi", 8), ("nsga2", 8), (UNFILTERED, 8)),
        repeats=2,
        models=("gp", "forest"),
        budget=Budget(max_gmacs=0.045),
        worst_f1=0.3,
        folder=folder,
    )
    plan = plan_study(contest, Setting(out=tmp_path))
    run_study(plan, console=QUIET)
    records = load_results(plan.folder).records
    assert len(records) == 12 and {record.status for record in records.values()} == {"ok"}
    for label, record in records.items():
        curve = record.result["hypervolume"]
        assert len(curve) == 8 and curve[-1] > 0
        assert (record.result["infeasible"] > 0) == (UNFILTERED in label)
    report = write_report(plan.folder, study=contest)
    assert {path.name for path in report.files} >= {"table.md", "runs.csv", "samplers.png"}
    assert set(report.frame["repeats"]) == {2}
    again = plan_study(contest, Setting(out=tmp_path))
    assert [cell.key for cell in again.cells] == [cell.key for cell in plan.cells]


def test_the_shipped_study_draws_as_many_configs_as_it_says():
    trainings = TABULATION.trainings
    assert len(trainings) == TABULATION.configs + 1 + TABULATION.repeated * TABULATION.seeds
    assert trainings["config 0, seed 0"].config == S1


def test_the_shipped_benchmark_loads_in_a_line():
    benchmark = tabulated.load()
    assert 0.2 < benchmark.expected([S1])[0] < 0.9 and benchmark.noise.typical > 0
    assert len(benchmark.table["config_key"].unique()) >= 200
