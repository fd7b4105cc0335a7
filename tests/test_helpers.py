"""Untimed cells are measured by several processes, each on one thread; timed ones by one, alone; and no helper outlives
its run."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tinyland import tinyland

import archs
from bench.engine import Cell, StudyInterrupted, run_cells
from bench.engine import helpers as helpers_module
from bench.engine.helpers import SHORT_EACH
from bench.records import RecordStore
from bench.training.cells import train_cell
from bench.training.recipe import recipe_named

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


def untimed(folder, count=2 * SHORT_EACH):
    return [Cell("demo", f"cell {i}", {"seed": i}, partial(meet, folder, i), untimed=True) for i in range(count)]


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # of Linux: one that nobody has reaped yet is dead all the same
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def run(cells, folder, **environment):
    where = {"cpu": "any", **environment}
    return run_cells(cells, RecordStore(folder), environment=where, console=Console(quiet=True))


def test_two_processes_share_what_is_untimed_and_one_does_the_rest_alone(tmp_path):
    met = tmp_path / "met"
    met.mkdir()

    def timed(context):
        return {"processes": [int(path.name) for path in met.iterdir() if is_alive(int(path.name))]}

    cells, lines = [*untimed(met), Cell("speed", "speed", {}, timed)], io.StringIO()
    store, console = RecordStore(tmp_path / "records"), Console(file=lines, width=200)
    *counted, measured = run_cells(cells, store, environment={}, console=console)
    processes = {outcome.record.result["process"] for outcome in counted}
    assert len(processes) == 2 and os.getpid() in processes
    assert sorted(outcome.record.result["seed"] for outcome in counted) == list(range(2 * SHORT_EACH))
    assert all(outcome.fresh for outcome in counted)  # whichever process of this run it was
    assert measured.record.result["processes"] == [os.getpid()]
    said = [line.partition("] ")[2].partition(":")[0] for line in lines.getvalue().splitlines()]
    assert sorted(said) == sorted(cell.label for cell in cells), "each cell is told of once, whoever measured it"


def test_few_cells_and_cells_that_cannot_be_sent_are_measured_here(tmp_path):
    few = [Cell("demo", f"cell {i}", {"seed": i}, partial(here, i), untimed=True) for i in range(2 * SHORT_EACH - 1)]

    def unnamed(context):  # what has no name to be imported by cannot be sent
        return here(0, context)

    closures = [Cell("demo", f"cell {i}", {"other": i}, unnamed, untimed=True) for i in range(3 * SHORT_EACH)]
    outcomes = run(few, tmp_path) + run(closures, tmp_path) + run(few[:8] + closures[:4], tmp_path / "both")
    assert {outcome.record.result["process"] for outcome in outcomes} == {os.getpid()}
    assert all(outcome.fresh for outcome in outcomes)


def here(seed, context):
    return {"process": os.getpid()}


def test_a_helper_that_cannot_start_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers_module, "START", "raise SystemExit(1)")
    cells = [Cell("demo", f"cell {i}", {"seed": i}, partial(here, i), untimed=True) for i in range(3 * SHORT_EACH)]
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


# ------------------------------------------------------------------------------------------- long cells: trainings


def long_cell(name, function, *arguments):
    return Cell("demo", name, {"name": name}, partial(function, *arguments), untimed=True, long=True)


def wait_for_other(folder, then, context):
    """What this process does until a helper has begun with another cell; then `then(its process)`."""
    wait_until(lambda: context.progress(0, 1, "") or list(folder.iterdir()))
    return {"process": os.getpid(), "found": then(int(next(folder.iterdir()).name))}


def noted(folder, run, context):
    """A measurement that tells which process makes it."""
    (folder / str(os.getpid())).touch()
    return {**run(context), "process": os.getpid(), "torch_threads": torch.get_num_threads()}


def nothing(*_):
    return {}


@pytest.fixture
def met(tmp_path):
    folder = tmp_path / "met"
    folder.mkdir()
    return folder


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2, "a run gives back the threads that it took"
    torch.set_num_threads(before)


def test_a_training_gives_the_same_figures_in_a_helper_as_here_on_one_thread(tmp_path, met, two_threads):
    recipe = replace(recipe_named("smoke"), steps=3, eval_every=2, crop=None)
    cell = train_cell(archs.config("lale-s1"), "lale-s1", tinyland(32, 32, train=900), recipe, 0, "cpu")
    here, helped = tmp_path / "here", tmp_path / "helped"
    cells = [long_cell("here", wait_for_other, met, nothing), replace(cell, run=partial(noted, met, cell.run))]
    there = run(cells, helped, threads=2)[1].record
    torch.set_num_threads(1)
    alone = run([cell], here, threads=1)[0].record
    torch.set_num_threads(2)
    assert there.result.pop("process") != os.getpid() and there.result.pop("torch_threads") == 1
    assert there.environment["threads"] == alone.environment["threads"] == 1
    assert there.result["threads"] == alone.result["threads"] == [1]
    for record in (there, alone):
        del record.result["train_seconds"]
    assert there.result == alone.result
    assert "test_confusions" in there.result


def test_a_single_training_has_all_threads(tmp_path, met, two_threads):
    (outcome,) = run([long_cell("only", noted, met, nothing)], tmp_path / "one", threads=2)
    assert outcome.record.result["process"] == os.getpid()
    assert outcome.record.result["torch_threads"] == outcome.record.environment["threads"] == 2


def stay_unless(home, folder, context):
    (folder / str(os.getpid())).touch()
    while os.getpid() != home:
        time.sleep(0.05)
    return {"process": os.getpid()}


def test_the_cell_of_a_killed_helper_is_taken_over(tmp_path, met):
    cells = [long_cell("kill", wait_for_other, met, KillOther()), long_cell("stay", stay_unless, os.getpid(), met)]
    assert [o.record.result["process"] for o in run(cells, tmp_path / "records")] == [os.getpid()] * 2


class KillOther:
    def __call__(self, process):
        os.kill(process, signal.SIGKILL)


class Interrupt:
    def __call__(self, process):
        raise KeyboardInterrupt


def marked(home, folder, context):
    """In a helper half of the work, then no end; here the rest."""
    mark = context.scratch / "checkpoint"
    if os.getpid() != home:
        mark.write_text("half")
        return stay_unless(home, folder, context)
    return {"from": mark.read_text()}


def test_ctrl_c_stops_helpers_and_their_cells_go_on_later(tmp_path, met):
    store = tmp_path / "records"
    cells = [long_cell("interrupt", wait_for_other, met, Interrupt()), long_cell("b", marked, os.getpid(), met)]
    with pytest.raises(StudyInterrupted, match="2 cells to go"):
        run(cells, store)
    (helper,) = (int(path.name) for path in met.iterdir())
    assert not is_alive(helper)
    assert run(cells[1:], store)[0].record.result == {"from": "half"}


def hungry(folder, meals, context):
    """One that finds no memory the first `meals` times."""
    mine = folder / "meals"
    mine.mkdir(exist_ok=True)
    (mine / str(len(list(mine.iterdir())))).touch()
    if len(list(mine.iterdir())) <= meals:
        raise MemoryError
    return {}


@pytest.mark.parametrize(("meals", "status"), [(1, "ok"), (9, "failed")])
def test_what_found_no_memory_beside_others_is_measured_again_alone(tmp_path, meals, status):
    cells = [long_cell("hungry", hungry, tmp_path, meals), long_cell("other", nothing)]
    hungry_one, other = run(cells, tmp_path / "records")
    assert (hungry_one.status, other.status) == (status, "ok")
    assert len(list((tmp_path / "meals").iterdir())) == 2


def told(home, folder, context):
    (folder / str(os.getpid())).touch()
    while os.getpid() != home and not (folder.parent / "seen").exists():
        context.progress(2, 7, f"said by {os.getpid()}")
        time.sleep(0.05)
    return {}


def test_one_display_shows_the_progress_of_all_processes(tmp_path, met):
    screen = io.StringIO()

    def watch(context):
        wait_until(lambda: context.progress(0, 1, "") or list(met.iterdir()))
        says = f"said by {next(met.iterdir()).name}"
        wait_until(lambda: context.progress(0, 1, "") or says in screen.getvalue())
        (tmp_path / "seen").touch()
        return {}

    cells = [long_cell("here", watch), *(long_cell(f"there {i}", told, os.getpid(), met) for i in range(2))]
    console = Console(file=screen, force_terminal=True, width=160, color_system=None)
    run_cells(cells, RecordStore(tmp_path / "records"), environment={}, console=console)
    assert "there 0" in screen.getvalue() and "2/7" in screen.getvalue()


def test_large_arrays_are_handed_over_once_and_maps_by_their_file(tmp_path):
    held = np.arange(1 << 20).astype(np.uint16).reshape(1 << 10, -1)
    np.save(tmp_path / "map.npy", held)
    mapped = np.load(tmp_path / "map.npy", mmap_mode="c")
    given = (held, mapped, mapped[1:], held.T, np.arange(3))
    with tempfile.TemporaryFile() as file:
        arrays = helpers_module._Arrays(file)
        cells = [long_cell(str(i), nothing, *given) for i in range(3)]
        sent = [arrays.pickled(cell) for cell in cells]
        assert max(map(len, sent)) < 10_000
        assert file.seek(0, os.SEEK_END) < 3.1 * held.nbytes  # one copy each of what is no map, whoever uses it
        for sendable in sent:
            found = helpers_module._unpickled(sendable, file).run.args
            for value, expected in zip(found, given, strict=True):
                np.testing.assert_array_equal(value, expected)
            assert Path(found[1].filename).name == "map.npy"


@pytest.mark.parametrize(
    ("cells", "long", "environment", "processes"),
    [
        (1, True, {}, 1),
        (2, True, {}, 2),
        (9, True, {}, 2),
        (2 * SHORT_EACH - 1, False, {}, 1),
        (2 * SHORT_EACH, False, {}, 2),
        (9, True, {"memory_gib": 1.0}, 1),
        (0, True, {}, 1),
    ],
)
def test_processes_are_as_many_as_cores_and_memory_allow_and_cells_are_worth(cells, long, environment, processes):
    assert helpers_module.most_processes(cells, long, environment) == processes


def test_the_gpu_that_is_measured_on_says_how_many_trainings_it_has_room_for(monkeypatch):
    free = {0: 80 << 30, 1: 9 << 30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free[device or 0], 80 << 30))
    monkeypatch.setattr(helpers_module, "usable_cores", lambda: 4)
    found = [helpers_module.most_processes(9, True, {"device": "cuda", "gpu_index": index}) for index in (0, 1)]
    assert found == [4, 1]
