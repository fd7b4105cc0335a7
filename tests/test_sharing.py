"""A study's cells shared over a storage: each is measured once, its record reaches every host."""

import json
import multiprocessing
import os
import signal
import sqlite3
import time

import optuna
import pytest
from search_formula import QUIET
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError

from bench.cli.app import run as run_command
from bench.cli.studying import find_study
from bench.engine import Cell
from bench.engine.distributed import (
    Heartbeat,
    WorkLoop,
    note,
    open_shared,
    open_storage,
    through_outages,
    without_password,
)
from bench.engine.distributed import storage as storages
from bench.engine.distributed.storage import is_locked, is_outage, server_url
from bench.errors import BenchError
from bench.records import RecordStore
from bench.study import Setting, plan_study
from bench.study.protocol import Manifest
from bench.study.run import StudyPlan
from bench.study.sharing import JOB, _Shared, pack_record, share_study, unpack_record

CELLS = 8


def plan(host, pause=0.0):
    """Cells that write down by whom they were measured."""

    def measure(number):
        def run(context):
            with (host / "measured").open("a") as file:
                file.write(f"{number}\n")
            time.sleep(pause)
            if number == 3:
                raise ValueError("this one always fails")
            return {"square": number**2}

        return run

    host.mkdir(exist_ok=True)
    cells = {f"cell {n}": Cell("demo", f"cell {n}", {"n": n}, measure(n)) for n in range(CELLS)}
    manifest = Manifest("demo", "?", "", {"device": "cpu"}, {label: cell.key for label, cell in cells.items()})
    return StudyPlan(cells, manifest, host / "demo", RecordStore(host / "records"))


def share(host, journal, pause=0.0):
    share_study(plan(host, pause), str(journal), console=QUIET)


def measured(*hosts):
    return sorted(int(line) for host in hosts if (host / "measured").exists()
                  for line in (host / "measured").read_text().splitlines())  # fmt: skip


def squares(host):
    return sorted(record.result.get("square", -1) for record in RecordStore(host / "records").all("demo"))


def test_records_of_other_hosts_arrive(tmp_path):
    one, two, journal = tmp_path / "one", tmp_path / "two", tmp_path / "shared.journal"
    share(one, journal)
    share(two, journal)
    assert measured(one) == list(range(CELLS)) and measured(two) == []
    assert squares(one) == squares(two) == [-1, 0, 1, 4, 16, 25, 36, 49]
    failed = [record for record in RecordStore(two / "records").all("demo") if record.status == "failed"]
    assert [record.reason for record in failed] == ["ValueError: this one always fails"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_killed_process_leaves_its_cell_to_the_others(tmp_path):
    doomed, other, journal = tmp_path / "doomed", tmp_path / "other", tmp_path / "shared.journal"
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=share, args=(doomed, journal, 0.4), daemon=True)
    process.start()
    deadline = time.monotonic() + 30
    while len(measured(doomed)) < 2:  # in the middle of its second cell
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    share(other, journal)
    assert set(measured(doomed, other)) == set(range(CELLS))
    assert measured(other) == list(range(1, CELLS))  # the first one's record came through the storage
    assert len(squares(other)) == CELLS


def test_a_record_survives_its_travel_or_says_so(tmp_path):
    share(tmp_path / "one", tmp_path / "shared.journal")
    record = RecordStore(tmp_path / "one" / "records").all("demo")[0]
    assert unpack_record(pack_record(record)) == record
    with pytest.raises(BenchError, match="a record in the storage is damaged"):
        unpack_record(pack_record(record)[:-7])


def test_an_outage_is_waited_for_and_a_refusal_is_not(monkeypatch):
    monkeypatch.setattr(storages, "RETRY_S", 0.001)
    away = OperationalError("SELECT 1", {}, ConnectionError("server closed the connection"))
    answers, said = [away, away, "answer"], []

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert through_outages(ask, said.append) == "answer" and said == ["the database does not answer; waiting"]
    monkeypatch.setattr(storages, "OUTAGE_S", -1.0)
    answers = [away]
    with pytest.raises(BenchError, match="the database does not answer, for"):
        through_outages(ask, said.append)
    tripped = UnboundLocalError("in the handling of it")
    tripped.__context__ = away  # as Optuna does when a trial ends during an outage
    assert is_outage(tripped) and is_outage(PendingRollbackError("Can't reconnect"))
    assert not is_outage(IntegrityError("INSERT", {}, ValueError("twice")))
    assert not is_outage(OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full")))
    assert is_locked(OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked")))


def test_a_database_that_another_program_holds_is_called_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(storages, "LOCK_WAIT_S", 0.2)
    path = tmp_path / "search.db"
    with sqlite3.connect(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BenchError, match=r"search\.db is locked by another program.*close that program"):
            storages.open_storage(f"sqlite:///{path}", tmp_path)
    other.close()


def test_a_writer_that_dies_keeps_nobody_waiting_for_the_journal(tmp_path):
    """Optuna's own lock is a file that a killed writer leaves behind."""
    storages.open_storage(str(tmp_path / "shared.journal"), tmp_path)
    fork = multiprocessing.get_context("fork")
    holding = fork.Event()

    def die_while_writing():
        storages._JournalLock(str(tmp_path / "shared.journal")).acquire()
        holding.set()
        time.sleep(60)

    process = fork.Process(target=die_while_writing, daemon=True)
    process.start()
    assert holding.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    lock = storages._JournalLock(str(tmp_path / "shared.journal"))
    assert lock._lock.acquire(timeout=5)


def test_urls_and_heartbeats():
    assert server_url("postgresql://me:secret@host/db") == "postgresql+psycopg://me:secret@host/db"
    urls = (
        "postgresql://me:secret@host/db", "postgresql://host/db?user=me&password=secret", "postgresql:/me:secret@h/db",
        "postgresql://me:secret@host:port/db",
    )  # fmt: skip
    assert not any("secret" in without_password(url) for url in urls)
    assert without_password("sqlite:////tmp/search.db") == "sqlite:////tmp/search.db"
    assert Heartbeat(120).interval_s * 4 == 120
    with pytest.raises(BenchError, match="--grace 1 is shorter than two heartbeats"):
        Heartbeat(1)


@pytest.mark.parametrize("at", ["while it works", "before it tells"])
def test_a_worker_that_was_taken_for_dead_goes_on_to_the_next_trial(tmp_path, at):
    """Another worker has decided its trial meanwhile, whose end may be noted once only."""
    opened, workers = open_shared(str(tmp_path / "shared.journal"), tmp_path, Heartbeat())
    study, said = optuna.create_study(storage=opened, study_name="taken"), []

    def objective(trial):
        if trial.number == 0:
            elsewhere = storages.open_storage(str(tmp_path / "shared.journal"), tmp_path)
            optuna.load_study(study_name="taken", storage=elsewhere).tell(0, 7.0)
            if at == "while it works":
                note(trial, said.append, record="mine")
        return float(trial.number)

    WorkLoop(study, workers, 3, objective, tell=said.append).run()
    assert [trial.value for trial in study.get_trials()] == [7.0, 1.0, 2.0]
    assert len(said) == (at == "while it works") and all("another worker has decided" in line for line in said)


OWN_STUDY = """
import pandas as pd
from bench.engine import Cell
from bench.study import Layout, Report

class Squares:
    name, question, uses = "squares", "What are the squares?", ()

    def layout(self, setting):
        return Layout({str(n): Cell("square", str(n), {"n": n}, lambda _, n=n: {"square": n * n}) for n in range(4)})

    def report(self, results):
        frame = pd.DataFrame([record.result for record in results.records.values()])
        return Report(results.folder, frame, [], "", [], [f"sum {frame['square'].sum()}"])

STUDY = Squares()
"""


def test_a_users_own_study_is_joined_by_a_worker_that_knows_the_storage_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "squares.py").write_text(OWN_STUDY)
    monkeypatch.chdir(tmp_path)
    journal = str(tmp_path / "shared.journal")
    posted = plan_study(find_study("squares.py"), Setting(out=tmp_path / "one"), "squares.py")
    _Shared(posted, journal, Heartbeat()).post({"data": "world", "grace_s": 9})
    worker = ["worker", "--storage", journal, "--out", str(tmp_path / "two"), "--patience", "0.1", "--json"]
    assert run_command(worker) == 0
    assert len(json.loads(capsys.readouterr().out)["joined"]) == 1
    assert len(RecordStore(tmp_path / "two" / "records").all("square")) == 4
    begun = ["study", "squares.py", "--storage", journal, "--out", str(tmp_path / "one"), "--json"]
    assert run_command(begun) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == ["sum 14"]


def test_a_job_that_cannot_be_joined_is_left_aside(tmp_path, monkeypatch, capsys):
    (tmp_path / "squares.py").write_text(OWN_STUDY)
    monkeypatch.chdir(tmp_path)
    journal = str(tmp_path / "shared.journal")
    of_before = optuna.create_study(study_name="old", storage=open_storage(journal, tmp_path))
    of_before.set_user_attr(JOB, {"kind": "study", "version": -1, "trials": 3})
    worker = ["worker", "--storage", journal, "--out", str(tmp_path / "two"), "--patience", "0.1", "--json"]
    assert run_command(worker) == 1
    assert "old was posted by another version of lale-bench" in capsys.readouterr().err
    posted = plan_study(find_study("squares.py"), Setting(out=tmp_path / "one"), "squares.py")
    _Shared(posted, journal, Heartbeat()).post({"data": "world", "grace_s": 9})
    assert run_command(worker) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["joined"]) == 1 and "left aside: old was posted by another version" in said.err


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("sqlite:///search.db", "SQLite is for one machine"),
        ("nowhere.journal", "there is no journal file nowhere.journal"),
        ("postgresql://me:secret@127.0.0.1:1/db", "cannot be opened"),
    ],
)
def test_a_worker_refuses_in_one_sentence(storage, sentence, capsys):
    assert run_command(["worker", "--storage", storage, "--patience", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert sentence in said and "secret" not in said
