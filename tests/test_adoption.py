"""A study that goes on on another machine: its trainings are taken over, and nothing else is."""

import pytest

from bench.engine import Cell
from bench.records import Record, RecordStore
from bench.study.adoption import adopted, adoption_note

HERE = {"device": "here", "versions": {"torch": "2.15.0"}}
THERE = {"device": "there", "versions": {"torch": "2.14.1"}}


def cell(kind="train", seed=0, where=HERE, **changed):
    return Cell(kind, f"{kind}, seed {seed}", {"seed": seed, "recipe": {"steps": 3}, **where, **changed}, lambda _: {})


@pytest.fixture
def store(tmp_path):
    return RecordStore(tmp_path)


def put(store, cell, status="ok"):
    reason = {"reason": "it broke"} if status == "failed" else {}
    store.put(Record.of(cell.kind, cell.determinants, {}, environment={}, seconds=1.0, status=status, **reason))


def keys(cells, store, earlier=None):
    found = adopted({one.label: one for one in cells}, store, earlier or {})
    assert list(found) == [one.label for one in cells]
    return [one.key for one in found.values()]


def test_a_training_of_another_machine_and_torch_is_taken(store):
    theirs, missing = cell(where=THERE), cell(seed=1)
    put(store, theirs)
    assert keys([cell(), missing], store) == [theirs.key, missing.key]


def test_one_of_this_machine_is_preferred_and_what_was_reported_before_stays(store):
    ours, theirs = cell(), cell(where=THERE)
    put(store, theirs)
    put(store, ours)
    assert keys([ours], store) == [ours.key]
    assert keys([ours], store, {ours.label: theirs.key}) == [theirs.key]


def test_what_was_reported_under_another_recipe_is_not_kept(store):
    ours, former = cell(), cell(recipe={"steps": 5}, where=THERE)
    put(store, former)
    assert keys([ours], store, {ours.label: former.key}) == [ours.key]


@pytest.mark.parametrize("changed", [{"recipe": {"steps": 4}}, {"data": "other"}, {"fold": {"number": 1}}])
def test_another_recipe_or_other_data_are_another_training(store, changed):
    put(store, cell(where=THERE, **changed))
    assert keys([cell()], store) == [cell().key]


def test_times_and_failed_trainings_are_not_taken(store):
    put(store, cell("speed", where=THERE))
    put(store, cell(where=THERE), status="failed")
    assert keys([cell("speed"), cell()], store) == [cell("speed").key, cell().key]


def test_the_note_names_the_machines(store):
    cells = [cell(seed=seed) for seed in range(3)]
    for seed in range(2):
        put(store, cell(seed=seed, where=THERE))
    planned = list(adopted({one.label: one for one in cells}, store, {}).values())
    assert "2 of there, torch 2.14.1" in adoption_note(cells, planned)
    assert adoption_note(cells, cells) == ""
