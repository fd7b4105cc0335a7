"""What the suite itself costs: the engine by the cell, the records, the search by the trial."""

import itertools

import pytest
from search_formula import QUIET, S1, FormulaEvaluator

import archs
from bench.counting.cells import static_cell
from bench.engine import Cell, run_cells
from bench.records import RecordStore
from bench.search import Budget, SearchPlan, run_search
from bench.search.samplers import SAMPLERS

CELLS, TRIALS = 50, 16


def cells(first=0):
    return [Cell("demo", str(n), {"n": n}, lambda _: {"f1": 0.5}) for n in range(first, first + CELLS)]


def test_engine_fifty_fresh_cells(benchmark, tmp_path):
    folders = (RecordStore(tmp_path / str(n)) for n in itertools.count())
    benchmark.pedantic(lambda: run_cells(cells(), next(folders), environment={}, console=QUIET), rounds=5)


def test_engine_fifty_recorded_cells(benchmark, tmp_path):
    store = RecordStore(tmp_path)
    run_cells(cells(), store, environment={}, console=QUIET)
    benchmark.pedantic(lambda: run_cells(cells(), store, environment={}, console=QUIET), rounds=5)


def test_static_figures_of_the_registry(benchmark, tmp_path):
    """Every architecture by every counter, from cold, on all cores."""
    entries = [archs.entry(name) for name in archs.names()]
    counts = [static_cell(e.config, e.name, e.inputs.fixed or (256, 256), num_classes=7) for e in entries]
    store, options = RecordStore(tmp_path), {"environment": {}, "console": QUIET}
    outcomes = benchmark.pedantic(run_cells, args=(counts, store), kwargs=options, rounds=1)
    assert [outcome.cell.label for outcome in outcomes if outcome.status == "failed"] == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_search_of_sixteen_trials(benchmark, tmp_path, sampler):
    """Trials that train nothing: all of it is overhead. Divide by sixteen."""
    plan = SearchPlan(S1, ("widths", "depths"), budget=Budget(max_gmacs=0.03), trials=TRIALS, sampler=sampler)
    folders = (tmp_path / str(n) for n in itertools.count())

    def search():
        folder = next(folders)
        folder.mkdir()
        run_search(plan, FormulaEvaluator(folder), folder, storage=str(folder / "search.journal"), console=QUIET)

    benchmark.pedantic(search, rounds=2)
