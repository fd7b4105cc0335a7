"""Untimed cells are measured by several processes; timed ones by one, alone; and no helper outlives its run."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bench.engine import Cell, run_cells
from bench.engine import helpers as helpers_module
from bench.engine.helpers import CELLS_EACH
from bench.records import RecordStore

PATIENCE_S = 120.0  # until another process has come or gone: more than any machine takes


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(helpers_module, "usable_cores", lambda: 2)


def meet(folder, seed, context):
    """A measurement that ends once two processes make such ones, so that the outcome depends on no timing."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + PATIENCE_S
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline, "no other process came"
        time.sleep(0.02)
    return {"process": os.getpid(), "seed": seed}


def untimed(folder, count=2 * CELLS_EACH):
    return [Cell("demo", f"cell {i}", {"seed": i}, partial(meet, folder, i), untimed=True) for i in range(count)]


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # of Linux: one that nobody has reaped yet is dead all the same
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def run(cells, folder):
    return run_cells(cells, RecordStore(folder), environment={"cpu": "any"}, console=Console(quiet=True))


def test_two_processes_share_what_is_untimed_and_one_does_the_rest_alone(tmp_path):
    met = tmp_path / "met"
    met.mkdir()

    def timed(context):
        return {"processes": [int(path.name) for path in met.iterdir() if is_alive(int(path.name))]}

    *counted, measured = run([Cell("speed", "speed", {}, timed), *untimed(met)][::-1], tmp_path / "records")
    processes = {outcome.record.result["process"] for outcome in counted}
    assert len(processes) == 2 and os.getpid() in processes
    assert sorted(outcome.record.result["seed"] for outcome in counted) == list(range(2 * CELLS_EACH))
    assert [o.fresh for o in counted] == [o.record.result["process"] == os.getpid() for o in counted]
    assert measured.record.result["processes"] == [os.getpid()]


def test_few_cells_and_cells_that_cannot_be_sent_are_measured_here(tmp_path):
    few = [Cell("demo", f"cell {i}", {"seed": i}, partial(here, i), untimed=True) for i in range(2 * CELLS_EACH - 1)]

    def unnamed(context):  # what has no name to be imported by cannot be sent
        return here(0, context)

    closures = [Cell("demo", f"cell {i}", {"other": i}, unnamed, untimed=True) for i in range(3 * CELLS_EACH)]
    outcomes = run(few, tmp_path) + run(closures, tmp_path) + run(few[:8] + closures[:4], tmp_path / "both")
    assert {outcome.record.result["process"] for outcome in outcomes} == {os.getpid()}
    assert all(outcome.fresh for outcome in outcomes)


def here(seed, context):
    return {"process": os.getpid()}


def test_a_helper_that_cannot_start_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers_module, "START", "raise SystemExit(1)")
    cells = [Cell("demo", f"cell {i}", {"seed": i}, partial(here, i), untimed=True) for i in range(3 * CELLS_EACH)]
    assert all(outcome.fresh for outcome in run(cells, tmp_path))


STUDY = """
import sys, time
from functools import partial
from pathlib import Path
import test_helpers
from bench.engine import Cell, helpers
helpers.usable_cores = lambda: 2
folder = Path(sys.argv[1])
cells = test_helpers.untimed(folder / "met")
cells += [Cell("demo", "long", {"long": i}, partial(test_helpers.stay, i), untimed=True) for i in range(2)]
test_helpers.run(cells, folder / "records")
"""


def stay(seed, context):
    time.sleep(10 * PATIENCE_S)
    return {}


def test_a_helper_ends_with_a_killed_run(tmp_path):
    met = tmp_path / "met"
    met.mkdir()
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    study = subprocess.Popen(
        [sys.executable, "-c", STUDY, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}, start_new_session=True
    )
    wait_until(lambda: len(list(met.iterdir())) == 2)
    (helper,) = {int(path.name) for path in met.iterdir()} - {study.pid}
    assert is_alive(helper)
    study.send_signal(signal.SIGKILL)
    study.wait()
    wait_until(lambda: not is_alive(helper))


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
