"""`study` and `plot`: run a declared study; make its tables and figures again from its records."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

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
    SeedsOption,
    SizeOption,
    parse_seeds,
    print_json,
    recipe_from,
)
from bench.engine import StudyInterrupted
from bench.engine import plan as plan_cells
from bench.errors import BenchError
from bench.study import Setting, Study, StudyPlan, Variant, plan_study, run_study, write_report
from bench.study.survey import Survey, SurveyPlan, is_survey, plan_survey, report_survey, run_survey, survey_name

VariantsOption = Annotated[
    list[str] | None, typer.Option("--variants", help="Only variants that match, as `lale-s*` or `norm`; repeatable.")
]


SURVEY_OPTIONS = ("name", "device", "out", "retry_failed", "dry_run", "as_json")


def find_study(name: str) -> Study | Survey:
    """The constant `STUDY` of `studies/NAME.py`, or of a Python file of the user's: a study, or a survey.

    Raises:
        BenchError: there is no such study.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise BenchError(f"there is no study file {name}; give a Python file that holds a constant STUDY")
        found = runpy.run_path(name, run_name="lale_bench_study").get("STUDY")
    else:
        if importlib.util.find_spec(f"studies.{name}") is None:
            raise BenchError(f"there is no study {name!r}; there are {', '.join(study_names())}; or give a .py file")
        found = getattr(importlib.import_module(f"studies.{name}"), "STUDY", None)
    if not isinstance(found, Study | Survey):
        raise BenchError(f"{name} holds no constant STUDY of type bench.study.Study, nor a bench.study.survey.Survey")
    return found


def study_names() -> list[str]:
    """The studies that come with the suite."""
    import studies

    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def study(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="`benchmark` or `ablation`; `claims` or `scaling`, which train nothing; or a Python file that holds a "
            "STUDY."
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    budget: BudgetOption = "quick",
    seeds: SeedsOption = "3",
    variants: VariantsOption = None,
    trained: Annotated[
        list[str] | None, typer.Option(help="Train only these (patterns); the rest is counted and timed.")
    ] = None,
    timed: Annotated[list[str] | None, typer.Option(help="Time only these (patterns).")] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="A further variant: a name, or a saved config's path; repeatable.")
    ] = None,
    instruments: Annotated[
        str, typer.Option(help="What to measure of static, speed and train; the rest is left for another run.")
    ] = "static,speed,train",
    device: DeviceOption = "auto",
    size: SizeOption = 256,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16, for all variants alike.")] = None,
    recipe_settings: RecipeOption = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes of the speed measurement; repeatable.")] = None,
    out: OutOption = Path("runs"),
    keep_weights: Annotated[bool, typer.Option(help="Keep the best weights of every training.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Measure again what is recorded as failed.")] = False,
    storage: Annotated[
        str | None, typer.Option(help="`postgresql://...`: share the cells with every `lale-bench worker` there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Print the cells, what is recorded, and a time estimate.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a study: counts, speed and trainings of its variants, then its tables and figures.

    Killed or interrupted, the same command goes on where it stopped. `--recipe` changes fields of the recipe.
    """
    from bench.records.environment import resolve_device

    chosen = find_study(name)
    if isinstance(chosen, Survey):
        _refuse_options_of_studies(context, chosen)
        surveyed = plan_survey(chosen, str(resolve_device(device)), out)
        return _print_plan(surveyed, as_json) if dry_run else _survey(surveyed, retry_failed, as_json)
    chosen = chosen.with_variants([Variant.named(extra) for extra in add or []])
    chosen = replace(
        chosen.select(variants or [], trained or [], timed or []), instruments=tuple(instruments.split(","))
    )
    setting = Setting(
        data=data,
        recipe=recipe_from(budget, recipe_settings, precision),
        seeds=parse_seeds(seeds),
        device=str(resolve_device(device)),
        size=(size, size),
        batches=tuple(batch or (1, 8)),
        out=out,
        keep_weights=keep_weights,
    )
    with PROGRESS.status("opening the data"):
        plan = plan_study(chosen, setting)
    if dry_run:
        return _print_plan(plan, as_json)
    try:
        _run(plan, chosen, setting, storage, retry_failed)
    except StudyInterrupted:
        PROGRESS.print(f"[dim]what there is so far: lale-bench plot {plan.folder}[/]")
        raise
    return _finish(plan.folder, data, as_json)


def _refuse_options_of_studies(context: typer.Context, survey: Survey) -> None:
    """A survey that silently trained nothing, whatever `--budget` said, would mislead."""
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name not in SURVEY_OPTIONS
        and getattr(context.get_parameter_source(option.name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise BenchError(f"{survey.name} brings its own networks and settings: {given[0]} does not go with it")


def _survey(plan: SurveyPlan, retry_failed: bool, as_json: bool) -> None:
    run_survey(plan, console=PROGRESS, retry_failed=retry_failed)
    _show(report_survey(plan.survey, plan.folder), plan.folder, as_json)


def _run(plan: StudyPlan, chosen: Study, setting: Setting, storage: str | None, retry_failed: bool) -> None:
    if storage is None:
        return run_study(plan, console=PROGRESS, retry_failed=retry_failed)
    if retry_failed:
        raise BenchError("--retry-failed goes with a run of your own, not with --storage: leave one of them out")
    from bench.search.jobs import study_job
    from bench.search.storage import Signs
    from bench.study.sharing import share_study

    job = study_job(chosen, setting, Signs())
    return share_study(plan, storage, console=PROGRESS, job=job)


def plot(
    folder: Annotated[Path, typer.Argument(help="A study's folder, as `runs/ablation`.")],
    data: Annotated[
        str | None, typer.Option(help="The data of the study, for panels of images; without it, panels are left out.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Also write `tex`, `svg` or `pdf`. May be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the tables (CSV, Markdown) and figures (PNG) of a study or search again, from its records alone."""
    from bench.report.formats import also_writing

    with also_writing(formats or []):
        _finish(folder, data, as_json)


def _finish(folder: Path, data: str | None, as_json: bool) -> None:
    from bench.search.report import is_search, report_search

    if is_survey(folder):
        return _show(report_survey(_surveyed(folder), folder), folder, as_json)
    return _show(report_search(folder, data) if is_search(folder) else write_report(folder, data), folder, as_json)


def _surveyed(folder: Path) -> Survey:
    found = find_study(survey_name(folder))
    if not isinstance(found, Survey):
        raise BenchError(f"{folder} was written by a survey called {found.name}, which is a study now: run it again")
    return found


def _show(report: Any, folder: Path, as_json: bool) -> None:
    if as_json:
        return print_json(report.to_dict())
    OUTPUT.print(report.table())
    for sentence in report.findings:
        OUTPUT.print(sentence)
    return OUTPUT.print(f"[dim]tables and figures: {folder}[/]")


def _print_plan(plan: StudyPlan | SurveyPlan, as_json: bool) -> None:
    planned = plan_cells(plan.cells, plan.store)
    rows = [
        {"kind": p.cell.kind, "cell": p.cell.label, "key": p.cell.key, "status": p.status, "estimate_s": p.estimate_s}
        for p in planned
    ]
    variants = plan.manifest.rows if isinstance(plan, StudyPlan) else ()
    skipped = [{"variant": row.label, "skipped": row.skipped} for row in variants if row.skipped]
    if as_json:
        return print_json({"cells": rows, "skipped": skipped})
    table = Table(box=None)
    for header in ("kind", "cell", "status", "estimate"):
        table.add_column(header)
    for row in rows:
        estimate = "?" if row["estimate_s"] is None else f"{row['estimate_s']:.0f} s"
        table.add_row(row["kind"], row["cell"], row["status"], "" if row["status"] != "missing" else estimate)
    OUTPUT.print(table)
    for row in skipped:
        OUTPUT.print(f"skipped: {row['variant']}: {row['skipped']}")
    return OUTPUT.print(_estimate(rows))


def _estimate(rows: list[dict]) -> str:
    due = [row["estimate_s"] for row in rows if row["status"] == "missing"]
    known = sum(estimate for estimate in due if estimate is not None)
    unknown = sum(estimate is None for estimate in due)
    text = f"{len(due)} of {len(rows)} cells to measure, about {known / 60:.1f} min on this machine"
    return text + (f", and {unknown} whose kind was never measured here" if unknown else "")
