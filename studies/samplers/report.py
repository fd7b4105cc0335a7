"""Samplers against each other: hypervolume by evaluations and by compute, as tables, sentences and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Record
from bench.report.columns import Column, Format
from bench.report.tables import write_tables
from bench.search.budget import Budget
from bench.study import Report
from studies.samplers.contest import UNFILTERED

AT = (25, 50, 100, 200)
FILTERED = ("random", "nsga2")  # what a model has to beat
UNIT = Format("z.2f", 100.0, "points × GMACs", interval="[]", bounds="quartiles")
TRUTHS = {"gp": "a Gaussian process", "forest": "a forest"}


def report_contest(
    records: Mapping[str, Record],
    samplers: Sequence[str],
    models: Sequence[str],
    budget: Budget,
    worst_f1: float,
    folder: Path,
) -> Report:
    """Write `runs` (each search), `table` (medians and quartiles) and the figure.

    Args:
        records: by "model | sampler | repeat".
        samplers, models: in the order in which they are shown.
        budget, worst_f1: of the contest, for the caption.
        folder: of the study.
    """
    from studies.samplers.figure import draw_contest

    runs = _runs(records)
    frame = pd.DataFrame([_row(runs, model, sampler) for model in models for sampler in samplers])
    files = []
    if not runs.empty:
        shown = [Column("model", "Truth"), Column("sampler", "Sampler"), Column("repeat", "Repeat", "count")]
        files += write_tables(_flat(runs), [*shown, *[Column(f"at_{at}", f"{at} evaluations", UNIT) for at in AT]],
                              folder / "runs", "Hypervolume of every search.")  # fmt: skip
    caption = (
        f"Hypervolume of F1 times GMACs (reference: F1 {100 * worst_f1:g} %, {budget.max_gmacs:g} GMACs) of the front "
        "that a user would choose by observed F1, valued by expected F1: medians and quartiles over "
        f"{runs['repeat'].nunique() if len(runs) else 0} repeats."
    )
    columns = _columns()
    files += write_tables(frame, columns, folder / "table", caption)
    if not runs.empty:
        files += draw_contest(runs, samplers, models, TRUTHS, folder / "samplers", caption)
    return Report(folder, frame, columns, caption, files, _sentences(frame, runs, models))


def _runs(records: Mapping[str, Record]) -> pd.DataFrame:
    """One row a search that was finished: model, sampler, repeat, and its result."""
    rows = []
    for label, record in records.items():
        if record.status == "ok":
            model, sampler, repeat = label.split(" | ")
            rows.append({"model": model, "sampler": sampler, "repeat": int(repeat), **record.result})
    return pd.DataFrame(rows, columns=["model", "sampler", "repeat", "hypervolume", "macs", "seconds", "infeasible"])


def _flat(runs: pd.DataFrame) -> pd.DataFrame:
    flat = runs[["model", "sampler", "repeat", "seconds", "infeasible"]].copy()
    for at in AT:
        flat[f"at_{at}"] = [_value(one, at) for one in runs["hypervolume"]]
    return flat


def _value(curve: Sequence[float], at: int) -> float:
    return curve[at - 1] if len(curve) >= at else float("nan")


def _row(runs: pd.DataFrame, model: str, sampler: str) -> dict[str, Any]:
    own = runs[(runs["model"] == model) & (runs["sampler"] == sampler)]
    row: dict[str, Any] = {"model": TRUTHS[model], "key": model, "sampler": sampler, "repeats": len(own)}
    for at in AT:
        values = np.array([_value(curve, at) for curve in own["hypervolume"]])
        values = values[np.isfinite(values)]
        quartiles = np.quantile(values, (0.25, 0.5, 0.75)) if len(values) else (np.nan,) * 3
        row |= dict(zip((f"low_{at}", f"at_{at}", f"high_{at}"), map(float, quartiles), strict=True))
    if len(own):
        tries = own["hypervolume"].map(len)
        row["seconds"] = float((own["seconds"] / tries).median())
        row["infeasible"] = float((own["infeasible"] / tries).mean())
    return row | ({} if len(own) else {"status": "missing", "reason": "not run yet"})


def _columns() -> list[Column]:
    return [
        Column("model", "Truth"),
        Column("sampler", "Sampler"),
        *[Column(f"at_{at}", f"{at} evaluations", UNIT, "high", f"low_{at}", f"high_{at}") for at in AT],
        Column("seconds", "A proposal takes", Format("z.2f", 1.0, "s"), "low"),
        Column("infeasible", "Over budget", Format("z.0f", 100.0, "%"), "low"),
    ]


def _sentences(frame: pd.DataFrame, runs: pd.DataFrame, models: Sequence[str]) -> list[str]:
    said = []
    for model in models:
        found = frame[frame["key"] == model].set_index("sampler")
        said += [_ahead(found, model, at) for at in AT if found[f"at_{at}"].notna().sum() >= 2]
        said += _against_unfiltered(runs[runs["model"] == model])
    return said


def _ahead(found: pd.DataFrame, model: str, at: int) -> str:
    """Who leads after so many evaluations, of those that made so many."""
    known = found[found[f"at_{at}"].notna()]
    best = str(known[f"at_{at}"].idxmax())
    beaten = [name for name in known.index if known.loc[name, f"high_{at}"] < known.loc[best, f"low_{at}"]]
    level = [name for name in known.index if name not in (best, *beaten)]
    return (
        f"F1 as {TRUTHS[model]} has it, {at} evaluations: of those that made so many {best} is ahead"
        + (f", clear of {', '.join(beaten)} (quartiles do not overlap)" if beaten else "")
        + (f", level with {', '.join(level)}" if level else "")
        + "."
    )


def _against_unfiltered(runs: pd.DataFrame) -> list[str]:
    """After how many evaluations the others have, in the median, what chance without a filter has at its end."""
    curves = {name: np.median(np.array(own["hypervolume"].tolist()), axis=0) for name, own in runs.groupby("sampler")}
    if UNFILTERED not in curves:
        return []
    plain = curves.pop(UNFILTERED)
    over = runs[runs["sampler"] == UNFILTERED]["infeasible"].mean() / len(plain)
    reached = {name: int(np.argmax(curve >= plain[-1])) + 1 for name, curve in curves.items() if curve[-1] >= plain[-1]}
    named = ", ".join(f"{name} after {at}" for name, at in sorted(reached.items(), key=lambda one: one[1]))
    return [
        f"There {over:.0%} of what {UNFILTERED} proposes breaks the budget; what it has after "
        f"{len(plain)} evaluations, others have earlier: {named or 'none'}.".replace("%", " %")
    ]
