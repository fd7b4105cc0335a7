"""`data`: make a data set of large images or of a published one, find what is wrong with one, look at it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.cli.options import (
    DEFAULT_DATA,
    OUTPUT,
    PROGRESS,
    DataOption,
    JsonOption,
    print_json,
    writable_file,
    writable_folder,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data.check import DataReport
    from bench.data.importers import Importer
    from bench.data.tiling import Tiling


STYLES = {"error": "red", "warning": "yellow"}

app = typer.Typer(no_args_is_help=True, help="Make, check and look at data sets.")


@app.command()
def tile(
    images: Annotated[Path, typer.Argument(help="Folder of large RGB images.")],
    masks: Annotated[Path, typer.Argument(help="Folder of their masks, same names.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; must not exist yet.", callback=writable_folder)],
    classes: Annotated[
        Path | None, typer.Option(help="`classes.json` of the masks' classes; default: beside the masks.")
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Side of a tile in pixels; images are cut, never resampled.")] = 256,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring tiles share.")] = 0,
    split: Annotated[str, typer.Option(help="Shares of train, val and test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    max_ignored: Annotated[float, typer.Option(help="Drop tiles of which a larger share is unlabelled.")] = 0.5,
) -> None:
    """Cut large images and masks into tiles, split by source image so that nothing leaks, with a manifest."""
    from bench.data.tiling import tile_folder

    try:
        train, val, test = (float(part) for part in split.split(","))
    except ValueError:
        raise BenchError(f"--split {split!r} is not three shares; write it as 0.8,0.1,0.1") from None
    with PROGRESS.status("cutting"):
        made = tile_folder(images, masks, out, size, overlap, (train, val, test), seed, max_ignored, classes)
    _tell(made)


def _tell(made: Tiling) -> None:
    tiles = ", ".join(f"{count} {name}" for name, count in made.tiles.items())
    sources = ", ".join(f"{count} {name}" for name, count in made.sources.items())
    OUTPUT.print(
        f"{made.folder}: tiles {tiles}; source images {sources}; {made.left_out} tiles left out as unlabelled\n"
        f"{100 * made.uncovered:.1f} % of the pixels lie in no tile; check with: lale-bench data check {made.folder}",
        markup=False,
    )


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A data set's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Report corrupt files, unknown mask values, class shares, and leakage between splits. Exit 1 if there is any."""
    from bench.data import RGB
    from bench.data.check import check_folder

    with PROGRESS.status("reading every tile"):
        report = check_folder(folder)
    if as_json:
        print_json(report.to_dict())
    else:
        OUTPUT.print(_shares(report))
        if report.bands != RGB:
            OUTPUT.print(_bands(report))
        OUTPUT.print(report.scope, markup=False, soft_wrap=True)
        for problem in report.problems:
            OUTPUT.print(
                f"{problem.severity}: {problem.text}", style=STYLES[problem.severity], markup=False, soft_wrap=True
            )
        errors = sum(problem.severity == "error" for problem in report.problems)
        OUTPUT.print(f"errors: {errors}, warnings: {len(report.problems) - errors}")
    raise typer.Exit(0 if report.ok else 1)


def _shares(report: DataReport) -> Table:
    """Tiles and class shares by split."""
    table = Table(
        title=f"{escape(report.name)}: share of labelled and ignored pixels, %", box=None, title_justify="left"
    )
    for header in report.rows[0]:
        table.add_column(escape(header), justify="left" if header == "split" else "right")
    for row in report.rows:
        shares = [f"{100 * value:.2f}" for key, value in row.items() if key not in ("split", "tiles", "one_class")]
        table.add_row(escape(row["split"]), str(row["tiles"]), shares[0], str(row["one_class"]), *shares[1:])
    return table


def _bands(report: DataReport) -> Table:
    """Mean, deviation and range of each band, in physical units."""
    table = Table(title="bands of the training tiles, stored values times scale", box=None, title_justify="left")
    for header in ("band", "mean", "deviation", "low", "high"):
        table.add_column(header, justify="left" if header == "band" else "right")
    for band in report.bands:
        span = band.high - band.low
        figures = (band.low + band.mean * span, band.deviation * span, band.low, band.high)
        table.add_row(escape(band.name), *(f"{figure * band.scale:.4g}" for figure in figures))
    return table


@app.command()
def draw(
    out: Annotated[Path, typer.Argument(help="Image file to write, as tiles.png.", callback=writable_file)],
    data: DataOption = DEFAULT_DATA,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    tiles: Annotated[int, typer.Option(min=1, help="How many, at even distances.")] = 4,
) -> None:
    """Draw some tiles of a data set beside their masks."""
    import numpy as np

    from bench.data import open_data
    from bench.report.figures.panels import draw_panels

    opened = open_data(data, splits=(split,))
    held = opened[split]
    chosen = np.linspace(0, len(held) - 1, min(tiles, len(held))).round().astype(int)
    files = draw_panels(
        opened.pictures(held.images[chosen]), held.masks[chosen], {}, opened.classes, out.with_suffix(""),
        tiles=[held.tiles[i] for i in chosen], title=f"{opened.name}, {split}",
        note=f"{opened.credit}." if opened.credit else "",
    )  # fmt: skip
    OUTPUT.print(", ".join(map(str, files)), markup=False)


KindArgument = Annotated[
    str, typer.Argument(help="As `loveda`, `potsdam` or `dubai`; an unknown kind is answered with all of them.")
]


def import_published(
    kind: KindArgument,
    source: Annotated[Path, typer.Argument(help="The folder or archive as its authors publish it.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; must not exist yet.", callback=writable_folder)],
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile in pixels; default: 256, or the authors' own tiles.")
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
    _tell(made)
    OUTPUT.print(f"Masks: {found.values}.", highlight=False)
    OUTPUT.print(f"Licence: {found.licence}", highlight=False)


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
    from bench.data.importers.archives import fetch

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
