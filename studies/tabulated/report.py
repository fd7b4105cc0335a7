"""A table of trainings as a tabulated benchmark: files, the surrogates' errors, sentences and a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError
from bench.records import Record
from bench.records.atomic import write_atomically
from bench.report.columns import Column, Format
from bench.report.tables import write_tables
from bench.search.halving import agreement
from bench.search.space import config_key
from bench.study import Report
from studies.tabulated.benchmark import (
    FILE,
    FOLDS,
    FORMAT,
    MODELS,
    SURROGATES,
    Fit,
    Scope,
    held_out,
    judge,
    points_of,
)
from studies.tabulated.noise import Noise, deviations_of, noise_of

FEWEST = 30  # configs below which no surrogate is fitted
POINTS = Format("z.2f", 100.0, "points")
COLUMNS = [
    Column("ranked_by", "Ranked by"),
    Column("tau", "Kendall's τ with the trained F1", Format("z.2f", interval="[]"), "high", "low", "high"),
    Column("r2", "Variance explained", Format("z.1f", 100.0, "%"), "high"),
    Column("rmse", "RMSE of the F1", POINTS, "low"),
]


@dataclass(frozen=True)
class Training:
    """A config that is trained with a seed."""

    config: Any
    seed: int


def report_tabulated(
    scope: Scope, trainings: Mapping[str, Training], records: Mapping[str, Record], folder: Path
) -> Report:
    """Write `table` (each training), `fits` (what predicts F1 how well), the benchmark itself and the figure."""
    from studies.tabulated.figure import draw_tabulated

    table = _table(scope, trainings, records)
    files = [write_atomically(folder / "table.csv", table.to_csv(index=False, lineterminator="\n").encode())]
    good = table[table["status"] == "ok"]
    if good["config_key"].nunique() < FEWEST or not good["config_key"].duplicated().any():
        said = f"{len(good)} of {len(trainings)} trainings are done: too few for a surrogate."
        columns = [Column("config_key", "Config"), Column("seed", "Seed", "count"), Column("f1", "F1", "percent")]
        return Report(folder, table, columns, said, files, [said])
    about, noise = _about(records), noise_of(good)
    _, f1, _ = points_of(scope, good, noise)
    predicted = {model: held_out(scope, good, model, noise) for model in MODELS}
    fits = [judge(model, values, f1) for model, values in predicted.items()]
    best = min(fits, key=lambda fit: fit.rmse)
    files.append(write_atomically(folder / FILE, _document(scope, noise, fits, about)))
    frame = _rankings(good, fits, predicted, f1)
    caption = (
        f"Prediction of the F1 of a config: surrogates on configs that they have not seen ({FOLDS} folds), and cost "
        f"alone. {good['config_key'].nunique()} configs of LALE, {about['recipe']['steps']} steps each on "
        f"{about['name']}. {noise_sentence(good, noise)}"
    )
    files += write_tables(frame, COLUMNS, folder / "fits", caption)
    files += draw_tabulated(good, predicted[best.model], f1, noise.typical, best, folder / "tabulated")
    return Report(folder, frame, COLUMNS, caption, files, _sentences(table, frame, best, noise))


def _table(scope: Scope, trainings: Mapping[str, Training], records: Mapping[str, Record]) -> pd.DataFrame:
    rows = []
    for label, one in trainings.items():
        record, cost = records.get(label), scope.price(one.config)
        ok = record is not None and record.status == "ok"
        rows.append(
            {
                "config_key": config_key(one.config),
                **scope.space.params(one.config),
                "params": cost.params,
                "macs": cost.macs,
                "deployed_macs": cost.deployed_macs,
                "seed": one.seed,
                "f1": record.result["val_scores"]["macro_f1"] if record and ok else None,
                "status": "missing" if record is None else record.status,
                "reason": "" if record is None or ok else record.reason,
            }
        )
    return pd.DataFrame(rows)


def _about(records: Mapping[str, Record]) -> dict[str, Any]:
    """What all trainings share.

    Raises:
        BenchError: they do not share it, so no surrogate may be fitted to all of them.
    """
    found = {
        json.dumps({key: r.determinants[key] for key in ("data", "recipe")}, sort_keys=True) for r in records.values()
    }
    if len(found) != 1:
        raise BenchError("the trainings of the table differ in data or recipe; make the table in a folder of its own")
    torch = sorted({record.determinants["versions"]["torch"] for record in records.values()})
    name = next(iter(records.values())).about.get("data", "")
    return {**json.loads(found.pop()), "torch": torch, "name": name}


def _document(scope: Scope, noise: Noise, fits: list[Fit], about: Mapping[str, Any]) -> bytes:
    document = {
        "format": FORMAT,
        "scope": scope.to_dict(),
        "noise": asdict(noise),
        "fits": [asdict(fit) for fit in fits],
        "about": about,
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _rankings(table: pd.DataFrame, fits: list[Fit], predicted: Mapping[str, Any], f1: Any) -> pd.DataFrame:
    costs = table.groupby("config_key", sort=False)[["params", "macs"]].first()
    rows = [
        {
            "ranked_by": f"surrogate: {SURROGATES[fit.model]}",
            **_tau(predicted[fit.model], f1),
            "r2": fit.r2,
            "rmse": fit.rmse,
        }
        for fit in fits
    ]
    rows += [{"ranked_by": f"{what} alone", **_tau(costs[key].to_numpy(), f1)} for what, key in
             (("parameters", "params"), ("MACs", "macs"))]  # fmt: skip
    return pd.DataFrame(rows)


def _tau(values: Any, f1: Any) -> dict[str, float]:
    found = agreement(values, f1)
    return {key: found[key] for key in ("tau", "low", "high")}


def _sentences(table: pd.DataFrame, frame: pd.DataFrame, best: Fit, noise: Noise) -> list[str]:
    lost = table[table["status"] != "ok"]
    macs = frame[frame["ranked_by"] == "MACs alone"].iloc[0]
    sentences = [
        f"The surrogate ({SURROGATES[best.model]}) predicts the F1 of configs it has not seen: held-out RMSE "
        f"{100 * best.rmse:.2f} points, Kendall's tau {best.tau:.2f} ({macs.tau:.2f} by MACs alone).",
        noise_sentence(table[table["status"] == "ok"], noise),
    ]
    if len(lost):
        sentences.append(f"{len(lost)} of {len(table)} trainings failed or are missing.")
    return sentences


def noise_sentence(table: pd.DataFrame, noise: Noise) -> str:
    """Which noise is which: of the typical config, of single ones, before and after they are shrunk towards it."""
    plain, shrunk = deviations_of(table), list(noise.configs.values())
    return (
        "Standard deviation between trainings of one config, without what all trainings of a seed share: "
        f"{100 * noise.typical:.2f} points in the typical config, and {100 * min(shrunk):.2f} to "
        f"{100 * max(shrunk):.2f} in the {len(shrunk)} that were trained more than once, shrunk towards it from "
        f"{100 * plain.min():.2f} to {100 * plain.max():.2f}. A simulated training has the deviation of its config, or "
        f"one drawn from theirs (scaled inverse chi squared, {noise.freedom:.1f} degrees of freedom)."
    )
