"""How cost grows, as a table, sentences and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.columns import Column, Format
from bench.report.tables import write_tables
from bench.study import Report
from studies.scaling.growth import Growth, fit_growth, takeover_side

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
    Column("attention_share", "Attention at the largest side", Format("z.1f", 100.0, "%")),
    Column("takeover", "Attention over half from", Format(",.0f", 1.0, "px")),
]
POINT_COLUMNS = [
    Column("variant", "Network"),
    Column("side", "Side", Format(".0f", 1.0, "px")),
    Column("batch", "Batch", "count"),
    Column("params", "Parameters", "millions"),
    Column("macs", "MACs", "giga"),
    Column("attention_share", "of attention", Format("z.1f", 100.0, "%")),
    Column("peak_activation_bytes", "Peak activation memory", "bytes as MiB"),
    Column("latency_ms", "Latency", "ms", None, "latency_low", "latency_high"),
    Column("untimed", "Not timed since"),
]
CAPTION = (
    "Growth exponents over the side of the image (2 is linear in the pixels): cost ~ side^exponent. "
    "Counts are exact, so their 95 % interval tells how far they are from one power law, not noise."
)


@dataclass(frozen=True)
class Point:
    """One network at one side and batch: its counts and latency, or why there are none."""

    variant: str
    side: int
    batch: int
    counts: Mapping[str, Any] | None
    reason: str
    latency: Mapping[str, float] | None
    untimed: str


def report_growth(points: Sequence[Point], families: Mapping[str, str], batch_side: int, folder: Path) -> Report:
    """Write `points` (every measurement), `growth` (the exponents) and the figure."""
    from studies.scaling.figure import draw_scaling

    frame = points_frame(points)
    growth = growth_frame(frame, families, batch_side)
    files = write_tables(frame, POINT_COLUMNS, folder / "points", "Every measurement.")
    files += write_tables(growth, COLUMNS, folder / "growth", CAPTION)
    files += draw_scaling(frame, folder / "scaling")
    return Report(folder, growth, COLUMNS, CAPTION, files, _sentences(growth))


def points_frame(points: Sequence[Point]) -> pd.DataFrame:
    """One row a point; a point without counts keeps its reason."""
    return pd.DataFrame([_point(point) for point in points])


def _point(point: Point) -> dict[str, Any]:
    counts, latency = point.counts or {}, point.latency or {}
    keys = ("params", "macs", "attention_macs", "peak_activation_bytes", "activation_bytes", "launches")
    return {
        "variant": point.variant,
        "side": point.side,
        "batch": point.batch,
        **{key: counts.get(key) for key in keys},
        "attention_share": counts["attention_macs"] / counts["macs"] if counts else None,
        **{key: latency.get(key) for key in ("latency_ms", "latency_low", "latency_high")},
        "untimed": "" if latency or point.batch > 1 else point.untimed,
        "status": "" if counts else "not applicable",
        "reason": "" if counts else point.reason,
    }


def growth_frame(points: pd.DataFrame, families: Mapping[str, str], batch_side: int) -> pd.DataFrame:
    """One row a network; see `COLUMNS`."""
    return pd.DataFrame(
        [_growth(v, rows, families[v], batch_side) for v, rows in points.groupby("variant", sort=False)]
    )


def _growth(variant: str, rows: pd.DataFrame, family: str, batch_side: int) -> dict[str, Any]:
    sides = rows[(rows["batch"] == 1) & rows["macs"].notna()].sort_values("side")
    batches = rows[(rows["side"] == batch_side) & rows["macs"].notna()]
    timed = sides[sides["latency_ms"].notna()]
    reasons = list(dict.fromkeys(rows["reason"][rows["reason"] != ""]))
    return {
        "variant": variant,
        "family": family,
        **_exponents("macs", _fit(sides, "side", "macs")),
        **_exponents("memory", _fit(sides, "side", "peak_activation_bytes")),
        **_exponents("latency", _fit(timed, "side", "latency_ms")),
        **_exponents("batch", _fit(batches, "batch", "peak_activation_bytes")),
        "attention_share": sides["attention_share"].iloc[-1] if len(sides) else None,
        "takeover": takeover_side(sides["side"].tolist(), sides["attention_share"].tolist()) if len(sides) else None,
        "largest": sides["side"].iloc[-1] if len(sides) else None,
        "status": "not applicable" if reasons else "",
        "reason": f"at {int((rows['reason'] != '').sum())} of {len(rows)} points: {reasons[0]}" if reasons else "",
    }


def _fit(rows: pd.DataFrame, size: str, cost: str) -> Growth | None:
    return fit_growth(rows[size].tolist(), rows[cost].tolist())


def _exponents(name: str, growth: Growth | None) -> dict[str, float | None]:
    keys = (f"{name}_growth", f"{name}_low", f"{name}_high", f"{name}_last")
    values = (growth.exponent, growth.low, growth.high, growth.last) if growth else (None,) * 4
    return dict(zip(keys, values, strict=True))


def _sentences(growth: pd.DataFrame) -> list[str]:
    counted = growth[growth["macs_growth"].notna()].sort_values("macs_growth")
    named = ", ".join(f"{r.variant} {r.macs_growth:.2f} ({r.macs_last:.2f} at the end)" for r in counted.itertuples())
    over = counted[counted["takeover"].notna()].sort_values("takeover")
    taken = ", ".join(f"{r.variant} from {r.takeover:,.0f} px" for r in over.itertuples())
    rest = ", ".join(counted[counted["takeover"].isna()]["variant"])
    absent = "; ".join(f"{r.variant}: {r.reason}" for r in growth[growth["status"] != ""].itertuples())
    sentences = {
        f"MACs grow with the side to the power of: {named}.": named,
        f"Attention products are over half of the MACs in {taken}.": taken,
        f"They are not, at any side counted, in {rest}.": rest,
        f"Not applicable: {absent}.": absent,
    }
    return [sentence for sentence, content in sentences.items() if content]
