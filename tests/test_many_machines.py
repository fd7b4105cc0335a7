"""A search and a study on several workers over a PostgreSQL server, which crashes, as does a worker.

The workers share nothing but the server: each has an output folder of its own, as on a host of its own.
"""

import os
import signal
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial

import optuna
import pytest
from fresh_process import start as start_process
from postgres import Server
from search_formula import QUIET, S1

from bench.cli.app import run as run_command
from bench.engine.distributed import Heartbeat, is_decided, open_storage, quiet
from bench.records import RecordStore
from bench.search import Budget, SearchPlan
from bench.search.run import SearchSetting, run_and_report
from bench.study.sharing import unpack_record
from bench.training.recipe import Recipe

pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed: pip install '.[postgres]'")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

TRIALS, GRACE_S = 6, 3
DATA = "terrain:seed=3,size=32,train=8,val=4,test=4"
PLAN = SearchPlan(S1, ("widths", "depths"), budget=Budget(max_gmacs=0.006), trials=TRIALS, sampler="random")


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def start(tmp_path):
    """Starts a process on a host that shares nothing but a cache of data."""
    return partial(start_process, {"LALE_BENCH_CACHE": str(tmp_path / "cache")})


def setting(server, folder):
    recipe = Recipe(steps=16, eval_every=8, batch=4)
    return SearchSetting(
        DATA, recipe, (1,), (32, 32), storage=server.url, out=folder, name="search", heartbeat=Heartbeat(GRACE_S)
    )


def _begin(server, folder):
    run_and_report(PLAN, setting(server, folder), console=QUIET)


def _help(server, folder):
    raise SystemExit(run_command(["worker", "--storage", server.url, "--out", str(folder), "--patience", "20"]))


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it does not get on"
        time.sleep(0.05)
    return found


def is_training(folder):
    """In the middle of one: it has begun and its record is not written."""
    scratch = folder / "records" / ".scratch"
    return scratch.exists() and any(scratch.iterdir())


def kill_in_training(process, folder):
    """Freeze it before looking, so that it is not killed between two trainings."""
    while True:
        wait_for(lambda: is_training(folder))
        os.kill(process.pid, signal.SIGSTOP)
        if is_training(folder):
            os.kill(process.pid, signal.SIGKILL)
            return process.join()
        os.kill(process.pid, signal.SIGCONT)


@contextmanager
def studies(server):
    with quiet():
        storage = open_storage(server.url, None)
        yield [
            optuna.load_study(study_name=summary.study_name, storage=storage)
            for summary in optuna.get_all_study_summaries(storage)
        ]
        storage.remove_session()
        storage.engine.dispose()


@pytest.mark.slow
def test_a_worker_and_the_server_die_and_nothing_is_lost_or_done_twice(server, start, tmp_path):
    hosts = [tmp_path / name for name in ("first", "second", "third", "doomed")]
    first = start(_begin, server, hosts[0])
    workers = [start(_help, server, host) for host in hosts[1:]]
    kill_in_training(workers[2], hosts[3])
    wait_for(lambda: is_training(hosts[1]))
    server.crash()
    wait_for(lambda: not is_training(hosts[1]))  # it is through, and cannot tell
    server.start()
    for process in (first, *workers[:2]):
        process.join(120)
        assert process.exitcode == 0

    with studies(server) as (search, final):
        assert_searched(search)
        assert_measured(final, hosts[0])


def assert_searched(search):
    trials = search.get_trials()
    decided = [trial for trial in trials if is_decided(trial)]
    assert len(decided) == len(trials) == TRIALS, "a trial is lost, or made twice"
    assert not any(trial.state == optuna.trial.TrialState.RUNNING for trial in trials)
    trained = Counter(trial.user_attrs["config_key"] for trial in decided if trial.user_attrs["fresh"])
    assert set(trained.values()) == {1}, "a config was trained twice"
    assert len({trial.user_attrs["worker"] for trial in decided}) >= 2


def assert_measured(final, host):
    """Every cell of the final study once; its records came to the host that began, whoever measured them."""
    done = [trial for trial in final.get_trials() if is_decided(trial)]
    cells = Counter(trial.params["cell"] for trial in done)
    assert set(cells.values()) == {1} and sorted(cells) == list(range(len(cells)))
    records = RecordStore(host / "records")
    assert {unpack_record(trial.user_attrs["record"]).key in records for trial in done} == {True}
    assert (host / "search-front" / "table.md").exists()
