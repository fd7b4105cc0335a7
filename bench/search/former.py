"""Searches of a former schema, found again by today's: the name of a search is a hash of what it is.

Data and recipe stand in that hash as records name them, so a search that was begun under another schema would begin
anew. Here its name is made again from the job that it keeps in its storage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna

from bench.data import open_data
from bench.engine.distributed import open_storage, quiet
from bench.errors import BenchError
from bench.records import RecordStore
from bench.records.identity import changed_fields
from bench.records.upgrade import Upgraded
from bench.search.evaluate import TrainingEvaluator
from bench.search.jobs import plan_of
from bench.search.study import search_name
from bench.study.sharing import JOB
from bench.training.recipe import Recipe


def note_names(url: str, done: Upgraded, keep: Callable[[Mapping[str, Any]], None]) -> None:
    """Add to `done.new` what the searches of a storage are called today, and write their jobs in today's form.

    A search that cannot be named (its data are not here, or it limits latency, which would have to be measured) keeps
    its old name and is added to `done.aside`.

    Args:
        url: see `bench.engine.distributed.open_storage`.
        done: what `bench.records.upgrade.upgrade_folder` made of the folder.
        keep: told of a job, by its search's name, before it is changed.

    Raises:
        BenchError: the storage cannot be opened.
    """
    with quiet():
        storage = open_storage(url, done.folder)
        found = optuna.get_all_study_summaries(storage)
        names = {summary.study_name for summary in found}
        for summary in found:
            old, job = summary.study_name, summary.user_attrs.get(JOB, {})
            if job.get("kind") != "search":
                continue
            try:
                new, today = _todays(job, done)
                if new != old and new in names:
                    raise BenchError(f"there is a search {new} already, begun since: both stay")
            except BenchError as reason:
                done.aside[f"the search {old} keeps its name: {reason}"] += 1
                continue
            if today != job:
                keep({old: job})
                optuna.load_study(study_name=old, storage=storage).set_user_attr(JOB, today)
            if new != old:
                names.add(new)
                done.new[old.rpartition("-")[2]] = new.rpartition("-")[2]
        storage.remove_session()
        if isinstance(storage, optuna.storages.RDBStorage):
            storage.engine.dispose()  # a command that goes on to change names must not be waited for


def _todays(job: Mapping[str, Any], done: Upgraded) -> tuple[str, dict[str, Any]]:
    """The name of a search and its job, as `lale-bench search` would make them now."""
    plan, asked = plan_of(job["plan"], job["trials"]), dict(job["asked"])
    if plan.budget.max_latency_ms is not None:
        raise BenchError("it limits latency, which would have to be measured")
    data = open_data(job["data"], splits=("train", "val"))
    asked["data"] = done.new.get(asked["data"], asked["data"])
    if data.fingerprint != asked["data"]:
        raise BenchError(f"the data at {job['data']} are not those it was begun on, or name them by --data")
    asked["recipe"] = changed_fields(Recipe.from_dict(asked["recipe"]))
    height, width = job["size"]
    evaluator = TrainingEvaluator(
        data, Recipe.from_dict(job["recipe"]), RecordStore(done.folder / "records"), size=(height, width)
    )
    return search_name(plan, evaluator, asked), {**job, "asked": asked}
