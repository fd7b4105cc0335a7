"""`data import` and `data get`: published data sets to tile folders, and their archives from where they are offered."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.cli.options import OUTPUT, PROGRESS, writable_folder
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data.importers import Importer

KindArgument = Annotated[
    str, typer.Argument(help="As `loveda`, `potsdam` or `dubai`; an unknown kind is answered with all of them.")
]


def import_published(
    kind: KindArgument,
    source: Annotated[Path, typer.Argument(help="The folder or archive as its authors publish it.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; must not exist yet.", callback=writable_folder)],
    size: Annotated[
        int | None, typer.Option(help="Side of a tile in pixels; default: 256, or the authors' own tiles.")
    ] = None,
) -> None:
    """Make a tile folder of a published data set, with its scenes, credit line and licence."""
    from bench.data.importers import import_data

    found = _importer(kind)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PROGRESS) as progress:
        task = progress.add_task(found.kind, total=None)
        made = import_data(
            found, source, out, size=size,
            progress=lambda done, total, what: progress.update(task, completed=done, total=total, description=what),
        )  # fmt: skip
    tiles = ", ".join(f"{count} {name}" for name, count in made.tiles.items())
    sources = ", ".join(f"{count} {name}" for name, count in made.sources.items())
    OUTPUT.print(f"{out}: {found.title}; tiles {tiles}; of images {sources}", highlight=False)
    OUTPUT.print(
        f"{made.left_out} tiles left out as unlabelled; {100 * made.uncovered:.1f} % of the pixels lie in no tile"
    )
    OUTPUT.print(f"Masks: {found.values}.", highlight=False)
    OUTPUT.print(f"Licence: {found.licence}", highlight=False)
    OUTPUT.print(f"[dim]look it over with: lale-bench data check {out}[/]")


def get(
    kind: KindArgument,
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of the archives; what is there already is not fetched.", callback=writable_folder),
    ],
    mirror: Annotated[
        str | None, typer.Option(help="An address that holds the same files, instead of the authors'.")
    ] = None,
) -> None:
    """Fetch a data set's archives from its authors; stopped, the same command goes on. Checksums must fit."""
    from bench.data.importers.download import fetch

    found = _importer(kind)
    if not found.downloads:
        raise BenchError(f"The authors of {found.title} offer no plain download; get it from them by hand.")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    OUTPUT.print(f"Licence: {found.licence}", highlight=False)
    with Progress(*columns, console=PROGRESS) as progress:
        for download in found.downloads:
            name = download.url.rpartition("/")[2]
            task = progress.add_task(name, total=None)
            fetch(
                replace(download, url=f"{mirror.rstrip('/')}/{name}") if mirror else download,
                folder,
                partial(_advance, progress, task),
            )
    OUTPUT.print(f"[dim]make tiles of it with: lale-bench data import {found.kind} {folder} OUT[/]")


def _importer(kind: str) -> Importer:
    from bench.data.importers import IMPORTERS

    if kind not in IMPORTERS:
        raise BenchError(f"There is no importer {kind!r}; there are {', '.join(IMPORTERS)}.")
    return IMPORTERS[kind]


def _advance(progress: Any, task: Any, done: int, total: int | None) -> None:
    progress.update(task, completed=done, total=total)
