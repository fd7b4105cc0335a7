"""`study` and `plot`: run a study; make its tables and figures again from its records."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bench.cli.options import (
    DEFAULT_DATA,
    OUTPUT,
    PROGRESS,
    BudgetOption,
    DataOption,
    DeviceOption,
    JsonOption,
    LogOption,
    OutOption,
    RecipeOption,
    SeedsOption,
    SizeOption,
    parse_seeds,
    print_json,
    recipe_from,
    run_file,
    writable_folder,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.study import Setting, Study, StudyPlan

VariantsOption = Annotated[
    list[str] | None, typer.Option("--variants", help="Only variants that match, as `smp/*` or `norm`; repeatable.")
]
MEMBERS = ("name", "question", "uses", "layout", "report")
READ_BY = {  # option -> what of a study reads it
    "data": "data", "budget": "recipe", "recipe_settings": "recipe", "precision": "recipe", "seeds": "seeds",
    "folds": "folds", "size": "size", "batch": "batches", "keep_weights": "keep_weights", "log": "log",
    "delta": "delta", "variants": "variants", "trained": "variants", "timed": "variants", "add": "variants",
    "instruments": "variants", "folder": "variants",
}  # fmt: skip


def find_study(name: str) -> Study:
    """The constant `STUDY` of a module of `studies`, or of a Python file of the user's.

    Raises:
        BenchError: there is no such study.
    """
    found = _from_file(Path(name)) if name.endswith(".py") else _from_suite(name)
    lacking = [member for member in MEMBERS if not hasattr(found, member)]
    if found is None or lacking:
        what = f"has no {lacking[0]!r}" if found is not None else "is missing"
        raise BenchError(f"the constant STUDY of {name} {what}; a study has {', '.join(MEMBERS)} (bench.study.Study)")
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise BenchError(f"there is no study file {path}; give a Python file that holds a constant STUDY")
    try:
        return run_file(path, "lale_bench_study").get("STUDY")
    except BenchError as error:
        if "Protocols cannot be instantiated" not in str(error):
            raise
        raise BenchError(
            f"{path} makes a Study of bench.study, which is a protocol now: make a VariantStudy of the same arguments"
        ) from None


def _from_suite(name: str) -> Any:
    if name not in study_names():
        raise BenchError(f"there is no study {name!r}; there are {', '.join(study_names())}; or give a .py file")
    return getattr(importlib.import_module(f"studies.{name}"), "STUDY", None)


def study_names() -> list[str]:
    """The studies that come with the suite."""
    found: Any = importlib.util.find_spec("studies")
    return sorted(module.name for module in pkgutil.iter_modules(found.submodule_search_locations))


def _seeds_in_reach(seeds: Sequence[int]) -> Sequence[int]:
    """All seeds that `--settle` may add."""
    from bench.stats.looks import MOST_EXTRA, look_seeds

    return range(seeds[0], seeds[0] + MOST_EXTRA * look_seeds(len(seeds))[-1])


def _refuse_seen_seeds(added: list[str], seeds: Sequence[int]) -> None:
    """A member of a front was chosen by its training with the search's seed, which is no fresh evidence."""
    for path in (Path(one) for one in added if Path(one).is_file()):
        seen = json.loads(path.read_text(encoding="utf-8")).get("seed")
        if seen in seeds:
            raise BenchError(
                f"{path} was chosen by its training with seed {seen}, which --seeds has or --settle may add: give "
                f"seeds that its search has not seen, as --seeds {seen + 1},{seen + 2},{seen + 3}"
            )


def _refuse_search(folder: Path) -> None:
    from bench.search.report import is_search

    if is_search(folder):
        raise BenchError(f"{folder} holds a search: give another --name for the study")


def _folder_name(folder: str) -> str:
    if Path(folder).name != folder:
        raise BenchError(f"--name {folder} is no name of a folder: give one without a slash, as ablation-wide")
    return folder


def study(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="`benchmark`, `ablation`, `winners`, `pilot`, `deployment`, `claims`, `scaling`, `tabulated`, "
            "`samplers` or `calibration`; or the path of a Python file that holds a STUDY."
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    budget: BudgetOption = "quick",
    seeds: SeedsOption = "3",
    folds: Annotated[
        int,
        typer.Option(
            min=0, help="Train every seed on so many folds, so that every scene is tested; 0: the data's splits."
        ),
    ] = 0,
    variants: VariantsOption = None,
    trained: Annotated[
        list[str] | None, typer.Option(help="Train only these (patterns); the rest is counted and timed.")
    ] = None,
    timed: Annotated[list[str] | None, typer.Option(help="Time only these (patterns).")] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="A further variant: a name, or a saved config's path; repeatable.")
    ] = None,
    instruments: Annotated[
        str | None,
        typer.Option(
            help="What to measure of static, speed, deployed and train; by default what the study says, mostly "
            "static,speed,train."
        ),
    ] = None,
    device: DeviceOption = "auto",
    size: SizeOption = 256,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16, for all variants alike.")] = None,
    recipe_settings: RecipeOption = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes of the speed measurement; repeatable.")] = None,
    out: OutOption = Path("runs"),
    keep_weights: Annotated[bool, typer.Option(help="Keep the best weights of every training.")] = False,
    log: LogOption = None,
    delta: Annotated[
        float, typer.Option(min=0, help="Points of macro F1 up to which two networks count as equivalent.")
    ] = 1.0,
    settle: Annotated[
        bool, typer.Option(help="Add seeds where a verdict is undecided, in up to four looks, at an error of 5 %.")
    ] = False,
    hours: Annotated[
        float,
        typer.Option(min=0, help="With --settle: stop after so long; trainings that run then go on the next time."),
    ] = 24.0,
    folder: Annotated[
        str, typer.Option("--name", help="Name of the study's folder in --out; by default the name of the study.")
    ] = "",
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
    from bench.engine import StudyInterrupted
    from bench.records.environment import resolve_device
    from bench.scenes.accuracy import accuracy_cell
    from bench.study import Setting, Variant, VariantStudy, plan_study
    from bench.study.run import log_recorded
    from bench.training.curves import require_tracker

    if not settle and getattr(context.get_parameter_source("hours"), "name", "") == "COMMANDLINE":
        raise BenchError("--hours is how long --settle may take: give both, or neither")
    chosen = find_study(name)
    _refuse_unread_options(context, chosen)
    if log is not None:
        require_tracker(log)
    if isinstance(chosen, VariantStudy):
        extras = [Variant.named(extra) for extra in add or []]
        _refuse_seen_seeds(add or [], _seeds_in_reach(parse_seeds(seeds)) if settle else parse_seeds(seeds))
        wanted = [*variants, *(extra.label for extra in extras)] if variants else []  # what is added is wanted
        chosen = chosen.with_variants(extras).select(wanted, trained or [], timed or [])
        named: Any = (
            tuple(instruments.split(",")) if instruments else chosen.instruments
        )  # any words: the study refuses
        chosen = replace(chosen, instruments=named, accuracy=accuracy_cell, name=_folder_name(folder) or chosen.name)
    _refuse_search(out / chosen.name)
    setting = Setting(
        data=data,
        recipe=recipe_from(budget, recipe_settings, precision),
        seeds=parse_seeds(seeds),
        folds=folds,
        device=str(resolve_device(device)),
        size=(size, size),
        batches=tuple(batch or (1, 8)),
        out=out,
        keep_weights=keep_weights,
        delta=delta / 100,
        log=log is not None,
    )
    with PROGRESS.status("planning"):
        plan = plan_study(chosen, setting, _source(name, out / chosen.name), adopt=storage is None)
    for note in [*plan.notes, *(plan.weight_notes(shared=storage is not None) if keep_weights else [])]:
        PROGRESS.print(note, style="yellow", markup=False)
    if dry_run:
        return _print_plan(plan, as_json, retry_failed)
    if log is not None:
        PROGRESS.print(f"training curves: tensorboard --logdir {log_recorded(plan)}", markup=False, highlight=False)
    try:
        if settle:
            _settle(chosen, setting, hours, lambda part: _run(part, data, storage, retry_failed), storage)
        else:
            _run(plan, data, storage, retry_failed)
            if keep_weights and storage is None:  # weights that are there now may be scored in int8
                _run(plan_study(chosen, setting, plan.manifest.source), data, None, retry_failed=False)
    except StudyInterrupted:
        PROGRESS.print(f"[dim]what there is so far: lale-bench plot {escape(str(plan.folder))}[/]")
        raise
    _finish(plan.folder, data, as_json, chosen)
    return _conclude(plan, data, as_json, shared=storage is not None)


def _conclude(plan: StudyPlan, data: str, as_json: bool, shared: bool) -> None:
    """The page of a study, and what failed."""
    if not as_json:
        _write_page(plan, data)
    tell_failures(plan.folder, "without --storage and " if shared else "")


def tell_failures(folder: Path, without: str) -> None:
    """How many cells failed, and how they are measured again; where all of a kind failed, the study has failed."""
    from bench.study.run import load_results

    records = load_results(folder).records.values()
    failed = [record for record in records if record.status == "failed"]
    if not failed:
        return
    told = (
        f"{len(failed)} of {len(records)} cells failed, the first because {failed[0].reason.rstrip('.')}; once that "
        f"is mended, the same command {without}with --retry-failed measures them again"
    )
    if {record.kind for record in failed} - {record.kind for record in records if record.status != "failed"}:
        raise BenchError(told)
    PROGRESS.print(told, style="yellow", markup=False, highlight=False)


def _write_page(plan: StudyPlan, data: str) -> None:
    """The study as one HTML file, with images of its data where it has any."""
    from bench.cli.reporting import write_report_page

    sources = [data] if plan.manifest.declared else []
    path = write_report_page([plan.folder], plan.folder / "report.html", sources, plan.manifest.study)
    OUTPUT.print(f"[dim]to look at in a browser: {escape(str(path))}[/]")


def _refuse_unread_options(context: typer.Context, study: Study) -> None:
    """A study that silently trained nothing, whatever `--budget` said, would mislead."""
    for option in context.command.params:
        given = getattr(context.get_parameter_source(option.name), "name", "") == "COMMANDLINE"
        if given and READ_BY.get(option.name) not in (None, *study.uses):
            raise BenchError(f"the study {study.name} brings settings of its own: {option.opts[0]} does not go with it")


def _source(name: str, folder: Path) -> str:
    """How the manifest names the study: a file by its path from the study's folder, elsewhere by its name alone."""
    path = Path(name).absolute()
    if not name.endswith(".py"):
        return name
    return Path(os.path.relpath(path, folder.absolute())).as_posix() if path.is_relative_to(Path.cwd()) else path.name


def _settle(
    study: Study, setting: Setting, hours: float, run: Callable[[StudyPlan], None], storage: str | None
) -> None:
    from bench.study import VariantStudy
    from bench.study.settling import Settling

    if storage is not None:
        raise BenchError(
            "--settle decides after each look what to train next, on this machine alone: leave --storage out, "
            "or share a fixed number of seeds (--seeds 8 --storage ...)"
        )
    if not isinstance(study, VariantStudy):
        raise BenchError(f"the study {study.name} compares no trained variants, so there is nothing to --settle")
    Settling(study, setting, run, hours).settle()


def _run(plan: StudyPlan, data: str, storage: str | None, retry_failed: bool) -> None:
    from bench.study import run_study

    if storage is None:
        return run_study(plan, console=PROGRESS, retry_failed=retry_failed)
    if retry_failed:
        raise BenchError("--retry-failed goes with a run of your own, not with --storage: leave one of them out")
    from bench.study.sharing import share_study

    return share_study(plan, storage, data=data, console=PROGRESS)


def plot(
    folder: Annotated[Path, typer.Argument(help="A study's folder, as `runs/ablation`.", callback=writable_folder)],
    data: Annotated[
        str | None, typer.Option(help="The data of the study, for panels of images; without it, panels are left out.")
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="The study's Python file, where it is no longer where it was.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Also write `tex`, `svg`, `pdf` or `timm` (timm's CSV columns); repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the tables (CSV, Markdown) and figures (PNG) of a study or search again, from its records alone."""
    from bench.report.formats import also_writing

    with also_writing(formats or []):
        _finish(folder, data, as_json, find_study(study) if study else None)


def _finish(folder: Path, data: str | None, as_json: bool, study: Study | None) -> None:
    from bench.search.report import is_search, report_search
    from bench.study import write_report

    if is_search(folder):
        return show_report(report_search(folder, data), folder, as_json)
    report = write_report(folder, data, study=study, find=lambda source: find_again(source, folder))
    return show_report(report, folder, as_json)


def find_again(source: str, folder: Path) -> Study:
    """The study that a manifest in `folder` names.

    Raises:
        BenchError: its file is gone.
    """
    if not source.endswith(".py"):
        return find_study(source)
    places = [folder / source, Path(Path(source).name)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BenchError(f"the file of this study, {source}, is not to be found from {folder}; name it by --study FILE")
    return find_study(str(found))


def show_report(report: Any, folder: Path, as_json: bool = False, /, **also: Any) -> None:
    """Table, findings and folder of a study's or a search's report; `also` is added to its JSON."""
    if as_json:
        return print_json(report.to_dict() | also)
    OUTPUT.print(report.table())
    for sentence in report.findings:
        OUTPUT.print(sentence, markup=False)
    return OUTPUT.print(f"[dim]tables and figures: {escape(str(folder))}[/]")


def _print_plan(plan: StudyPlan, as_json: bool, retry_failed: bool) -> None:
    from bench.engine import plan as plan_cells

    planned = plan_cells(plan.cells, plan.store, retry_failed=retry_failed)
    rows: list[dict[str, Any]] = [
        {"kind": p.cell.kind, "cell": p.cell.label, "key": p.cell.key, "status": p.status, "estimate_s": p.estimate_s}
        for p in planned
    ]
    skipped = [{"variant": label, "skipped": reason} for label, reason in plan.manifest.skipped.items()]
    if as_json:
        return print_json({"cells": rows, "skipped": skipped})
    table = Table(box=None)
    for header in ("kind", "cell", "status", "estimate"):
        table.add_column(header)
    for row in rows:
        estimate = "?" if row["estimate_s"] is None else f"{row['estimate_s']:.0f} s"
        table.add_row(row["kind"], escape(row["cell"]), row["status"], "" if row["status"] != "missing" else estimate)
    OUTPUT.print(table)
    for one in skipped:
        OUTPUT.print(f"skipped: {one['variant']}: {one['skipped']}", markup=False)
    return OUTPUT.print(_estimate(rows))


def _estimate(rows: list[dict]) -> str:
    due = [row["estimate_s"] for row in rows if row["status"] == "missing"]
    known = sum(estimate for estimate in due if estimate is not None)
    unknown = sum(estimate is None for estimate in due)
    text = f"{len(due)} of {len(rows)} cells to measure, about {known / 60:.1f} min on this machine"
    return text + (f", and {unknown} whose kind was never measured here" if unknown else "")
