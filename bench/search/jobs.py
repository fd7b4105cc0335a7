"""What waits in a storage for workers, written so that another host can join by the storage's URL alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch
from rich.console import Console

import archs
from bench.data import open_data
from bench.engine.distributed import Heartbeat, missing, quiet
from bench.engine.helpers import end_with, start_interpreter
from bench.errors import BenchError
from bench.records import RecordStore
from bench.search.budget import Budget
from bench.search.evaluate import TrainingEvaluator
from bench.search.study import SearchPlan, run_search, search_name
from bench.speed.protocol import SpeedProtocol
from bench.study.protocol import RECORDS
from bench.study.run import Find, plan_from_manifest
from bench.study.sharing import JOB, VERSION, share_study, shared_name
from bench.training.recipe import Recipe

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from bench.search.run import SearchSetting


@dataclass(frozen=True)
class Job:
    """A search or a study in a storage, and how much of it is left."""

    name: str
    document: Mapping[str, Any]
    left: int


@dataclass(frozen=True)
class Host:
    """What a worker decides for itself.

    Attributes:
        storage: where the jobs wait.
        device: "cpu" or "cuda".
        out: folder of its records.
        data: where the data lie here, if not where they lay for who posted the job; they must be the same data.
        find: how a study with code of its own is found by its name; without it only declared studies are joined.
    """

    storage: str
    device: str = "cpu"
    out: Path = Path("runs")
    data: str | None = None
    find: Find | None = None


def search_job(plan: SearchPlan, setting: SearchSetting, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """A search as JSON; None if it has a space of its own, which only the program that made it can join.

    `asked`: the determinants of the evaluator that began the search.
    """
    if plan.space is not None:
        return None
    given = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name not in ("space", "trials")}
    return {
        "kind": "search",
        "version": VERSION,
        "plan": {**given, "base": archs.to_dict(plan.base), "budget": asdict(plan.budget)},
        "data": setting.data,
        "recipe": setting.recipe.to_dict(),
        "size": list(setting.size),
        "grace_s": setting.heartbeat.grace_s,
        "asked": dict(asked),
    }


def open_jobs(storage: BaseStorage, name: str | None = None) -> list[Job]:
    """The searches and studies of a storage that are not finished, the oldest first; only the one of a name."""
    with quiet():
        found = []
        for summary in optuna.get_all_study_summaries(storage):
            document = summary.user_attrs.get(JOB)
            if document is not None and name in (None, summary.study_name):
                study = optuna.load_study(study_name=summary.study_name, storage=storage)
                left = missing(study.get_trials(deepcopy=False), document["trials"])
                found.append(Job(summary.study_name, document, left))
    return [job for job in found if job.left > 0]


def join(job: Job, host: Host, console: Console | None = None) -> None:
    """Work on a job until it is finished.

    Raises:
        BenchError: it was posted by another version, this host has other data, or another device where that matters.
    """
    if job.document.get("version") != VERSION:
        raise BenchError(f"{job.name} was posted by another version of lale-bench: install the same one here")
    (_join_search if job.document["kind"] == "search" else _join_study)(job, host, console)


def _join_search(job: Job, host: Host, console: Console | None) -> None:
    document = job.document
    plan = plan_of(document["plan"], document["trials"])
    asked = document["asked"]
    data = open_data(host.data or document["data"], splits=("train", "val"))
    recipe = Recipe.from_dict(document["recipe"])
    height, width = document["size"]
    protocol = SpeedProtocol(**{name: asked[name] for name in ("form", "runtime", "precision") if name in asked})
    store = RecordStore(host.out / RECORDS)
    evaluator = TrainingEvaluator(data, recipe, store, host.device, (height, width), protocol)
    _check_same(job.name, plan, evaluator.determinants, asked)
    if search_name(plan, evaluator, asked) != job.name:
        raise BenchError(
            f"{job.name} begins with other networks than it would here: another latency keeps others within the limit, "
            "or plug-ins register others; give the same --plugin, and join from hosts of that speed"
        )
    heartbeat = Heartbeat(document["grace_s"])
    run_search(plan, evaluator, host.out, storage=host.storage, console=console, heartbeat=heartbeat, asked=asked)


def plan_of(given: Mapping[str, Any], trials: int) -> SearchPlan:
    """The plan in a job."""
    found: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    base, budget = archs.from_dict(given["base"]), Budget(**given["budget"])
    return SearchPlan(**{**found, "base": base, "budget": budget, "trials": trials})


def _check_same(name: str, plan: SearchPlan, mine: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """F1 of another device differs in its last bits only; milliseconds of another device are another quantity."""
    if mine["data"] != asked["data"]:
        raise BenchError(f"the data here are not those of {name}: give the same folder or source by --data")
    if plan.is_timed and mine["device"] != asked["device"]:
        raise BenchError(
            f"{name} measures latency on {asked['device']}, and this is {mine['device']}: join from hosts of that kind"
        )


def _join_study(job: Job, host: Host, console: Console | None) -> None:
    document = job.document
    plan = plan_from_manifest(document["manifest"], host.data or document["data"], host.device, host.out, host.find)
    if shared_name(plan) != job.name:
        raise BenchError(
            f"{job.name} consists of other measurements than it would here: the data, the device's kind or the "
            "version of torch differ from those of the host that posted it; join from a host like that"
        )
    share_study(plan, host.storage, console=console, heartbeat=Heartbeat(document["grace_s"]))


@contextlib.contextmanager
def helpers(number: int, document: Mapping[str, Any] | None, host: Host) -> Iterator[None]:
    """While the block runs, so many processes of one thread work on the search beside this one, which has one as well.

    Args:
        number: of helpers; with none this process keeps its threads.
        document: the search, as `search_job` makes it, with its `name` and `trials`; without one there are no helpers.
        host: where its storage, records and data lie on this machine.
    """
    if not number or document is None:
        yield
        return
    given = {"document": document, "storage": host.storage, "device": host.device, "out": str(host.out.absolute())}
    threads, started = torch.get_num_threads(), []
    try:
        torch.set_num_threads(1)
        for _ in range(number):
            process = start_interpreter(START, stdout=subprocess.DEVNULL)
            started.append(process)
            assert process.stdin
            process.stdin.write(json.dumps(given).encode() + b"\n")
            process.stdin.flush()
        yield
    finally:
        torch.set_num_threads(threads)
        for process in started:
            process.kill()
            process.communicate()


START = "from bench.search.jobs import help_out; help_out()"


def help_out() -> None:
    """What a helper does: its search comes by standard input, with whose other end it ends."""
    given = json.loads(sys.stdin.buffer.readline())
    end_with(sys.stdin.buffer)
    torch.set_num_threads(1)
    host = Host(given["storage"], given["device"], Path(given["out"]))
    _join_search(Job(given["document"]["name"], given["document"], 0), host, Console(quiet=True))
    os._exit(0)  # the thread that waits for the pipe would keep the interpreter
