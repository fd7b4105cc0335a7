"""Records of schema 1 carried over: nothing lost, nothing believed that is not known, twice without harm."""

import json
import sqlite3
from contextlib import closing, contextmanager

import optuna
import pytest
from postgres import Server

import archs
from bench.cli.app import run
from bench.engine.distributed import open_storage, quiet
from bench.errors import BenchError
from bench.records import Record, RecordStore, record_key
from bench.records import upgrade as upgrade_module
from bench.records.canonical import canonical_json
from bench.records.identity import versions
from bench.records.upgrade import upgrade_folder
from bench.training.cells import train_cell
from bench.training.recipe import recipe_named

FINGERPRINTS = {"0" * 32: "f" * 32}
ENVIRONMENT = {"packages": versions("torch", "timm", "segmentation-models-pytorch")}


def old_key(kind, determinants):
    import hashlib

    whole = {"kind": kind, "schema": 1, "determinants": determinants}
    return hashlib.sha256(canonical_json(whole).encode()).hexdigest()[:32]


def write_old(folder, kind, determinants, result=None, environment=ENVIRONMENT):
    """A record file as schema 1 had it; its key."""
    key = old_key(kind, determinants)
    record = {
        "key": key,
        "kind": kind,
        "status": "ok",
        "determinants": determinants,
        "result": result or {"f1": 0.5},
        "environment": environment,
        "seconds": 1.5,
        "schema": 1,
        "reason": "",
        "cost": 2.0,
    }
    path = folder / "records" / kind / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return key


def training(seed=0, config=None, data="0" * 32):
    return {
        "config": config or archs.to_dict(archs.config("lale-s1")),
        "data": {"name": "mine", "fingerprint": data, "tile_size": [64, 64]},
        "num_classes": 7,
        "recipe": recipe_named("quick").to_dict(),
        "seed": seed,
        "test": True,
        "device": "a processor",
        "versions": {"torch": "2.15.0"},
    }


@pytest.fixture
def folder(tmp_path):
    """A folder of schema 1: two trainings, a manifest, weights, a table, search storages of both kinds."""
    folder = tmp_path / "runs"
    keys = [write_old(folder, "train", training(seed)) for seed in (0, 1)]
    (folder / "mine").mkdir()
    (folder / "mine" / "study.json").write_text(json.dumps({"cells": {"a": keys[0], "b": keys[1]}, "data": "0" * 32}))
    (folder / "weights").mkdir()
    (folder / "weights" / f"{keys[0]}.safetensors").write_bytes(b"weights")
    for storage in (f"sqlite:///{folder}/search.db", _journal(folder / "search.journal")):
        study = optuna.create_study(study_name="lale-1", storage=storage)
        trial = study.ask()
        trial.set_user_attr("record", keys[0])
        trial.set_user_attr("note", f"not {'1' * 32}")
        study.tell(trial, 0.5)
    return folder


def _journal(path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def new_keys(folder):
    return {record.determinants["seed"]: record.key for record in RecordStore(folder / "records").all("train")}


def test_everything_that_names_a_record_follows_it(folder):
    before = contents(folder)
    done = upgrade_folder(folder, FINGERPRINTS)
    assert (done.records, dict(done.aside)) == (2, {})
    store = RecordStore(folder / "records")
    store.refuse_outdated()
    keys = new_keys(folder)
    assert json.loads((folder / "mine" / "study.json").read_text()) == {
        "cells": {"a": keys[0], "b": keys[1]},
        "data": "f" * 32,
    }
    assert (folder / "weights" / f"{keys[0]}.safetensors").read_bytes() == b"weights"
    for storage in (f"sqlite:///{folder}/search.db", _journal(folder / "search.journal")):
        (trial,) = optuna.load_study(study_name="lale-1", storage=storage).trials
        assert trial.user_attrs == {"record": keys[0], "note": f"not {'1' * 32}"}
        assert trial.value == 0.5
    record = store.get(keys[1])
    assert (record.result, record.seconds, record.cost) == ({"f1": 0.5}, 1.5, 2.0)
    assert record.about["data"] == "mine"
    backup = contents(done.backup)
    assert backup.items() <= before.items()
    changed = {path for path, content in before.items() if contents(folder).get(path) != content}
    assert changed - backup.keys() <= {next(path for path in before if path.suffix == ".safetensors")}  # moved whole


def test_a_second_time_changes_nothing(folder):
    upgrade_folder(folder, FINGERPRINTS)
    before = contents(folder)
    done = upgrade_folder(folder, FINGERPRINTS)
    assert (done.records, done.files) == (0, [])
    assert contents(folder) == before


@pytest.mark.parametrize("writes", range(1, 8))
def test_cut_short_anywhere_and_run_again_it_ends_the_same(folder, tmp_path, monkeypatch, writes):
    class Killed(Exception):
        pass

    whole, count = upgrade_module.write_atomically, iter(range(100))

    def dying(path, content, *args):
        if next(count) == writes:
            raise Killed
        return whole(path, content, *args)

    monkeypatch.setattr(upgrade_module, "write_atomically", dying)
    with pytest.raises(Killed):
        upgrade_folder(folder, FINGERPRINTS)
    monkeypatch.undo()
    upgrade_folder(folder, FINGERPRINTS)
    RecordStore(folder / "records").refuse_outdated()
    keys = new_keys(folder)
    assert json.loads((folder / "mine" / "study.json").read_text())["cells"] == {"a": keys[0], "b": keys[1]}


def test_an_upgraded_record_answers_todays_cell(tmp_path, monkeypatch):
    from bench.data import open_data

    data = open_data("terrain:size=32,train=4,val=2,test=2")
    monkeypatch.setattr("bench.records.environment.device_kind", lambda device: "a processor")
    old = training() | {"versions": versions("torch")}
    old["data"] |= {"tile_size": [32, 32]}
    write_old(tmp_path / "runs", "train", old)
    upgrade_folder(tmp_path / "runs", {"0" * 32: data.fingerprint})
    cell = train_cell(archs.config("lale-s1"), "any", data, recipe_named("quick"), 0, "cpu")
    assert cell.key in RecordStore(tmp_path / "runs" / "records")


@pytest.mark.parametrize(
    ("changes", "environment", "reason"),
    [
        ({"data": "1" * 32}, ENVIRONMENT, "the data set mine, whose new fingerprint is not known: give it by --data"),
        ({"config": {"family": "somebody-elses"}}, ENVIRONMENT, "its config is not known here"),
        (
            {"config": archs.to_dict(archs.config("smp/unet-resnet18"))},
            {"packages": {"timm": "0.1", "segmentation-models-pytorch": "0.1"}},
            "and .* is installed: install that one",
        ),
    ],
)
def test_what_is_not_known_to_be_the_same_is_kept_aside(tmp_path, changes, environment, reason):
    folder = tmp_path / "runs"
    key = write_old(folder, "train", training(**changes), environment=environment)
    whole = (folder / "records" / "train" / f"{key}.json").read_bytes()
    done = upgrade_folder(folder, FINGERPRINTS)
    assert done.records == 0
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(*done.aside)
    assert (folder / "records" / upgrade_module.ASIDE / "train" / f"{key}.json").read_bytes() == whole
    store = RecordStore(folder / "records")
    store.refuse_outdated()
    assert store.all() == []


def test_what_was_kept_aside_is_carried_over_once_it_is_known(tmp_path):
    folder = tmp_path / "runs"
    write_old(folder, "train", training(data="1" * 32))
    assert upgrade_folder(folder, {}).records == 0
    assert upgrade_folder(folder, {"1" * 32: "2" * 32}).records == 1
    assert len(RecordStore(folder / "records").all()) == 1


def test_another_revision_is_not_vouched_for(tmp_path, monkeypatch):
    write_old(tmp_path / "runs", "train", training())
    monkeypatch.setattr(type(archs.config("lale-s1")), "revision", 2, raising=False)
    done = upgrade_folder(tmp_path / "runs", FINGERPRINTS)
    assert list(done.aside) == ["lale has another revision than the one that was measured"]


def test_the_folder_is_refused_with_the_command_that_mends_it(folder, capsys):
    store = RecordStore(folder / "records")
    with pytest.raises(BenchError, match=f"holds 2 records of another schema .* records upgrade {folder}"):
        store.refuse_outdated()
    assert run(["records", "upgrade", str(folder), "--data", "terrain:size=32,train=4,val=2,test=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 0  # trained on other data: kept aside, not lost
    RecordStore(folder / "records").refuse_outdated()


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert run(["records", "upgrade", str(tmp_path / "none")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_half_a_line_of_a_journal_and_other_databases_are_left_alone(tmp_path):
    key = write_old(tmp_path / "runs", "train", training())
    half = '{"op_code": 8, "user_attr": {"record": "'
    (tmp_path / "runs" / "a.journal").write_text(json.dumps({"op_code": 8, "user_attr": {"r": key}}) + "\n" + half)
    with closing(sqlite3.connect(tmp_path / "runs" / "other.db")) as database, database:
        database.execute("create table notes (text)")
    upgrade_folder(tmp_path / "runs", FINGERPRINTS)
    new = new_keys(tmp_path / "runs")[0]
    first, rest = (tmp_path / "runs" / "a.journal").read_text().split("\n")
    assert json.loads(first)["user_attr"] == {"r": new}
    assert rest == half


def test_record_keys_are_those_of_their_determinants(folder):
    upgrade_folder(folder, FINGERPRINTS)
    for record in RecordStore(folder / "records").all():
        assert record.key == record_key(record.kind, record.determinants)
        assert isinstance(record, Record)


DATA = "terrain:size=32,train=4,val=2,test=2"


@pytest.fixture(params=["search.db", "search.journal", "server"])
def storage(request, folder):
    """The URL of a storage in the folder, or on a server."""
    if request.param != "server":
        (folder / request.param).unlink()
        return str(folder / request.param) if "journal" in request.param else f"sqlite:///{folder / request.param}"
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed: pip install '.[postgres]'")
    server = Server()
    request.addfinalizer(server.remove)
    return server.url


@contextmanager
def opened(storage, folder):
    with quiet():
        found = open_storage(storage, folder)
        yield found
        found.remove_session()
        if isinstance(found, optuna.storages.RDBStorage):
            found.engine.dispose()


def begun(folder, storage, budget):
    """A search as schema 1 began and kept it: its name today, its name then, its job today."""
    from dataclasses import replace

    from bench.data import open_data
    from bench.search import SearchPlan
    from bench.search.jobs import search_job
    from bench.search.run import SearchSetting
    from bench.search.study import search_name

    plan = SearchPlan(archs.config("lale-s1"), ("widths", "depths"), budget=budget, sampler="random", trials=3)
    setting = SearchSetting(DATA, replace(recipe_named("quick"), steps=70), (1,), (32, 32), out=folder)
    evaluator = setting.evaluator(open_data(DATA, splits=("train", "val")))
    asked = dict(evaluator.determinants) | {"data": "0" * 32, "recipe": setting.recipe.to_dict()}
    timed = budget.max_latency_ms is not None
    today, then = ["lale-" + "2" * 12] * 2 if timed else [search_name(plan, evaluator, one) for one in (None, asked)]
    with opened(storage, folder) as kept:
        study = optuna.create_study(study_name=then, storage=kept)
        study.set_user_attr("job", {**search_job(plan, setting, asked), "trials": 3})
        record = next((folder / "records" / "train").iterdir()).stem
        study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"record": record}))
    return today, then, {**search_job(plan, setting, evaluator.determinants), "trials": 3}, evaluator.determinants


def test_a_search_goes_on_under_the_name_that_it_has_today(folder, storage, capsys):
    from bench.search import Budget

    today, then, job, determinants = begun(folder, storage, Budget(max_gmacs=0.006))
    _, timed, *_ = begun(folder, storage, Budget(max_gmacs=0.006, max_latency_ms=1e9))
    (folder / "search").mkdir()
    (folder / "search" / "search.json").write_text(json.dumps({"search": then}))
    assert today != then
    command = ["records", "upgrade", str(folder), "--data", DATA]
    command += ["--storage", storage] if storage.startswith("postgresql") else []
    fingerprints = {"0" * 32: determinants["data"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.cli.records._fingerprints", lambda source: fingerprints)
        assert run(command) == 0
        first = capsys.readouterr().out
        with opened(storage, folder) as kept:
            study = optuna.load_study(study_name=today, storage=kept)
            assert study.user_attrs["job"] == json.loads(json.dumps(job))
            assert study.trials[0].user_attrs["record"] in set(new_keys(folder).values())
            names = {summary.study_name for summary in optuna.get_all_study_summaries(kept)}
            assert {today, timed} <= names and then not in names
        assert json.loads((folder / "search" / "search.json").read_text()) == {"search": today}
        assert f"the search {timed} keeps its name: it limits latency" in first
        assert run(command) == 0
        assert "0 records carried over; 0 other files changed" in capsys.readouterr().out
    if storage.startswith("postgresql"):
        kept = json.loads((folder.with_name("runs-schema-1") / "server.json").read_text())
        assert then in kept.values() and kept[then]["asked"]["data"] == "0" * 32


def test_a_search_that_was_begun_again_since_keeps_both(folder, capsys):
    from bench.search import Budget

    storage = str(folder / "search.journal")
    today, then, _, determinants = begun(folder, storage, Budget(max_gmacs=0.006))
    with opened(storage, folder) as kept:
        optuna.create_study(study_name=today, storage=kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.cli.records._fingerprints", lambda source: {"0" * 32: determinants["data"]})
        assert run(["records", "upgrade", str(folder), "--data", DATA]) == 0
    with opened(storage, folder) as kept:
        assert {today, then} <= {one.study_name for one in optuna.get_all_study_summaries(kept)}
    assert f"there is a search {today} already" in capsys.readouterr().out.replace("\n", " ")
