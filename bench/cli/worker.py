"""`worker`: help with a search or a study that another host has begun."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench.cli.options import OUTPUT, PROGRESS, DeviceOption, JsonOption, OutOption, print_json
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.search.jobs import Host

LOOK_EVERY_S = 1.0


def worker(
    storage: Annotated[str, typer.Option(help="As `postgresql://user:password@host/database`.")],
    name: Annotated[str | None, typer.Option(help="Only the search or study of this name.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the data lie here, if elsewhere than on the host that began.")
    ] = None,
    device: DeviceOption = "auto",
    out: OutOption = Path("runs"),
    patience: Annotated[float, typer.Option(help="Leave after so many seconds without work.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """Join the searches and studies of a storage, from any number of hosts, until nothing is left to do.

    Begin one by `lale-bench search --storage postgresql://...` or `lale-bench study ... --storage postgresql://...`;
    workers need nothing but the storage's URL and the same data. A worker may be killed at any time: once it has sent
    no heartbeat for the search's `--grace`, another worker continues its trial. The database may be restarted: workers
    wait for it. Results go to the host that began. `optuna-dashboard URL` shows the same storage in a browser.

    A `.journal` file serves hosts with a shared disk whose file locks hold (most NFS of version 4): the lock of a
    worker that dies is freed by the system, and its trial is continued at once.
    """
    from bench.cli.studying import find_study
    from bench.engine.distributed import is_file
    from bench.records.environment import resolve_device
    from bench.search.jobs import Host

    if storage.startswith("sqlite:"):
        raise BenchError(
            f"--storage {storage}: SQLite is for one machine; start the search's own command again beside it, or give "
            "postgresql://... (several hosts) or a .journal file on a shared disk"
        )
    if is_file(storage) and not Path(storage).exists():
        raise BenchError(f"there is no journal file {storage}: begin the search first, with the same path")
    host = Host(storage, str(resolve_device(device)), out, data, find_study)
    joined = list(_work(host, name, patience))
    if as_json:
        return print_json({"joined": joined})
    said = f"worked on {', '.join(joined)}" if joined else "the storage holds no unfinished search or study"
    return OUTPUT.print(said, highlight=False, markup=False)


def _work(host: Host, name: str | None, patience: float) -> Iterator[str]:
    """Join job after job until there was none for so long; their names."""
    from archs.errors import ArchError
    from bench.engine.distributed import open_storage, through_outages
    from bench.search.jobs import join, open_jobs

    storage = open_storage(host.storage, host.out)
    idle_since, joined, refused = time.monotonic(), 0, dict[str, Exception]()
    while time.monotonic() - idle_since < patience:
        jobs = [j for j in through_outages(partial(open_jobs, storage, name), PROGRESS.print) if j.name not in refused]
        if not jobs:
            time.sleep(LOOK_EVERY_S)
            continue
        PROGRESS.print(f"joining {escape(jobs[0].name)}", highlight=False)
        try:
            through_outages(partial(join, jobs[0], host, PROGRESS), PROGRESS.print)
        except (BenchError, ArchError) as error:
            if name is not None:
                raise
            refused[jobs[0].name] = error  # another job of the storage may be for this worker
            PROGRESS.print(f"left aside: {error}", style="yellow", markup=False, highlight=False)
            continue
        yield jobs[0].name
        idle_since, joined = time.monotonic(), joined + 1
    if refused and not joined:
        raise next(iter(refused.values()))
