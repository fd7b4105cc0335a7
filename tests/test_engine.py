"""The engine: skips, resumes, isolates failures, shares a folder, says what it does."""

import errno
import gc
import io
import json
import threading
import time
import weakref

import pytest
from rich.console import Console

from archs.errors import ArchError
from bench.engine import Cell, CellFailed, StudyInterrupted, plan, run_cells
from bench.engine import display as display_module
from bench.engine.display import duration
from bench.errors import BenchError
from bench.records import RecordStore, record_key

ENVIRONMENT = {"cpu": "any", "torch": "any"}


class Lab:
    """A study in a folder, with a count of what was measured."""

    def __init__(self, folder):
        self.store, self.calls, self.out = RecordStore(folder), [], io.StringIO()

    def cell(self, seed, run=None, **fields):
        def measure(context):
            self.calls.append(seed)
            return run(context) if run else {"f1": seed / 10}

        return Cell("demo", f"cell {seed}", {"seed": seed}, measure, **fields)

    def run(self, cells, **options):
        return run_cells(
            cells, self.store, environment=ENVIRONMENT, console=Console(file=self.out, width=200), **options
        )


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path / "study")


def fails(error):
    def run(context):
        raise error

    return run


def test_measures_what_is_missing_and_nothing_else(lab):
    cells = [lab.cell(i) for i in range(4)]
    first = lab.run(cells[:2])
    again = lab.run(cells)
    assert lab.calls == [0, 1, 2, 3]
    assert [o.fresh for o in first] == [True, True]
    assert [o.fresh for o in again] == [False, False, True, True]
    assert [o.record.result["f1"] for o in again] == [0.0, 0.1, 0.2, 0.3]
    assert [o.cell for o in again] == cells
    record = again[0].record
    assert (record.status, record.environment, record.determinants) == ("ok", ENVIRONMENT, {"seed": 0})
    assert record.key == cells[0].key == record_key("demo", {"seed": 0})
    assert lab.store.all() == sorted((o.record for o in again), key=lambda r: r.key)


def test_equal_cells_are_measured_once(lab):
    twin = Cell("demo", "another label", {"seed": 1}, fails(AssertionError("measured twice")))
    outcomes = lab.run([lab.cell(1), twin, lab.cell(2)])
    assert lab.calls == [1, 2]
    assert outcomes[0].record == outcomes[1].record
    assert outcomes[1].cell.label == "another label"


def test_an_empty_study_is_done(lab):
    assert lab.run([]) == []
    assert plan([], lab.store) == []


# Failures


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("widths must be positive\nsecond line"), "ValueError: widths must be positive"),
        (BenchError("the split 'val' is empty: add tiles"), "the split 'val' is empty: add tiles"),
        (ArchError("unknown norm 'x': use rmsnorm"), "unknown norm 'x': use rmsnorm"),
        (BenchError("the file /mnt/tiles/a.png is corrupt"), "the file a.png is corrupt"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried 2 GiB"), "out of memory: CUDA out of memory. Tried 2 GiB"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 bytes"),
            "out of memory: DefaultCPUAllocator: can't allocate memory: tried 9 bytes",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "out of memory: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            "out of memory: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        ),
        (KeyError("norm"), "KeyError: 'norm'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_a_failing_cell_is_recorded_and_the_rest_go_on(lab, error, reason):
    outcomes = lab.run([lab.cell(0), lab.cell(1, fails(error)), lab.cell(2)])
    assert [o.status for o in outcomes] == ["ok", "failed", "ok"]
    assert outcomes[1].record.reason == reason
    assert lab.store.get(outcomes[1].cell.key) == outcomes[1].record
    assert "cell 1: FAILED" in lab.out.getvalue()


def test_a_failed_record_tells_where_without_paths(lab):
    (outcome,) = lab.run([lab.cell(0, fails(ValueError("x")))])
    tail = outcome.record.result["traceback"]
    assert tail[-1].startswith("test_engine.py:")
    assert tail[-1].endswith("in run")
    assert "/" not in json.dumps(tail)


def test_a_partial_result_is_kept(lab):
    run = fails(CellFailed("the loss was nan at step 7", {"steps": 7, "history": [0.5, float("nan")]}))
    (outcome,) = lab.run([lab.cell(0, run)])
    assert outcome.record.reason == "the loss was nan at step 7"
    assert outcome.record.result == {"steps": 7, "history": [0.5, None]}


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"x": object()}, "result.x is of type object"),
        ({"x": "/mnt/tiles/a.png"}, "result.x: an absolute path"),
        (None, "result"),
    ],
)
def test_a_result_that_cannot_be_recorded_fails_its_cell_alone(lab, result, says):
    outcomes = lab.run([lab.cell(0, lambda context: result), lab.cell(1)])
    assert [o.status for o in outcomes] == ["failed", "ok"]
    assert says in outcomes[0].record.reason


@pytest.mark.parametrize("partial", [{"x": object()}, {"x": "/mnt/tiles/a.png"}])
def test_a_partial_result_that_cannot_be_recorded_is_left_out(lab, partial):
    outcomes = lab.run([lab.cell(0, fails(CellFailed("diverged", partial))), lab.cell(1)])
    assert [o.status for o in outcomes] == ["failed", "ok"]
    assert "left out" in outcomes[0].record.result["partial_result"]


def test_failures_stay_until_they_are_retried(lab):
    verdicts = iter([ValueError("once"), None])

    def run(context):
        if error := next(verdicts):
            raise error
        return {"f1": 1.0}

    cells = [lab.cell(0, run), lab.cell(1)]
    assert [o.status for o in lab.run(cells)] == ["failed", "ok"]
    assert [(o.status, o.fresh) for o in lab.run(cells)] == [("failed", False), ("ok", False)]
    assert [(o.status, o.fresh) for o in lab.run(cells, retry_failed=True)] == [("ok", True), ("ok", False)]
    assert lab.calls == [0, 1, 0]


def test_what_fails_again_on_retry_ends_the_run(lab):
    cells = [lab.cell(0, fails(ValueError("always")))]
    lab.run(cells)
    (outcome,) = lab.run(cells, retry_failed=True)
    assert (outcome.status, outcome.fresh, lab.calls) == ("failed", True, [0, 0])


def test_a_failed_cell_lets_go_of_its_memory(lab):
    class Model:
        """Something large."""

    held = []

    def hungry(context):
        model = Model()
        model.itself = model  # only the garbage collector frees a cycle, as modules with hooks are
        held.append(weakref.ref(model))
        raise MemoryError("no room")

    def next_cell(context):
        return {"free": held[0]() is None}

    gc.disable()
    try:
        outcomes = lab.run([lab.cell(0, hungry), lab.cell(1, next_cell)])
    finally:
        gc.enable()
    assert outcomes[1].record.result == {"free": True}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        BenchError("the checkpoint could not be written"),
    ],
)
def test_a_full_disk_stops_the_run_and_blames_no_cell(lab, error):
    if isinstance(error, BenchError):
        error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(BenchError, match=r"disk is full.*start again"):
        lab.run([lab.cell(0), lab.cell(1, fails(error)), lab.cell(2)])
    assert [r.determinants["seed"] for r in lab.store.all()] == [0]
    assert [o.status for o in lab.run([lab.cell(i) for i in range(3)])] == ["ok"] * 3


def test_nothing_is_measured_if_it_could_not_be_recorded(lab):
    with pytest.raises(BenchError, match=r"environment\.host"):
        run_cells([lab.cell(0)], lab.store, environment={"host": "x"})
    with pytest.raises(BenchError, match=r"cell 9: determinants\.data"):
        lab.run([lab.cell(0), Cell("demo", "cell 9", {"data": "/mnt/tiles/x"}, lambda context: {})])
    with pytest.raises(BenchError, match=r"determinants\.x is nan"):
        lab.run([lab.cell(0), Cell("demo", "cell 9", {"x": float("nan")}, lambda context: {})])
    assert lab.calls == []


def test_a_damaged_record_stops_the_run_before_it_starts(lab):
    cells = [lab.cell(0), lab.cell(1)]
    lab.run(cells[1:])
    path = lab.store.folder / "demo" / f"{cells[1].key}.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(BenchError, match=f"{path.name}.*delete it"):
        lab.run(cells)
    assert lab.calls == [1]
    path.unlink()
    lab.run(cells)
    assert lab.calls == [1, 0, 1]


# Interrupts and scratch folders


def test_ctrl_c_stops_cleanly_and_the_cell_goes_on_from_its_scratch(lab):
    def run(context):
        mark = context.scratch / "checkpoint"
        if not mark.exists():
            mark.write_text("half")
            raise KeyboardInterrupt
        return {"from": mark.read_text()}

    cells = [lab.cell(0), lab.cell(1, run), lab.cell(2)]
    with pytest.raises(StudyInterrupted, match=r"2 cells to go.*goes on from there") as caught:
        lab.run(cells)
    assert caught.value.remaining == 2
    assert isinstance(caught.value, KeyboardInterrupt)
    assert "2 cells to go" in lab.out.getvalue()
    assert [r.determinants["seed"] for r in lab.store.all()] == [0]
    assert lab.run(cells)[1].record.result == {"from": "half"}
    assert list((lab.store.folder / ".scratch").iterdir()) == []


def test_scratch_left_by_a_kill_after_the_record_is_cleared(lab):
    cells = [lab.cell(0)]
    lab.run(cells)
    left = lab.store.scratch(cells[0].key)
    left.mkdir(parents=True)
    (left / "checkpoint").write_text("old")
    lab.run(cells)
    assert not left.exists()


# Several runs over one folder


def test_a_cell_of_another_process_is_waited_for_and_taken_over(lab):
    cells = [lab.cell(0), lab.cell(1)]
    started = threading.Event()

    def hold_until_somebody_waits():
        with lab.store.claim(cells[0].key):
            started.set()
            while "waiting" not in lab.out.getvalue():
                time.sleep(0.01)

    holder = threading.Thread(target=hold_until_somebody_waits, daemon=True)
    holder.start()
    started.wait(5)
    outcomes = lab.run(cells)
    holder.join()
    assert lab.out.getvalue().count("waiting for cells that other processes hold: 1") == 1
    assert lab.calls == [1, 0]  # the free one first, then the one whose holder ended without a record
    assert [o.fresh for o in outcomes] == [True, True]


def test_two_runs_at_once_measure_nothing_twice(lab):
    cells = [lab.cell(i, lambda context: time.sleep(0.01) or {"f1": 1.0}) for i in range(8)]
    results = []
    threads = [threading.Thread(target=lambda: results.append(lab.run(cells))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lab.calls) == list(range(8))
    assert len(results) == 3
    assert {o.status for outcomes in results for o in outcomes} == {"ok"}
    assert sum(o.fresh for outcomes in results for o in outcomes) == 8


# Plans


def test_a_plan_tells_what_is_there_and_estimates_the_rest(lab):
    cells = [lab.cell(0, cost=2.0), lab.cell(1, fails(ValueError("x"))), lab.cell(2, cost=8.0), lab.cell(2)]
    assert [p.status for p in plan(cells, lab.store)] == ["missing"] * 4
    assert [p.estimate_s for p in plan(cells, lab.store)] == [None, None, None, 0.0]
    run = [lab.cell(0, lambda context: time.sleep(0.05) or {}, cost=2.0), cells[1]]
    (ok, _) = lab.run(run)
    planned = plan(cells, lab.store)
    assert [p.status != "missing" for p in planned] == [True, True, False, False]
    assert [p.status for p in planned] == ["ok", "failed", "missing", "missing"]
    assert planned[2].estimate_s == pytest.approx(4 * ok.record.seconds)
    assert [p.estimate_s for p in planned][:2] == [0.0, 0.0]


# What people see


def test_each_cell_gets_a_line_without_a_terminal(lab):
    lab.run([lab.cell(0)])
    lab.out.truncate(0)
    lab.run([lab.cell(i) for i in range(3)])
    lines = lab.out.getvalue().strip("\x00\n").splitlines()
    assert [line.split(":")[0] for line in lines] == ["[2/3] cell 1", "[3/3] cell 2"]


def test_a_terminal_shows_bars_of_the_study_and_of_the_cell(lab):
    def run(context):
        for step in range(3):
            context.progress(step, 3, "loss [0.5]")
            time.sleep(0.15)
        return {}

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, color_system=None)
    run_cells([lab.cell(0, run), lab.cell(1, run)], lab.store, environment={}, console=console)
    seen = out.getvalue()
    assert "loss [0.5]" in seen
    assert "cell 1" in seen
    assert "1/2" in seen
    assert "left" in seen  # the time that remains, once a cell of the kind is measured


def test_a_long_cell_in_a_log_says_how_far_it_is(lab, monkeypatch):
    monkeypatch.setattr(display_module, "LOG_EVERY_S", 0.0)

    def run(context):
        time.sleep(0.01)
        context.progress(5, 9, "val 0.61")
        return {}

    lab.run([lab.cell(0, run)])
    assert "cell 0: 5/9 val 0.61" in lab.out.getvalue()


def test_durations_read_well():
    seconds = (0.04, 12, 89, 91, 5399, 5400)
    assert [duration(s) for s in seconds] == ["0.0 s", "12 s", "89 s", "2 min", "90 min", "1.5 h"]
