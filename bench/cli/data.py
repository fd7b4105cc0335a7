"""`data tile` and `data check`: make a data set of large images; find what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.cli.options import OUTPUT, PROGRESS, JsonOption, print_json
from bench.errors import BenchError

app = typer.Typer(no_args_is_help=True, help="Make, check and look at data sets.")


@app.command()
def tile(
    images: Annotated[Path, typer.Argument(help="Folder of large RGB images.")],
    masks: Annotated[Path, typer.Argument(help="Folder of their masks, same names.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; must not exist yet.")],
    classes: Annotated[
        Path | None, typer.Option(help="`classes.json` of the masks' classes; default: beside the masks.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels; images are cut, never resampled.")] = 256,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring tiles share.")] = 0,
    split: Annotated[str, typer.Option(help="Shares of train, val and test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    max_ignored: Annotated[float, typer.Option(help="Drop tiles of which a larger share is unlabelled.")] = 0.5,
) -> None:
    """Cut large images and masks into tiles, split by source image so that nothing leaks, with a manifest."""
    from bench.data.tiling import tile_folder

    try:
        shares = tuple(float(part) for part in split.split(","))
    except ValueError:
        raise BenchError(f"--split {split!r} is not three shares; write it as 0.8,0.1,0.1") from None
    with PROGRESS.status("cutting"):
        report = tile_folder(
            images, masks, out, size=size, overlap=overlap, split=shares, seed=seed, max_ignored=max_ignored,
            classes=classes,
        )  # fmt: skip
    OUTPUT.print(report)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A data set's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Report corrupt files, unknown mask values, class shares, and leakage between splits. Exit 1 if there is any."""
    from bench.data.check import check_folder

    with PROGRESS.status("reading every tile"):
        report = check_folder(folder)
    if as_json:
        print_json(report.to_dict())
    else:
        OUTPUT.print(_shares(report))
        for problem in report.problems:
            OUTPUT.print(f"[red]{problem}[/]")
        OUTPUT.print("nothing wrong found" if report.ok else f"{len(report.problems)} problems")
    raise typer.Exit(0 if report.ok else 1)


def _shares(report: object) -> Table:
    return Table(box=None)
