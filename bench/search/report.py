"""What a search found, made of its files and records: the front in words, tables, figures, findings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import archs
from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.report.columns import Column, Format, column, measured
from bench.report.tables import TerminalTable, rich_table, write_tables
from bench.search.front import SearchResult, variant_name
from bench.search.halving import Halving
from bench.search.importance import importance
from bench.search.space import fields_of
from bench.search.study import SearchPlan
from bench.search.words import member
from bench.study import write_report

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.speed.protocol import SpeedProtocol
    from bench.study import Report

FILE = "search.json"
FORMAT = "lale-bench search 2"
COLUMNS = ("variant", "params", "macs", "mib", "latency_ms", "f1")
MEMBER_COSTS = ("params", "macs", "latency_ms")
TESTED = ("f1", "f1_low", "f1_high", "verdict")
RUNG_COLUMNS = [
    Column("rung", "Ranked by"),
    Column("trained", "Trained", "count"),
    Column("tau", "Kendall's tau against the last rung", Format(".2f", interval="[]"), "high", "low", "high"),
    Column("pairs", "On random candidates", "count"),
]
LIMITS = {"macs": ("max_gmacs", 1e9), "params": ("max_params", 1.0), "latency": ("max_latency_ms", 1.0)}
AXES = {"macs": "macs", "params": "params", "latency": "latency_ms"}


@dataclass(frozen=True)
class SearchReport:
    """What a search found, and what became of its front on test tiles."""

    folder: Path
    trials: pd.DataFrame
    files: list[Path]
    final: Report | None
    findings: list[str]
    members: pd.DataFrame

    def table(self) -> TerminalTable:
        """The front, each member in words; the trials where there is none."""
        if len(self.members):
            return rich_table(
                self.members, _member_columns(self.members), "The front against its base, F1 on test tiles"
            )
        return rich_table(self.trials, _columns(self.trials), "Trials, F1 on validation tiles")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        trials, members = (
            frame.astype(object).where(frame.notna(), None).to_dict("records") for frame in (self.trials, self.members)
        )
        return {
            "trials": trials,
            "front": members,
            "findings": self.findings,
            "final": self.final and self.final.to_dict(),
        }


def final_name(folder: Path) -> str:
    """The study beside a search's folder that judges its front."""
    return f"{folder.name}-front"


def save_search(
    plan: SearchPlan,
    result: SearchResult,
    data: DataSet,
    folder: Path,
    halving: Halving | None,
    protocol: SpeedProtocol,
) -> Path:
    """What the figures are drawn from, so that they need no Optuna storage."""
    rows = result.frame().replace({np.nan: None}).to_dict("records")
    space = plan.make_space()
    for row, trial in zip(rows, result.trials, strict=True):
        given = fields_of(trial.config)
        row["fields"] = {dimension.name: dimension.of(given) for dimension in space.dimensions}
        row["config"] = archs.to_dict(trial.config)
        row["known"] = known_as(trial.config, plan.base)
    cost = next(name for name in plan.objectives if name != "f1")
    document = {
        "format": FORMAT,
        "search": result.name,
        "base": archs.to_dict(plan.base),
        "objectives": list(plan.objectives),
        "budget": asdict(plan.budget),
        "sampler": plan.sampler,
        "seed": plan.seed,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "latency_in": f"{protocol.form} form, {protocol.runtime}, {protocol.precision}" if plan.is_timed else "",
        "cost": AXES[cost],
        "limit": _limit(plan, cost),
        "dimensions": {dimension.name: list(dimension.values) for dimension in space.dimensions},
        "trials": rows,
        "ladder": halving and _rungs(halving),
        "front": [variant_name(trial) for trial in result.front],
    }
    return write_atomically(folder / FILE, (json.dumps(document, indent=1) + "\n").encode())


def _rungs(halving: Halving) -> dict[str, Any]:
    rows = halving.rungs.astype(object).where(halving.rungs.notna(), None).to_dict("records")
    return {"rungs": rows, "sentence": halving.sentence(), "candidates": halving.candidates, "failed": halving.failed}


def _limit(plan: SearchPlan, cost: str) -> float | None:
    field, unit = LIMITS[cost]
    limit = getattr(plan.budget, field)
    return None if limit is None else limit * unit


def known_as(config: Any, base: Any) -> str:
    """The name under which a config was known before the search; empty if it was not."""
    name = next((name for name in archs.names() if archs.config(name) == config), "")
    return name or ("base" if config == base else "")


def _registered(known: str) -> bool:
    """Whether a name that was known before the search is one of the registry, by which figures call the trial."""
    return known not in ("", "base")


def report_search(folder: Path, source: str | None = None) -> SearchReport:
    """Make the tables and figures of a search again, from its files and records.

    Raises:
        BenchError: the folder holds no search.
    """
    document = load_search(folder)
    trials = pd.DataFrame(document["trials"])
    files = write_tables(trials, _columns(trials), folder / "trials", _caption(document))
    files += _draw(document, trials, folder / "figures")
    files += _report_halving(document, folder)
    final_folder = folder.parent / final_name(folder)
    final = write_report(final_folder, source) if (final_folder / "study.json").exists() else None
    members = _members(document, trials, final)
    files += write_tables(members, _member_columns(members), folder / "front", _front_caption(document, final))
    return SearchReport(folder, trials, files, final, _findings(document, trials, final), members)


def _report_halving(document: dict[str, Any], folder: Path) -> list[Path]:
    """The table and the figure of the rungs, if there were any."""
    from bench.report.figures.halving import draw_halving

    if not document["ladder"]:
        return []
    rungs = pd.DataFrame(document["ladder"]["rungs"])
    rungs[["tau", "low", "high"]] = rungs[["tau", "low", "high"]].astype(float)
    files = write_tables(rungs, RUNG_COLUMNS, folder / "halving", document["ladder"]["sentence"])
    return files + draw_halving(rungs, folder / "figures" / "halving", note=document["ladder"]["sentence"])


def _members(document: dict[str, Any], trials: pd.DataFrame, final: Report | None) -> pd.DataFrame:
    """The front, one row a member: its figures on test tiles where it has them, and in words what it is."""
    base = archs.from_dict(document["base"])
    scored = final.frame.set_index("variant") if final else pd.DataFrame()
    rows = []
    trials = trials.sort_values(document["cost"])
    for trial in trials[trials["variant"].isin(document["front"])].drop_duplicates("variant").to_dict("records"):
        name, config = trial["variant"], archs.from_dict(trial["config"])
        label = "base" if config == base else name  # the base is measured once, under its own label
        test = scored.loc[label] if label in scored.index else pd.Series(dtype=object)
        before = scored.loc["base"] if "base" in scored.index else pd.Series(dtype=object)
        kept = {key: trial[key] for key in MEMBER_COSTS} | {key: test.get(key) for key in TESTED}
        costs = pd.Series({"params": trial["params"], "macs": trial["macs"], **test.dropna().to_dict()})
        words = member(base, config, before, costs)
        if config != base and _registered(trial["known"]):
            words = f"registered as {trial['known']}; {words}"
        rows.append({"variant": name, **kept, "words": words})
    return pd.DataFrame(rows, columns=["variant", *MEMBER_COSTS, *TESTED, "words"])


def _member_columns(members: pd.DataFrame) -> list[Column]:
    timed = [column("latency_ms")] if members["latency_ms"].notna().any() else []
    macs = Column("macs", "MACs", Format(".3g", 1e-9, "G"), "low")  # of small inputs as well
    words = Column("words", "Against the base")
    return [column("variant"), column("params"), macs, *timed, column("f1"), words]


def _front_caption(document: dict[str, Any], final: Report | None) -> str:
    base = known_as(archs.from_dict(document["base"]), None) or "the base of the search"
    told = final.caption if final else "Not yet scored on test tiles."
    timed = f" Latency as the search measured it: {how}." if (how := document.get("latency_in")) else ""
    return f"The front, against {base}. {told}{timed}"


def load_search(folder: Path) -> dict[str, Any]:
    """What was saved of a search, as plain JSON: its budget, sampler and trials.

    Raises:
        BenchError: the folder holds no search, or one of another version.
    """
    try:
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{folder} holds no search that can be read ({error}); run the search again") from None
    if document.get("format") != FORMAT:
        raise BenchError(
            f"{folder / FILE} is no search of this version; run it again under another --name, its records are kept"
        )
    return document


def _columns(trials: pd.DataFrame) -> list[Column]:
    known = measured(trials, [key for key in COLUMNS if key not in ("mib", "f1")])
    return [*known, Column("mib", "Storage", "MiB", "low"), Column("f1", "Validation F1", "percent", "high")]


def _caption(document: dict[str, Any]) -> str:
    limits = ", ".join(f"{name} {value:g}" for name, value in document["budget"].items() if value is not None)
    timed = f"; latency in {how}" if (how := document.get("latency_in")) else ""
    return (
        f"{len(document['trials'])} {_what(document)} on {document['data']['name']}, sampler {document['sampler']}, "
        f"seed {document['seed']}, {limits or 'no limits'}; F1 on the validation tiles, the score that was searched by"
        f"{timed}."
    )


def _what(document: dict[str, Any]) -> str:
    return "candidates that reached the last rung" if document["ladder"] else "trials"


def _draw(document: dict[str, Any], trials: pd.DataFrame, folder: Path) -> list[Path]:
    from bench.report.figures.search import draw_hypervolume, draw_search
    from bench.report.figures.space import draw_importance, draw_parallel

    cost, limit, note = document["cost"], document["limit"], _caption(document)
    files = draw_search(trials, cost, folder / f"search-{cost.replace('_', '-')}", limit=limit, note=note)
    # Fixed by what was known before the search: the limit (without one, the dearest trial) and no F1 at all.
    corner = (limit or float(trials[cost].max()), 0.0)
    if np.isfinite(corner[0]):  # no time is known where nothing could be timed
        files += draw_hypervolume(trials, cost, folder / "hypervolume", reference=corner)
    dimensions = {name: [_named(value) for value in values] for name, values in document["dimensions"].items()}
    fields = [{name: _named(value) for name, value in given.items()} for given in trials["fields"]]
    spread = pd.concat([trials, pd.DataFrame(fields)], axis=1)
    files += draw_parallel(spread, dimensions, cost, folder / "parallel", note=note)
    return files + draw_importance(importance(spread, dimensions), folder / "importance", note=note)


def _named(value: Any) -> Any:
    """A field's value; None, which pandas takes for a gap, by its name."""
    return "none" if value is None else value


def _findings(document: dict[str, Any], trials: pd.DataFrame, final: Report | None) -> list[str]:
    ladder = document["ladder"]
    failed = int((trials["status"] == "failed").sum())
    known = trials.set_index("variant")["known"].to_dict()
    front = [
        f"{name} (registered as {known[name]})" if _registered(known[name]) else name for name in document["front"]
    ]
    what = _what(document)
    if ladder and "failed" in ladder:  # searches of before have no count
        what, failed = f"of {ladder['candidates']} {what}", ladder["failed"]
    sentences = [
        f"{len(trials)} {what}, none over the budget, {failed} failed; {len(front)} on the front: {', '.join(front)}."
    ]
    sentences += [ladder["sentence"]] if ladder else []
    sentences += _edges(document, trials[trials["variant"].isin(document["front"])])
    return sentences + (final.findings if final else ["The front is not yet scored on test tiles."])


def _edges(document: dict[str, Any], front: pd.DataFrame) -> list[str]:
    """Where the whole front lies at an end of the space, which may be too narrow there."""
    dimensions, front = document["dimensions"], front.drop_duplicates("variant")
    numbers = {name: v for name, v in dimensions.items() if len(v) > 2 and all(isinstance(x, int | float) for x in v)}
    found = []
    for end, which in ((min, "smallest"), (max, "largest")):
        names = [name for name, v in numbers.items() if all(given[name] == end(v) for given in front["fields"])]
        if names and len(front) > 1:
            found.append(
                f"All {len(front)} members of the front have the {which} value that the space holds of "
                f"{', '.join(names)}: a wider space (--space) may hold better ones."
            )
    return found


def searched_in(folder: Path) -> str | None:
    """The search in a folder, as "NAME" or "NAME by RUNG, RUNG"; None if there is none.

    Raises:
        BenchError: its file cannot be read.
    """
    if not is_search(folder):
        return None
    document = load_search(folder)
    rungs = [row["rung"] for row in document["ladder"]["rungs"] if row["steps"]] if document["ladder"] else []
    return described(document["search"], rungs)


def described(name: str, rungs: Sequence[str]) -> str:
    """A search by its name and the rungs of its halving, which are no part of the name."""
    return f"{name} by {', '.join(rungs)}" if rungs else name


def is_search(folder: Path) -> bool:
    """Whether a folder holds a search."""
    return (folder / FILE).exists()
