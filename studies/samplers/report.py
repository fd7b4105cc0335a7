"""Samplers compared: hypervolume over evaluations and over compute, as tables, sentences and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Record
from bench.report.columns import Column, Format
from bench.report.tables import write_tables
from bench.study import Report, Results
from studies.samplers.contest import UNFILTERED

AT = (25, 50, 100, 200)
UNIT = Format("z.2f", 100.0, "points × GMACs", interval="[]", bounds="quartiles")
TRUTHS = {"gp": "a Gaussian process", "forest": "a forest"}
RUN_COLUMNS = [
    Column("model", "F1 from"),
    Column("sampler", "Sampler"),
    Column("repeat", "Repeat", "count"),
    *[Column(f"at_{at}", f"{at} evaluations", UNIT) for at in AT],
]
COLUMNS = [
    Column("model", "F1 from"),
    Column("sampler", "Sampler"),
    *[Column(f"at_{at}", f"{at} evaluations", UNIT, "high", f"low_{at}", f"high_{at}") for at in AT],
    Column("seconds", "CPU time per proposal", Format("z.2f", 1.0, "s"), "low"),
    Column("infeasible", "Over budget", Format("z.0f", 100.0, "%"), "low"),
]


def report_contest(results: Results, samplers: Sequence[str], models: Sequence[str], reference: str) -> Report:
    """Write `runs` (each search), `table` (medians and quartiles) and the figure.

    Args:
        results: records by "model | sampler | repeat".
        samplers, models: in the order in which they are shown.
        reference: the reference point of the hypervolume, for the caption.
    """
    from studies.samplers.figure import draw_contest

    folder, runs = results.folder, _runs(results)
    done = runs[runs["status"] == ""]
    frame = pd.DataFrame([_row(runs, model, sampler) for model in models for sampler in samplers])
    repeats = done["repeat"].nunique()
    caption = (
        f"Hypervolume of F1 times GMACs (reference: {reference}) of the front chosen by observed F1, valued by "
        f"expected F1: medians and quartiles over {repeats} repeats."
    )
    shown = done.drop(columns=["status", "reason"]) if len(done) == len(runs) else runs
    files = write_tables(shown, RUN_COLUMNS, folder / "runs", "Hypervolume of every search.")
    files += write_tables(frame, COLUMNS, folder / "table", caption)
    files += draw_contest(done, samplers, models, TRUTHS, folder / "samplers", caption) if len(done) else []
    return Report(folder, frame, COLUMNS, caption, files, _findings(frame, done, models))


def _runs(results: Results) -> pd.DataFrame:
    """One row a search: model, sampler, repeat, its result, or why there is none."""
    return pd.DataFrame([_run(label, results.records.get(label)) for label in results.manifest.cells])


def _run(label: str, record: Record | None) -> dict[str, Any]:
    model, sampler, repeat = label.split(" | ")
    found: Mapping[str, Any] = record.result if record is not None and record.status == "ok" else {}
    curve = found.get("hypervolume", [])
    return {
        "model": model,
        "sampler": sampler,
        "repeat": int(repeat),
        "hypervolume": curve,
        **{key: found.get(key) for key in ("macs", "seconds", "infeasible")},
        **{f"at_{at}": curve[at - 1] if len(curve) >= at else float("nan") for at in AT},
        "status": "" if found else record.status if record is not None else "missing",
        "reason": "" if found else record.reason if record is not None else "not run yet",
    }


def _row(runs: pd.DataFrame, model: str, sampler: str) -> dict[str, Any]:
    """Medians and quartiles over the repeats of a sampler."""
    every = runs[(runs["model"] == model) & (runs["sampler"] == sampler)]
    own = every[every["status"] == ""]
    row: dict[str, Any] = {"model": TRUTHS[model], "key": model, "sampler": sampler, "repeats": len(own)}
    for at in AT:
        quartiles = own[f"at_{at}"].astype(float).quantile([0.25, 0.5, 0.75])
        row |= dict(zip((f"low_{at}", f"at_{at}", f"high_{at}"), quartiles, strict=True))
    tries = own["hypervolume"].map(len)
    row |= {"seconds": (own["seconds"] / tries).median(), "infeasible": (own["infeasible"] / tries).mean()}
    lost = every[every["status"] != ""]
    if lost.empty:
        return row
    return row | {"status": lost["status"].iloc[0], "reason": f"{len(lost)} of {len(every)}: {lost['reason'].iloc[0]}"}


def _findings(frame: pd.DataFrame, runs: pd.DataFrame, models: Sequence[str]) -> list[str]:
    found = []
    for model in models:
        rows = frame[frame["key"] == model].set_index("sampler")
        found += [_leader(rows, model, at) for at in AT if rows[f"at_{at}"].notna().sum() >= 2]
        found += _against_unfiltered(runs[runs["model"] == model], model)
    return found


def _leader(rows: pd.DataFrame, model: str, at: int) -> str:
    """Which sampler has the highest median after so many evaluations, of those that made so many."""
    known = rows[rows[f"at_{at}"].notna()]
    best = str(known[f"at_{at}"].idxmax())
    below = [name for name in known.index if known.loc[name, f"high_{at}"] < known.loc[best, f"low_{at}"]]
    level = [name for name in known.index if name not in (best, *below)]
    parts = [f"are disjoint from those of {', '.join(below)}"] if below else []
    parts += [f"overlap those of {', '.join(level)}"] if level else []
    given = f"F1 from {TRUTHS[model]}, {at} evaluations"
    return f"{given}: {best} has the highest median; its quartiles {' and '.join(parts)}."


def _against_unfiltered(runs: pd.DataFrame, model: str) -> list[str]:
    """After how many evaluations the others reach, in the median, the unfiltered random sampler's last value."""
    curves = {name: np.median(np.array(own["hypervolume"].tolist()), axis=0) for name, own in runs.groupby("sampler")}
    if UNFILTERED not in curves:
        return []
    plain = curves.pop(UNFILTERED)
    over = runs[runs["sampler"] == UNFILTERED]["infeasible"].mean() / len(plain)
    reached = {name: int(np.argmax(curve >= plain[-1])) + 1 for name, curve in curves.items() if curve[-1] >= plain[-1]}
    named = ", ".join(f"{name} after {at}" for name, at in sorted(reached.items(), key=lambda one: one[1]))
    return [
        f"F1 from {TRUTHS[model]}: {100 * over:.0f} % of the proposals of {UNFILTERED} exceed the budget; its "
        f"hypervolume after {len(plain)} evaluations is reached by {named or 'no other sampler'}."
    ]
