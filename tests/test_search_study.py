"""Searches end to end, on a formula instead of trainings but through the real engine, records and storages."""

import gc
import itertools
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace

import pytest
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from search_formula import QUIET, S1, FormulaEvaluator

import archs
from bench.engine import StudyInterrupted
from bench.errors import BenchError
from bench.search.budget import Budget
from bench.search.front import save_front, variant_name
from bench.search.samplers import SAMPLERS, FeasibleSampler
from bench.search.space import Space
from bench.search.study import AUTO, SearchPlan, run_search
from bench.stats.pareto import hypervolume_trace

BUDGET = Budget(max_gmacs=0.03, max_params=1.2e6)  # lale-s1 has 0.036 GMACs at 64 x 64
WIDTHS_AND_DEPTHS = ("widths", "depths", "conv_stages", "decoder_width")


def plan(**changes):
    return SearchPlan(S1, **{"free": WIDTHS_AND_DEPTHS, "budget": BUDGET, "trials": 8, "sampler": "nsga2", **changes})


def search(folder, what=None, evaluator=None, storage="search.journal"):
    """A search over a journal file, the quickest of the storages; `storage=None` is the default, SQLite."""
    where = str(folder / storage) if storage == "search.journal" else storage
    folder.mkdir(exist_ok=True)
    return run_search(what or plan(), evaluator or FormulaEvaluator(folder), folder, storage=where, console=QUIET)


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """The engine collects garbage after each cell: let it not look at all that the imports brought."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_the_sampler_follows_from_what_can_be_priced():
    assert plan(sampler=AUTO).sampler == "ehvi" == SearchPlan(S1).sampler
    assert plan(sampler=AUTO, objectives=("f1", "params", "latency")).sampler == "gp"
    assert plan(sampler=AUTO, budget=Budget(max_latency_ms=9.0)).sampler == "gp"
    assert SearchPlan(archs.config("lwganet-l0+mlp")).sampler == "gp"  # priced by counting


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_trains_within_the_budget_only(tmp_path, sampler):
    evaluator = FormulaEvaluator(tmp_path)
    result = search(tmp_path, plan(sampler=sampler, trials=12), evaluator)
    assert len(result.trials) == 12
    assert len(evaluator.evaluations()) == len(set(evaluator.evaluations())) == 12
    for trial in result.trials:
        assert trial.cost["macs"] <= 0.03e9 and trial.cost["params"] <= 1.2e6
        assert trial.cost["macs"] == FormulaEvaluator(tmp_path).price(trial.config).macs


def test_known_configs_come_first(tmp_path):
    result = search(tmp_path, plan(free=("depths", "widths"), budget=Budget(max_params=3e6), trials=4))
    assert [trial.config for trial in result.trials[:2]] == [archs.config("lale-s1"), archs.config("lale-s2")]
    assert archs.config("lale-s3") not in [trial.config for trial in result.trials]  # 3.66 M parameters


def test_a_base_over_budget_starts_as_the_nearest_config_within(tmp_path):
    first = search(tmp_path, plan(trials=1)).trials[0]
    assert first.config != S1
    assert 0.027e9 < first.cost["macs"] <= 0.03e9


def test_the_front_is_what_nothing_beats(tmp_path):
    result = search(tmp_path, plan(trials=16))
    front = result.front
    assert [trial.objectives[1] for trial in front] == sorted(trial.objectives[1] for trial in front)
    for trial in result.trials:
        beaten = any(
            other.objectives[0] >= trial.objectives[0]
            and other.objectives[1] <= trial.objectives[1]
            and other.objectives != trial.objectives
            for other in result.trials
        )
        assert beaten != trial.on_front
    frame = result.frame()
    assert list(frame["front"]) == [trial.on_front for trial in result.trials]
    volumes = hypervolume_trace(frame, "macs", "f1", (0.04e9, 0.0))
    assert len(volumes) == 16 and (volumes[1:] >= volumes[:-1]).all() and volumes[0] > 0


def test_three_objectives_with_measured_latency(tmp_path):
    evaluator = FormulaEvaluator(tmp_path)
    what = plan(objectives=("f1", "params", "latency"), budget=Budget(max_latency_ms=8), trials=6)
    result = search(tmp_path, what, evaluator)
    for trial in result.trials:
        assert trial.objectives[2] == trial.latency_ms == sum(trial.config.depths) <= 8


def test_a_network_that_cannot_be_timed_fails_alone(tmp_path):
    slow = FormulaEvaluator(tmp_path, milliseconds=lambda c: float("inf") if c.depths[0] > 1 else 1.0)
    result = search(tmp_path, plan(objectives=("f1", "latency"), sampler="random", trials=10), slow)
    failed = [trial for trial in result.trials if not trial.objectives]
    assert 0 < len(failed) < 10 and all("latency cannot be measured" in trial.reason for trial in failed)


def test_a_saved_member_of_the_front_is_an_architecture(tmp_path):
    result = search(tmp_path)
    paths = save_front(result, tmp_path / "front")
    assert len(paths) == len(result.front) > 0
    for path, trial in zip(paths, result.front, strict=True):
        assert archs.config(path) == trial.config
        assert sum(p.numel() for p in archs.create(path).parameters()) == trial.cost["params"]


def test_a_front_is_alone_in_its_folder(tmp_path):
    """What an earlier front left there was once taken for members of the last one."""
    result, front = search(tmp_path), tmp_path / "front"
    first = save_front(result, front)
    for name in ("dominated.json", "dominated.safetensors", ".being-written.json.tmp"):
        (front / name).touch()
    first[0].with_suffix(".safetensors").touch()
    assert save_front(result, front) == first
    left = {path.name for path in front.iterdir()}
    assert left == {path.name for path in first} | {f"{first[0].stem}.safetensors", ".being-written.json.tmp"}


def test_repeats_are_answered_from_records(tmp_path):
    """A space of five configs, searched for nine trials; then once more from another storage."""
    what = plan(free=("conv_stages",), budget=Budget(), trials=9)
    evaluator = FormulaEvaluator(tmp_path)
    result = search(tmp_path, what, evaluator)
    assert len(result.trials) == 9
    assert len(evaluator.evaluations()) == 5
    assert sum(trial.fresh for trial in result.trials) == 5
    again = search(tmp_path, what, evaluator, storage=f"sqlite:///{tmp_path / 'other.db'}")
    assert not any(trial.fresh for trial in again.trials)
    assert len(evaluator.evaluations()) == 5


def test_a_finished_search_goes_on_where_it_ended(tmp_path):
    short = search(tmp_path, plan(trials=5))
    long = search(tmp_path, plan(trials=9))
    assert [t.key for t in long.trials[:5]] == [t.key for t in short.trials]
    whole = search(tmp_path / "whole", plan(trials=9))
    assert [t.key for t in whole.trials] == [t.key for t in long.trials]


def test_another_question_is_another_search(tmp_path):
    name = search(tmp_path, plan(trials=1)).name
    other = [plan(trials=1, seed=1), plan(trials=1, budget=Budget()), plan(trials=1, objectives=("f1", "params"))]
    assert len({name, *(search(tmp_path, what).name for what in other)}) == 4
    longer = search(tmp_path, plan(trials=2))
    assert longer.name == name


def test_a_failed_training_is_recorded_and_the_search_goes_on(tmp_path):
    evaluator = FormulaEvaluator(tmp_path, fails=lambda config: config.depths[0] > 1)
    result = search(tmp_path, plan(trials=12, sampler="random"), evaluator)
    failed = [trial for trial in result.trials if not trial.objectives]
    assert len(result.trials) == 12 and 0 < len(failed) < 12
    assert {trial.reason for trial in failed} == {"the loss is not finite"}
    assert not any(trial.on_front for trial in failed)
    assert set(result.frame()["status"]) == {"", "failed"}
    again = search(tmp_path, plan(trials=12, sampler="random"), evaluator)  # nothing is tried again
    assert [t.key for t in again.trials] == [t.key for t in result.trials]


def test_sqlite_and_a_journal_file_go_through_the_same_trials(tmp_path):
    journal = search(tmp_path / "journal", plan(trials=4))
    sqlite = search(tmp_path / "sqlite", plan(trials=4), storage=None)
    assert [t.key for t in journal.trials] == [t.key for t in sqlite.trials]
    assert (tmp_path / "journal" / "search.journal").exists() and (tmp_path / "sqlite" / "search.db").exists()


def test_a_storage_that_does_not_open_is_one_sentence(tmp_path):
    with pytest.raises(BenchError, match=r"the storage nonsense://x cannot be opened .* give sqlite:///FILE"):
        search(tmp_path, plan(), storage="nonsense://x")


def test_an_impossible_budget_trains_nothing(tmp_path):
    evaluator = FormulaEvaluator(tmp_path)
    with pytest.raises(BenchError, match=r"fits --max-params 1000: the smallest costs"):
        search(tmp_path, plan(budget=Budget(max_params=1000)), evaluator)
    assert evaluator.evaluations() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"objectives": ("f1",)}, "--objectives f1: give f1 first"),
        ({"objectives": ("macs", "f1")}, "give f1 first"),
        ({"objectives": ("f1", "speed")}, "params, macs, latency"),
        ({"sampler": "magic"}, "--sampler magic: there is no such sampler; possible: ehvi, random"),
        ({"sampler": "ehvi", "budget": Budget(max_latency_ms=9.0)}, "too many to be timed for --max-latency-ms"),
        ({"sampler": "ehvi", "objectives": ("f1", "latency")}, "too many to be timed for the objective latency; leave"),
        ({"sampler": "ehvi", "objectives": ("f1", "macs", "latency")}, "timed for the objective latency"),
        ({"trials": 0}, "--trials 0"),
    ],
)
def test_a_wrong_plan_is_refused(changes, sentence):
    with pytest.raises(BenchError, match=sentence):
        plan(**changes)


def test_an_interruption_is_taken_up_again(tmp_path):
    """Ctrl-C in the middle of the third training."""
    whole = search(tmp_path / "whole", plan(trials=6))
    calls = []

    def pause():
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt

    evaluator = FormulaEvaluator(tmp_path, pause=pause)
    with pytest.raises(StudyInterrupted, match="4 cells to go"):
        search(tmp_path, plan(trials=6), evaluator)
    result = search(tmp_path, plan(trials=6), evaluator)
    assert [t.key for t in result.trials] == [t.key for t in whole.trials]
    assert len(evaluator.evaluations()) == len(set(evaluator.evaluations())) == 6


@pytest.mark.parametrize("stop", ["suggest", "score"])
def test_a_trial_interrupted_twice_keeps_its_point(tmp_path, monkeypatch, stop):
    """Once in the middle of its training, then again before it was noted what it trains."""
    whole = search(tmp_path / "whole", plan(trials=4, sampler="random"))
    for target, call in (("score", 2), (stop, 1)):
        evaluator = FormulaEvaluator(tmp_path)
        owner = FormulaEvaluator if target == "score" else Space
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, target, _interrupt_at(getattr(owner, target), call))
            search(tmp_path, plan(trials=4, sampler="random"), evaluator)
    result = search(tmp_path, plan(trials=4, sampler="random"), FormulaEvaluator(tmp_path))
    assert [t.key for t in result.trials] == [t.key for t in whole.trials]


def _interrupt_at(method, call):
    calls = itertools.count(1)

    def stopped(*arguments):
        if next(calls) == call:
            raise KeyboardInterrupt
        return method(*arguments)

    return stopped


def _worker(folder, sampler, trials):
    evaluator = FormulaEvaluator(folder, pause=lambda: time.sleep(0.03))
    search(folder, plan(sampler=sampler, trials=trials), evaluator, storage=None)


def _forked(*arguments):
    """A worker that starts from this process's imports, so that it can be killed at any moment of a search."""
    process = multiprocessing.get_context("fork").Process(target=_worker, args=arguments)
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("sampler", "trials"), [("nsga2", 14), pytest.param("ehvi", 9, marks=pytest.mark.slow)])
def test_killed_at_random_points_the_search_ends_the_same(tmp_path, sampler, trials):
    chance = random.Random(sampler)
    whole = search(tmp_path / "whole", plan(sampler=sampler, trials=trials), storage=None)
    kills = 0
    while kills < 6:
        process = _forked(tmp_path, sampler, trials)
        process.join(chance.uniform(0.05, 0.6))
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    evaluator = FormulaEvaluator(tmp_path)
    result = search(tmp_path, plan(sampler=sampler, trials=trials), evaluator, storage=None)
    assert kills >= 3
    assert [t.key for t in result.trials] == [t.key for t in whole.trials]
    assert [t.key for t in result.front] == [t.key for t in whole.front]
    done = evaluator.evaluations()
    assert len(set(done)) == trials
    # A kill in the moment between an evaluation and its record costs that one evaluation; nothing costs more.
    assert len(done) <= trials + kills


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_workers_share_a_search_and_one_may_die(tmp_path):
    trials = 12
    workers = [_forked(tmp_path, "nsga2", trials) for _ in range(2)]
    evaluator = FormulaEvaluator(tmp_path)
    while len(evaluator.evaluations()) < 3 and workers[0].is_alive():
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    for worker in workers:
        worker.join()
    assert workers[1].exitcode == 0
    result = search(tmp_path, plan(trials=trials), evaluator, storage=None)
    assert len(result.trials) == trials
    assert sorted(trial.slot for trial in result.trials) == list(range(trials))
    assert len(evaluator.evaluations()) <= len(set(evaluator.evaluations())) + 1  # what the killed one was about


def _stalled(folder, storage, moment, ready):
    """A worker that stops for ever at a moment of its first proposal."""

    def stall(*arguments, **options):
        ready.set()
        time.sleep(600)

    owner, name = moment
    setattr(owner, name, stall)
    search(folder, plan(sampler="nsga2", trials=6), storage=storage)


def _sharing(folder, storage):
    evaluator = FormulaEvaluator(folder, pause=lambda: time.sleep(0.02))
    search(folder, plan(sampler="nsga2", trials=6), evaluator, storage=storage)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
@pytest.mark.parametrize("moment", [(BaseStorage, "set_trial_user_attr"), (FeasibleSampler, "_propose")],
                         ids=["before it is named", "while it proposes"])  # fmt: skip
def test_of_three_workers_one_dies_and_nobody_waits_for_ever(tmp_path, kind, moment):
    """It is killed once its trial exists, before or after the trial bears its name."""
    storage = str(tmp_path / "search.journal") if kind == "journal" else f"sqlite:///{tmp_path / 'search.db'}"
    if moment[0] is BaseStorage:
        moment = (JournalStorage if kind == "journal" else RDBStorage, moment[1])
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    doomed = fork.Process(target=_stalled, args=(tmp_path, storage, moment, ready), daemon=True)
    doomed.start()
    assert ready.wait(60)
    others = [fork.Process(target=_sharing, args=(tmp_path, storage), daemon=True) for _ in range(2)]
    for worker in others:
        worker.start()
    os.kill(doomed.pid, signal.SIGKILL)
    for worker in others:
        worker.join(60)
        assert worker.exitcode == 0, "a survivor waits for a trial of the dead one"
    result = search(tmp_path, plan(sampler="nsga2", trials=6), storage=storage)
    assert [trial.slot for trial in result.trials] == list(range(6))
    assert all(trial.objectives for trial in result.trials)


def test_names_of_searched_variants_differ(tmp_path):
    result = search(tmp_path)
    assert len({variant_name(trial) for trial in result.trials}) == len({trial.key for trial in result.trials})
    assert replace(result.trials[0], slot=9).key == result.trials[0].key
