"""The search with real trainings, timings and records, as small as they get."""

import optuna
import pytest
from search_formula import QUIET, S1

from bench.cli.app import run
from bench.data import open_data
from bench.engine.distributed import WORKER
from bench.records import RecordStore
from bench.search import Budget, SearchPlan, run_search
from bench.search.evaluate import TrainingEvaluator
from bench.speed.protocol import SpeedProtocol
from bench.training.recipe import Recipe

SIZE = (32, 32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LALE_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_data("terrain:seed=3,size=32,train=8,val=4,test=4", splits=("train", "val"))


@pytest.fixture
def evaluator(data, tmp_path):
    recipe = Recipe(steps=2, eval_every=2, batch=4)
    return TrainingEvaluator(data, recipe, RecordStore(tmp_path / "records"), size=SIZE)


def test_trainings_are_recorded_and_answer_again(evaluator, tmp_path):
    plan = SearchPlan(S1, free=("widths", "depths"), budget=Budget(max_gmacs=0.006, max_params=1e6), trials=3)
    result = run_search(plan, evaluator, tmp_path, console=QUIET)
    records = evaluator.store.all("train")
    assert {record.key for record in records} == {trial.record for trial in result.trials}
    for trial in result.trials:
        assert 0 <= trial.objectives[0] <= 1
        assert trial.cost["params"] <= 1e6 and trial.cost["macs"] <= 0.006e9
    assert all("test_confusions" not in record.result for record in records)  # test tiles were never opened
    again = run_search(plan, evaluator, tmp_path / "elsewhere", console=QUIET)
    assert [t.objectives for t in again.trials] == [t.objectives for t in result.trials]
    assert not any(trial.fresh for trial in again.trials)


def test_latency_is_measured_once_before_training(evaluator, tmp_path):
    plan = SearchPlan(S1, free=("depths",), objectives=("f1", "latency"), budget=Budget(max_latency_ms=1e4), trials=1)
    trial = run_search(plan, evaluator, tmp_path, console=QUIET).trials[0]
    timed = evaluator.store.all("speed")
    assert trial.objectives[1] == trial.latency_ms > 0
    assert trial.latency_ms in [speed["latency_ms"] for r in timed for speed in r.result["speeds"].values()]
    assert evaluator.latency_ms(trial.config) == trial.latency_ms
    assert len(evaluator.store.all("speed")) == len(timed)


def test_latency_is_measured_in_the_form_and_precision_that_are_asked_for(evaluator, data, tmp_path):
    assert set(evaluator.determinants) == {
        "data",
        "recipe",
        "size",
        "device",
        "runtime",
    }  # names of former searches hold
    protocol = SpeedProtocol(form="deployed", precision="bf16")
    deployed = TrainingEvaluator(data, evaluator.recipe, evaluator.store, size=SIZE, protocol=protocol)
    assert deployed.determinants == {**evaluator.determinants, "form": "deployed", "precision": "bf16"}
    plan = SearchPlan(S1, free=("depths",), objectives=("f1", "latency"), trials=1, sampler="random")
    trial = run_search(plan, deployed, tmp_path, console=QUIET).trials[0]
    (speed,) = evaluator.store.all("speed")
    (found,) = speed.result["speeds"].values()
    assert (found["protocol"]["form"], found["protocol"]["precision"]) == ("deployed", "bf16")
    assert trial.latency_ms == found["latency_ms"]


@pytest.mark.slow
def test_latency_in_int8_is_calibrated_on_training_tiles(evaluator, data):
    pytest.importorskip("nncf")
    protocol = SpeedProtocol(form="deployed", runtime="openvino", precision="int8")
    quantised = TrainingEvaluator(data, evaluator.recipe, evaluator.store, size=SIZE, protocol=protocol)
    assert 0 < quantised.latency_ms(S1) < float("inf")
    (record,) = evaluator.store.all("speed")
    assert record.determinants["calibration"]["data"] == data.fingerprint
    assert "nncf" in record.determinants["versions"]


def test_a_runtime_that_nothing_would_be_timed_in_is_refused(capsys, tmp_path):
    command = ["search", "--data", "terrain:seed=3,size=32,train=8,val=4,test=4", "--out", str(tmp_path)]
    assert run([*command, "--runtime", "openvino"]) != 0
    assert "--objectives f1,latency" in capsys.readouterr().err.replace("\n", " ")
    assert run([*command, "--objectives", "f1,latency", "--precision", "int8", "--device", "cpu"]) != 0
    assert "eager is measured in" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_of_one_machine_share_a_search(tmp_path, capsys):
    budget = ["--max-gmacs", "0.02", "--trials", "16", "--free", "widths,depths", "--size", "32", "--seeds", "1"]
    command = ["search", "--data", "terrain:seed=3,size=32,train=8,val=4,test=4", "--out", str(tmp_path), "--device"]
    training = ["--budget", "smoke", "--recipe", "steps=120", "--recipe", "batch=8", "--sampler", "random"]
    assert run([*command, "cpu", *budget, *training, "--name", "shared", "--processes", "2"]) == 0
    (study,) = optuna.study.get_all_study_summaries(f"sqlite:///{tmp_path / 'shared' / 'search.db'}")
    trials = optuna.load_study(
        study_name=study.study_name, storage=f"sqlite:///{tmp_path / 'shared' / 'search.db'}"
    ).get_trials()
    assert [trial.state.is_finished() for trial in trials] == [True] * 16
    assert len({trial.user_attrs[WORKER] for trial in trials}) == 2
    searched = [record for record in RecordStore(tmp_path / "records").all("train") if not record.determinants["test"]]
    assert {record.environment["threads"] for record in searched} == {1}


def test_processes_are_refused_where_latency_is_measured(tmp_path, capsys):
    command = ["search", "--out", str(tmp_path), "--objectives", "f1,latency", "--processes", "2"]
    assert run(command) != 0
    assert "latency is measured while nothing else runs" in capsys.readouterr().err.replace("\n", " ")
    assert run(["search", "--out", str(tmp_path), "--processes", "0"]) != 0
    assert "give at least 1" in capsys.readouterr().err
