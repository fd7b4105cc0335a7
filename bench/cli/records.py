"""`records`: find out whether records are to be believed, and carry those of an earlier version of the suite over."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import OUTPUT, PROGRESS, JsonOption, print_json

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.records.upgrade import Upgraded

app = typer.Typer(no_args_is_help=True, help="Look after records.")


@app.callback()
def records() -> None:
    """Look after records."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A folder of results, as `runs`, or one that holds several such.")],
    counts: Annotated[bool, typer.Option(help="Count registered networks again and compare.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Check records and the tables made of them, as before a pull request with results; exit status 1 if one fails.

    Keys are those of what the records say; environments are whole and name no host, user or path; scores are those of
    the confusion matrices, counts those of the counter, rates lie under the roofline; tables show the effects and
    verdicts that the records give.
    """
    from bench.errors import BenchError
    from bench.study.checking import check_folder

    with PROGRESS.status("reading records") as status:
        problems = check_folder(folder, counts, lambda done, total: status.update(f"record {done} of {total}"))
    if as_json:
        print_json({"problems": problems})
    for problem in [] if as_json else problems:
        OUTPUT.print(problem, markup=False, highlight=False, soft_wrap=True)
    if problems:
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise BenchError(f"{many} in {folder}; measure again what they name, do not edit it")
    return None if as_json else OUTPUT.print(f"{folder}: no problem found", markup=False, highlight=False)


@app.command()
def upgrade(
    folder: Annotated[Path, typer.Argument(help="A folder with records in it, as `runs`.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="A data set that trainings in the folder were made on, as a study takes it; repeatable."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="A server's database with searches whose records are in the folder: `postgresql://...`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Carry over the records of schema 1, and their keys in manifests, tables, weights and search storages.

    Manifests of studies and surveys in the formats before become those of today, so that `plot` opens their folders.
    Every file that changes is copied to `FOLDER-schema-1` first. A record is carried over where the network and the
    data are known to be the same as when it was measured; the others are kept aside, and their cells measured again.
    Searches get the names that they have today, so that they go on. No worker may be at work on them meanwhile. The
    command may be interrupted, and be run again, with more `--data` or other versions of libraries.
    """
    from bench.records.upgrade import upgrade_folder
    from bench.study.former import upgrade_manifests

    with PROGRESS.status("opening the data"):
        fingerprints = {old: new for source in data or [] for old, new in _fingerprints(source).items()}
    with PROGRESS.status("upgrading") as status:
        done = upgrade_folder(folder, fingerprints, lambda i, n: status.update(f"record {i} of {n}"))
        upgrade_manifests(done)
        _upgrade_searches(done, storage)
    if as_json:
        return print_json(
            {
                "records": done.records,
                "aside": dict(done.aside),
                "files": [str(path) for path in done.files],
                "backup": str(done.backup),
            }
        )
    OUTPUT.print(f"{done.records} records carried over; {len(done.files)} other files changed", markup=False)
    for reason, count in done.aside.items():
        OUTPUT.print(f"{count} kept aside: {reason}", markup=False, highlight=False)
    if done.backup.exists():
        OUTPUT.print(f"the files as they were: {done.backup}", markup=False, highlight=False)
    return None


def _upgrade_searches(done: Upgraded, server: str | None) -> None:
    """Today's keys and names in the storages of the folder, and on a server.

    Raises:
        BenchError: the server's database cannot be opened.
    """
    from bench.engine.distributed.storage import opening, server_url
    from bench.records.storages import storages_in
    from bench.records.upgrade import keep_copy, keep_texts, replace_keys, replace_on_server
    from bench.search.former import note_names

    for path, url in storages_in(done.folder):
        note_names(url, done, partial(lambda path, job: keep_copy(path, done), path))
    if server is not None:
        note_names(server, done, lambda job: keep_texts(done, job))
    replace_keys(done)
    if server is not None:
        with opening(server):
            replace_on_server(server_url(server), done)


def _fingerprints(source: str) -> dict[str, str]:
    """A data set's fingerprint of schema 1 and today's, for every choice of splits that may have been opened."""
    from bench.data import open_data
    from bench.data.dataset import assemble

    data = open_data(source)
    known = {}
    for count in range(1, len(data.splits) + 1):
        for splits in combinations(data.splits.values(), count):
            part = assemble(data.name, data.classes, splits, bands=data.bands)
            known[_schema_1_fingerprint(part)] = part.fingerprint
    return known


def _schema_1_fingerprint(data: DataSet) -> str:
    """The hash of a data set that trainings of schema 1 were keyed by: the colours of classes were part of it."""
    table: dict[str, Any] = {
        "ignore_index": data.classes.ignore_index,
        "classes": [
            {"index": i, "name": name, "rgb": list(colour)}
            for i, (name, colour) in enumerate(zip(data.classes.names, data.classes.colours, strict=True))
        ],
    }
    if data.classes.ignore_colours:
        table["ignore_rgb"] = [list(colour) for colour in data.classes.ignore_colours]
    content = [table, {split.name: split.digest for split in data.splits.values()}]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
