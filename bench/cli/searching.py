"""`search`: new variants under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench.cli.options import (
    DEFAULT_DATA,
    OUTPUT,
    PROGRESS,
    BudgetOption,
    DataOption,
    DeviceOption,
    JsonOption,
    OutOption,
    RecipeOption,
    SetOption,
    SizeOption,
    parse_seeds,
    parse_settings,
    recipe_from,
)
from bench.cli.studying import show_report, tell_failures
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.search.report import SearchReport


app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")


@app.callback()
def search(
    context: typer.Context,
    base: Annotated[
        str | None,
        typer.Option(
            help="The architecture around which to search, or a saved config's path.", show_default="archs.DEFAULT"
        ),
    ] = None,
    free: Annotated[
        str, typer.Option(help="Fields that may change, as `widths,depths`; empty: the family's own choice.")
    ] = "",
    space: Annotated[
        Path | None,
        typer.Option(help="A TOML file of what may change: `depths = [1, 2, 3]` a line. Any architecture, any field."),
    ] = None,
    objectives: Annotated[str, typer.Option(help="`f1` and one or two of params, macs, latency.")] = "f1,macs",
    max_gmacs: Annotated[float | None, typer.Option(help="Exact plain MACs of one image of --size, in 10^9.")] = None,
    max_params: Annotated[float | None, typer.Option(help="Parameters, as 1.6e6.")] = None,
    max_mib: Annotated[float | None, typer.Option(help="The saved float32 weights, in MiB.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Median of one image on this device.")] = None,
    form: Annotated[str, typer.Option(help="In which latency is measured: trained or deployed.")] = "trained",
    runtime: Annotated[
        str,
        typer.Option(help="In which latency is measured, as of `measure`: eager, onnxruntime, openvino and others."),
    ] = "eager",
    precision: Annotated[
        str, typer.Option(help="In which latency is measured: fp32, bf16, int8 (calibrated on the training tiles).")
    ] = "fp32",
    max_deployed_gmacs: Annotated[
        float | None,
        typer.Option(help="Exact plain MACs of the deployed form (batch norms and fusion folded), in 10^9."),
    ] = None,
    max_activations: Annotated[
        float | None, typer.Option(help="Elements that the operators write for one image of --size, as 3e7.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trainings in all.")] = 24,
    sampler: Annotated[
        str,
        typer.Option(
            help="auto (the best in the study `samplers`), ehvi, gp, tpe, nsga2, nsga3 or random; all feasible."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of the proposals and of the search's trainings.")] = 0,
    seeds: Annotated[
        str, typer.Option(help="Seeds of the front's final trainings: how many, or which (not --seed).")
    ] = "3",
    data: DataOption = DEFAULT_DATA,
    budget: BudgetOption = "quick",
    size: SizeOption = 256,
    device: DeviceOption = "auto",
    storage: Annotated[
        str | None,
        typer.Option(
            help="`postgresql://...` for many hosts (see `lale-bench worker`), or a .journal file's path; else SQLite "
            "in the search's folder."
        ),
    ] = None,
    grace: Annotated[
        int, typer.Option(help="With a server: seconds without a heartbeat after which a worker counts as dead.")
    ] = 120,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Trainings at once on this machine, one thread each; 1 makes proposals repeatable.",
            show_default="one a core, for at least 8 trials each",
        ),
    ] = None,
    halving: Annotated[
        str,
        typer.Option(
            help="Successive halving, as `25@32,75,150`: all candidates take 25 steps on crops of 32 px, the best "
            "third 75 steps, the best third of those 150. How well each rung ranks the last is shown."
        ),
    ] = "",
    ladder: Annotated[str, typer.Option(hidden=True)] = "",
    settings: SetOption = None,
    recipe_settings: RecipeOption = None,
    out: OutOption = Path("runs"),
    name: Annotated[
        str, typer.Option(help="Name of the search's folder in --out; by default derived from what is searched for.")
    ] = "",
    retry_failed: Annotated[
        bool, typer.Option(help="Repeat final trainings that are recorded as failed; those of the search stay.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search new variants under a budget, then train the front anew on new seeds and score it on test tiles.

    The budget is decided before any training: no training time goes to a network over it. The search sees train and
    validation tiles only; `--seeds` are those of the final trainings, which the search has not seen. Killed, the same
    command goes on. Each search has a folder of its own; `front/` in it holds its front and nothing else. `--set`
    changes fields of the base, `--recipe` of the recipe.

    Latency is what `measure` shows with the same --form, --runtime and --precision at batch 1, of every candidate
    alike. F1 is that of the trained weights in fp32: `measure front/NAME.json --precision int8` scores both.
    """
    if context.invoked_subcommand is not None:
        return
    import archs
    from bench.engine.distributed import Heartbeat
    from bench.records.environment import resolve_device
    from bench.search import Budget, SearchPlan
    from bench.search.halving import parse_rungs
    from bench.search.run import SearchSetting, run_and_report
    from bench.search.spaces import read_values
    from bench.speed.protocol import SpeedProtocol

    if ladder:
        raise BenchError(f"--ladder is called --halving now: give --halving {ladder}")
    plan = SearchPlan(
        base=archs.config(base or archs.DEFAULT, **parse_settings(settings)),
        free=tuple(field.strip() for field in free.split(",") if field.strip()),
        objectives=tuple(objective.strip() for objective in objectives.split(",")),
        budget=Budget(max_gmacs, max_params, max_mib, max_latency_ms, max_deployed_gmacs, max_activations),
        trials=trials,
        sampler=sampler,
        seed=seed,
        values=read_values(space) if space else {},
    )
    setting = SearchSetting(
        data=data,
        recipe=recipe_from(budget, recipe_settings),
        seeds=parse_seeds(seeds, first=seed + 1),
        size=(size, size),
        device=str(resolve_device(device)),
        protocol=SpeedProtocol(form=form, runtime=runtime, precision=precision),
        storage=storage,
        out=out,
        name=name,
        heartbeat=Heartbeat(grace),
        processes=processes,
        rungs=parse_rungs(halving) if halving else (),
    )
    if retry_failed and storage is not None and not storage.startswith("sqlite:"):
        raise BenchError("--retry-failed goes with a run of your own, not with --storage: leave one of them out")
    report = run_and_report(plan, setting, console=PROGRESS, retry_failed=retry_failed)
    show_report(report, report.folder, as_json, folder=str(report.folder))
    if not as_json:
        _write_page(report, data)
    if report.final:
        tell_failures(report.final.folder, "without --storage and " if storage else "")


def _write_page(report: SearchReport, data: str) -> None:
    """The search and the study of its front as one HTML file."""
    from bench.cli.reporting import write_report_page

    folders = [report.folder, *([report.final.folder] if report.final else [])]
    path = write_report_page(folders, report.folder / "report.html", [data], report.folder.name)
    OUTPUT.print(f"[dim]to look at in a browser: {escape(str(path))}[/]")


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(help="A search's folder, as `runs/search-NAME`.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a search has found: its front against the base in words; its tables and figures are made again.

    One that still runs is shown by `optuna-dashboard STORAGE` in a browser.
    """
    from bench.search.report import report_search

    report = report_search(folder)
    return show_report(report, folder, as_json, folder=str(folder))
