"""`report`: one HTML file of any number of studies and searches."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bench.cli.options import OUTPUT, PROGRESS, writable_file
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data import Classes, DataSet
    from bench.records import Record
    from bench.report.page import Network, SearchSection, StudySection, TableSection
    from bench.study.protocol import Results
    from bench.study.result import Declared, StudyResult

Sections = tuple[list["StudySection"], list["SearchSection"], list["TableSection"]]


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of studies or searches, or folders that hold such folders, as `runs`.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.", callback=writable_file)] = Path(
        "report.html"
    ),
    data: Annotated[
        list[str] | None, typer.Option(help="Data of the studies, for images and truth beside predictions; repeatable.")
    ] = None,
    title: Annotated[str, typer.Option(help="Above the report.")] = "LALE-Bench report",
) -> None:
    """Write one HTML file of any number of studies and searches, from their records alone.

    Fronts with the axes of your choice, tables to sort and filter, effects, scores by class, learning curves,
    predictions, searches, and what failed. The file needs no network and can be sent to anyone.
    """
    with PROGRESS.status("reading records"):
        path = write_report_page(folders, out, data or [], title)
    OUTPUT.print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)", highlight=False)


def write_report_page(
    folders: list[Path], out: Path, data: Sequence[str] = (), title: str = "LALE-Bench report"
) -> Path:
    """See `report`.

    Raises:
        BenchError: a folder holds neither a study nor a search.
    """
    from bench.report.page import write_page

    studies, searches, tables = sections(folders, data)
    command = shlex.join(["lale-bench", "report", *map(str, folders), "-o", out.name])
    return write_page(out, title, studies, searches, tables, f"Made by `{command}` from records alone.")


def sections(folders: list[Path], data: Sequence[str]) -> Sections:
    """What a page shows, read from the folders.

    Raises:
        BenchError: a folder holds neither a study nor a search.
    """
    from bench.data import open_data
    from bench.search.report import is_search
    from bench.study.run import load_results

    sets = [open_data(source) for source in data]
    found: Sections = ([], [], [])
    for folder in _expanded(folders):
        if is_search(folder):
            found[1].append(_search(folder))
            continue
        results = load_results(folder)
        if results.manifest.declared:
            found[0].append(_study(results, sets))
        else:
            found[2].append(_other(results))
    return found


def _expanded(folders: list[Path]) -> Iterator[Path]:
    """Each folder that holds a study or a search, in the order given, none twice."""
    from bench.search.report import is_search
    from bench.study.protocol import FILE

    seen = set()
    for folder in folders:
        inside = sorted(path.parent for name in (FILE, "search.json") for path in folder.glob(f"**/{name}"))
        if not inside:
            raise BenchError(f"{folder} holds neither a study nor a search; give a folder that one of them wrote")
        for one in inside:
            if one not in seen and (is_search(one) or (one / FILE).exists()):
                seen.add(one)
                yield one


# --- studies of variants


def _study(results: Results, sets: list[DataSet]) -> StudySection:
    from bench.data.classes import parse_classes
    from bench.report.page import StudySection
    from bench.study.report import describe, findings
    from bench.study.result import result_of

    result = result_of(results)
    declared = result.manifest
    classes = parse_classes(declared.data["classes"])
    trained = [row.label for row in declared.rows if row.trained]
    tiles, pictures = _pictures(result, classes, sets)
    return StudySection(
        name=declared.study,
        question=declared.question,
        caption=describe(result),
        findings=findings(result),
        condition=_condition(declared),
        frame=result.frame,
        networks={row.label: _network(row.label, results) for row in declared.rows},
        speed=_speed(results),
        class_names=classes.names,
        class_colours=[f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.colours],
        per_class={label: f1 for label in trained if (f1 := result.class_f1(label)) is not None},
        curves={label: [_curve(run) for run in result.succeeded(label)] for label in trained},
        tiles=tiles,
        pictures=pictures,
    )


def _condition(declared: Declared) -> str:
    recipe, data = declared.recipe, declared.data
    crop = f" crops of {recipe['crop']} px" if recipe["crop"] else " tiles"
    seeds = f"seed{'s' if len(declared.seeds) > 1 else ''} {', '.join(map(str, declared.seeds))}"
    seeds += f" on each of {declared.folds} folds" if declared.folds else ""
    return (
        f"{data['name']} ({data['fingerprint'][:12]}), {recipe['steps']} steps of {recipe['batch']}{crop}"
        f"{_unlike(recipe)}, {seeds}; counts and speed at {declared.size[0]}x{declared.size[1]}"
    )


def _unlike(recipe: Mapping[str, Any]) -> str:
    """The rest of a recipe: which of ours is nearest, and what else differs from it."""
    _, nearest, *changes = _recipe(recipe)
    told = [change for change in changes[1::2] if change.partition("=")[0] not in ("steps", "batch", "crop")]
    return f" (recipe {', '.join([nearest, *told])})"


def _network(label: str, results: Results) -> Network:
    from bench.report.page import Network

    cells = {name: key for name, key in results.manifest.cells.items() if _is_of(name, label)}
    records = [results.records[name] for name in cells if name in results.records]
    configs = (_whole(record.determinants["config"]) for record in records if "config" in record.determinants)
    return Network(tuple(cells.values()), next(configs, None), _command(label, results))


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    """With the fields that records leave out since they have their default, where the family is known here."""
    import archs

    try:
        return archs.to_dict(archs.from_dict(config))
    except archs.ArchError:
        return config


def _is_of(cell: str, label: str) -> bool:
    from bench.study.layout import static_label

    return cell == static_label(label) or cell.startswith(f"train: {label}, seed ")


def _command(label: str, results: Results) -> str:
    """The study with one variant more than its base; the recipe by its name and what differs from it. Empty where the
    study is not one of ours, or its data are generated: records do not tell the file of the one, the size of the other.
    """
    from bench.cli.studying import study_names

    if results.manifest.study not in study_names() or _source(results).startswith("terrain"):
        return ""
    setting = results.manifest.setting
    wanted = {label, results.manifest.details["base"] or label}
    words = ["lale-bench", "study", results.manifest.study, "--data", _source(results)]
    words += [word for name in sorted(wanted) for word in ("--variants", name)]
    words += _recipe(setting["recipe"])
    seeds = ",".join(map(str, setting["seeds"]))
    words += ["--seeds", seeds if "," in seeds else f"{seeds},", "--size", str(setting["size"][0])]
    words += ["--folds", str(setting["folds"])] if setting.get("folds") else []
    return shlex.join(words)


def _source(results: Results) -> str:
    """The name of data that come with the suite; of others the folder is not known to the records."""
    name = results.manifest.details["data"]["name"]
    return name if name.startswith(("world", "terrain")) else f"path/to/{name}"


def _recipe(recipe: Mapping[str, Any]) -> list[str]:
    from bench.training.recipe import RECIPES, Recipe

    asked = asdict(Recipe.from_dict(recipe))

    def differing(name: str) -> list[str]:
        plain = asdict(RECIPES[name])
        return [f"{key}={str(value).lower()}" for key, value in asked.items() if plain[key] != value]

    nearest = min(RECIPES, key=lambda name: len(differing(name)))
    return ["--budget", nearest, *(word for change in differing(nearest) for word in ("--recipe", change))]


def _speed(results: Results) -> str:
    """Protocol and machine of the speeds, as their records say."""
    records = [record for name, record in results.records.items() if name.startswith("speed: ") and record.result]
    if not records:
        return ""
    first = [next(iter(record.result["speeds"].values())) for record in records if record.result["speeds"]]
    if not first:
        return ""
    protocol, where = first[0]["protocol"], records[0].environment
    batches = " and ".join(str(speed["protocol"]["batch"]) for speed in first)
    others = [speed.get("other_cores") for record in records for speed in record.result["speeds"].values()]
    busy = max((cores for cores in others if cores is not None), default=None)
    return (
        f"{where.get('device_kind', '')}, {first[0]['threads']} threads, "
        f"torch {where.get('packages', {}).get('torch', '?')}; batch {batches}, {protocol['precision']}, "
        f"{protocol['memory_format']}, {protocol['runtime']}, {protocol['form']} form, {protocol['rounds']} or more "
        f"interleaved rounds, medians with 95 % intervals"
        + ("." if busy is None else f"; background load at most {busy:.2f} cores.")
    )


def _curve(record: Record) -> list[tuple[int, float, float | None]]:
    return [(entry["step"], entry["macro_f1"], entry.get("loss")) for entry in record.result["history"]]


def _pictures(result: StudyResult, classes: Classes, sets: list[DataSet]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names of the tiles, and their images, truth and predictions (of the first seed) in the classes' colours."""
    from bench.data.folds import fold

    panels = result.panels([row.label for row in result.manifest.rows])
    if panels is None:
        return [], {}
    indices = panels.indices
    data = next((one for one in sets if one.fingerprint == result.manifest.data["fingerprint"]), None)
    names, pictures = [f"test tile {index}" for index in indices], {}
    if data is not None:
        data = fold(data, panels.fold, result.manifest.folds) if panels.fold else data
        test = data["test"]
        names = [str(test.tiles[index]) for index in indices]
        pictures["Image"] = data.pictures(np.asarray(test.images[indices]))
        pictures["Truth"] = classes.palette[np.asarray(test.masks[indices])]
    for label, predictions in panels.predictions.items():
        pictures[label] = classes.palette[predictions]
    return names, pictures


# --- searches, and studies of other kinds


def _search(folder: Path) -> SearchSection:
    from bench.report.page import SearchSection
    from bench.search.report import load_search

    document = load_search(folder)
    limits = ", ".join(f"{name} {value:g}" for name, value in document["budget"].items() if value is not None)
    failed = sum(trial["status"] == "failed" for trial in document["trials"])
    return SearchSection(
        name=folder.name,
        caption=(
            f"{len(document['trials'])} trials on {document['data']['name']}, sampler {document['sampler']}, seed "
            f"{document['seed']}, budget: {limits or 'none'}; F1 on the validation tiles."
        ),
        findings=[f"{len(document['front'])} trials on the front: {', '.join(document['front'])}; {failed} failed."],
        trials=document["trials"],
        cost=document["cost"],
        limit=document["limit"],
    )


def _other(results: Results) -> TableSection:
    """Its report is made anew in a folder that is thrown away: the results stay as they are."""
    from bench.cli.studying import find_again
    from bench.report.page import TableSection

    with tempfile.TemporaryDirectory() as folder:
        study = find_again(results.manifest.source, results.folder)
        found = study.report(replace(results, folder=Path(folder)))
        return TableSection(
            name=results.manifest.study,
            question=results.manifest.question,
            caption=found.caption,
            findings=found.findings,
            frame=found.frame,
            columns=found.columns,
            figures=[path.read_bytes() for path in found.files if path.suffix == ".png"],
        )
