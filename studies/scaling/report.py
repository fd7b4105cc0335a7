"""How cost grows, as a table, sentences and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.columns import Column, Format
from bench.report.tables import write_tables
from bench.study import Report
from studies.scaling.growth import fit_growth, takeover_side

EXPONENT = Format("z.2f", interval="[]")
COLUMNS = [
    Column("variant", "Network"),
    Column("family", "Family"),
    Column("macs_growth", "MACs", EXPONENT, None, "macs_low", "macs_high"),
    Column("macs_last", "MACs, last doubling", Format("z.2f")),
    Column("memory_growth", "Memory", EXPONENT, None, "memory_low", "memory_high"),
    Column("memory_last", "Memory, last doubling", Format("z.2f")),
    Column("latency_growth", "Latency", EXPONENT, None, "latency_low", "latency_high"),
    Column("batch_growth", "Memory over batch", EXPONENT, None, "batch_low", "batch_high"),
    Column("attention_share", "Attention share of MACs at the largest side", Format("z.1f", 100.0, "%")),
    Column("takeover", "Attention above 50 % of MACs from", Format(",.0f", 1.0, "px")),
]
POINT_COLUMNS = [
    Column("variant", "Network"),
    Column("side", "Side", Format(".0f", 1.0, "px")),
    Column("batch", "Batch", "count"),
    Column("params", "Parameters", "millions"),
    Column("macs", "MACs", "giga"),
    Column("attention_share", "Attention share", Format("z.1f", 100.0, "%")),
    Column("peak_activation_bytes", "Peak activation memory", "bytes as MiB"),
    Column("latency_ms", "Latency", "ms", None, "latency_low", "latency_high"),
    Column("untimed", "Why not timed"),
]
CAPTION = (
    "Growth exponents over the side of the image (2 is linear in the pixels): cost ~ side^exponent. "
    "Counts are exact, so their 95 % interval shows the deviation from one power law, not noise."
)
COUNTS = ("params", "macs", "attention_macs", "peak_activation_bytes", "activation_bytes", "launches")
LATENCY = ("latency_ms", "latency_low", "latency_high")


def report_growth(points: pd.DataFrame, families: Mapping[str, str], batch_side: int, folder: Path) -> Report:
    """Write `points` (every measurement), `growth` (the exponents) and the figure.

    Args:
        points: rows of `point`.
        families: by network.
        batch_side: at which several batches were counted.
        folder: of the study.
    """
    from studies.scaling.figure import draw_scaling

    growth = growth_frame(points, families, batch_side)
    files = write_tables(points, POINT_COLUMNS, folder / "points", "All measurements.")
    files += write_tables(growth, COLUMNS, folder / "growth", CAPTION)
    files += draw_scaling(points, folder / "scaling") if points["macs"].notna().any() else []
    return Report(folder, growth, COLUMNS, CAPTION, files, _findings(growth))


def point(
    variant: str,
    side: int,
    batch: int,
    counts: Mapping[str, Any] | None,
    reason: str = "",
    latency: Mapping[str, float] | None = None,
    untimed: str = "",
) -> dict[str, Any]:
    """One network at one side and batch: its counts and latency, or why there are none."""
    found, times = counts or {}, latency or {}
    return {
        "variant": variant,
        "side": side,
        "batch": batch,
        **{key: found.get(key) for key in COUNTS},
        "attention_share": found["attention_macs"] / found["macs"] if found else None,
        **{key: times.get(key) for key in LATENCY},
        "untimed": "" if times or batch > 1 else untimed,
        "status": "" if found else "not applicable",
        "reason": "" if found else reason,
    }


def growth_frame(points: pd.DataFrame, families: Mapping[str, str], batch_side: int) -> pd.DataFrame:
    """One row a network; see `COLUMNS`."""
    return pd.DataFrame(
        [_growth(v, rows, families[v], batch_side) for v, rows in points.groupby("variant", sort=False)]
    )


def _growth(variant: str, rows: pd.DataFrame, family: str, batch_side: int) -> dict[str, Any]:
    sides = rows[(rows["batch"] == 1) & rows["macs"].notna()].sort_values("side")
    batches = rows[(rows["side"] == batch_side) & rows["macs"].notna()]
    reasons = list(dict.fromkeys(rows["reason"][rows["reason"] != ""]))
    return {
        "variant": variant,
        "family": family,
        **_exponents("macs", sides, "side", "macs"),
        **_exponents("memory", sides, "side", "peak_activation_bytes"),
        **_exponents("latency", sides[sides["latency_ms"].notna()], "side", "latency_ms"),
        **_exponents("batch", batches, "batch", "peak_activation_bytes"),
        "attention_share": sides["attention_share"].iloc[-1] if len(sides) else None,
        "takeover": takeover_side(sides["side"].tolist(), sides["attention_share"].tolist()) if len(sides) else None,
        "status": "not applicable" if reasons else "",
        "reason": f"at {int((rows['reason'] != '').sum())} of {len(rows)} points: {reasons[0]}" if reasons else "",
    }


def _exponents(name: str, rows: pd.DataFrame, size: str, cost: str) -> dict[str, float | None]:
    growth = fit_growth(rows[size].tolist(), rows[cost].tolist())
    keys = {"growth": "exponent", "low": "low", "high": "high", "last": "last"}
    return {f"{name}_{key}": getattr(growth, field, None) for key, field in keys.items()}


def _findings(growth: pd.DataFrame) -> list[str]:
    counted = growth[growth["macs_growth"].notna()].sort_values("macs_growth")
    named = ", ".join(f"{r.variant} {r.macs_growth:.2f} ({r.macs_last:.2f})" for r in counted.itertuples())
    over = counted[counted["takeover"].notna()].sort_values("takeover")
    taken = ", ".join(f"{r.variant} from {r.takeover:,.0f} px" for r in over.itertuples())
    rest = ", ".join(counted[counted["takeover"].isna()]["variant"])
    absent = "; ".join(f"{r.variant}: {r.reason}" for r in growth[growth["status"] != ""].itertuples())
    sentences = {
        f"Exponent of MACs over the side (between the last two sides): {named}.": named,
        f"Attention products exceed 50 % of the MACs: {taken}.": taken,
        f"They stay below 50 % at every side counted: {rest}.": rest,
        f"Not applicable: {absent}.": absent,
    }
    return [sentence for sentence, content in sentences.items() if content]
