"""The verdicts on the published figures as tables, sentences and a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.columns import Column, Format
from bench.report.tables import write_tables
from bench.study import Report
from studies.claims.judgement import (
    IMPOSSIBLE,
    MIXED,
    UNCONFIRMED,
    UNTESTABLE,
    VERDICTS,
    Finding,
    Network,
    judge,
    judge_headline,
)
from studies.claims.published import Headline, Peak, Row

CAPTION = (
    "Published figures and our counts. A count is confirmed if a counter in use rounds to it; a rate is impossible if "
    "its compulsory work (two operations for each exact MAC) exceeds the peak on the data sheet of the device."
)
COLUMNS = [
    Column("paper", "Paper"),
    Column("system", "System"),
    Column("dataset", "Data"),
    Column("metric", "Quantity"),
    Column("published", "Published"),
    Column("ours", "Ours", Format("z.4g")),
    Column("counter", "Counter"),
    Column("verdict", "Verdict"),
    Column("why", "Why"),
    Column("source", "Source"),
]
RAW_COLUMNS = [*COLUMNS, Column("share", "Share of peak", Format("z.3g")), Column("kind", "Kind")]
_LISTED = 6  # rows that a finding names


def report_claims(
    rows: Sequence[Row],
    headlines: Sequence[Headline],
    peaks: Sequence[Peak],
    networks: Sequence[Network],
    folder: Path,
) -> Report:
    """Judge everything and write `claims` (every row), `summary` (verdicts by paper) and the figures."""
    from studies.claims.figure import draw_claims

    findings = [judge(row, network, peaks, rows) for row, network in zip(rows, networks, strict=True)]
    told = [judge_headline(headline, rows, findings, networks) for headline in headlines]
    frame = claims_frame(rows, findings, headlines, told)
    counts = summary(frame)
    sentences = [_opening(frame), *_impossible(frame), *_mixed(frame), *_launches(rows, networks), *_unconfirmed(frame)]
    columns = [Column("paper", "Paper"), *(Column(key, key.capitalize(), "count") for key in counts.columns[1:])]
    files = write_tables(frame, RAW_COLUMNS, folder / "claims", CAPTION)
    files += write_tables(counts, columns, folder / "summary", "Verdicts on the published figures, by paper.")
    files += draw_claims(frame, folder / "claims")
    return Report(folder, counts, columns, "Verdicts on the published figures, by paper.", files, sentences)


def claims_frame(
    rows: Sequence[Row], findings: Sequence[Finding], headlines: Sequence[Headline], told: Sequence[Finding]
) -> pd.DataFrame:
    """One row a published figure: the headline claims, then the tables."""
    first = [_headline_row(headline, finding) for headline, finding in zip(headlines, told, strict=True)]
    return pd.DataFrame(first + [_table_row(row, finding) for row, finding in zip(rows, findings, strict=True)])


def _headline_row(headline: Headline, finding: Finding) -> dict[str, Any]:
    order = headline.relation.startswith("system ") and headline.relation.split()[1] in ("above", "below")
    return {
        "kind": "headline",
        "paper": headline.paper,
        "system": f"{headline.system} {headline.variant}".strip() + f" and {headline.reference}",
        "dataset": headline.dataset,
        "metric": headline.claim,
        "published": headline.relation.split()[1] if order else f"{headline.value} {headline.unit}",
        "number": float(headline.value),
        **vars(finding),
        "source": headline.source,
    }


def _table_row(row: Row, finding: Finding) -> dict[str, Any]:
    return {
        "kind": "table",
        "paper": paper_of(row.source),
        "system": row.name,
        "dataset": row.dataset,
        "metric": row.metric,
        "published": f"{row.value} {row.unit}",
        "device": row.device,
        "number": row.number,
        **vars(finding),
        "source": row.source,
    }


def paper_of(source: str) -> str:
    """The paper that a source belongs to; LALE's where no other is named."""
    return next((paper for paper in ("LWGANet", "LeMeViT", "LeMoRe", "BELDE") if source.startswith(paper)), "LALE")


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Verdicts by paper, and of all."""
    table = pd.crosstab(frame["paper"], frame["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    table = table.reindex(list(dict.fromkeys(frame["paper"])))
    table.loc["all"] = table.sum()
    table["figures"] = table.sum(axis=1)
    return table.reset_index(names="paper")


# --- sentences --------------------------------------------------------------------------------------------------


def _opening(frame: pd.DataFrame) -> str:
    tested = frame[frame["verdict"] != UNTESTABLE]
    parts = [f"{(tested['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS if verdict != UNTESTABLE]
    return (
        f"Of {len(frame)} published figures, {len(tested)} are testable without the authors' data, trainings and "
        f"devices: {', '.join(parts)}."
    )


def _impossible(frame: pd.DataFrame) -> list[str]:
    rows = frame[(frame["verdict"] == IMPOSSIBLE) & (frame["kind"] == "table")].sort_values("share", ascending=False)
    named = "; ".join(f"{r.system} {r.published} ({r.why})" for r in rows.itertuples())
    sentences = [f"Impossible rates: {named}."] if named else []
    claims = frame[(frame["verdict"] == IMPOSSIBLE) & (frame["kind"] == "headline")]
    return sentences + [f"Refuted with them, {r.paper}: {r.metric} ({r.published})." for r in claims.itertuples()]


def _mixed(frame: pd.DataFrame) -> list[str]:
    rows = frame[frame["verdict"] == MIXED]
    named = "; ".join(f"{r.metric} ({r.why})" for r in rows.itertuples())
    return [f"True of another variant than the one named: {named}."] if named else []


def _unconfirmed(frame: pd.DataFrame) -> list[str]:
    rows = frame[frame["verdict"] == UNCONFIRMED]
    claims = "; ".join(f"{r.paper}: {r.metric} ({r.why})" for r in rows[rows["kind"] == "headline"].itertuples())
    table = rows[(rows["kind"] == "table") & rows["ours"].notna()]
    away = (table["number"] / table["ours"].astype(float) - 1).abs()
    table = table.assign(away=away).sort_values("away", ascending=False)
    far = "; ".join(f"{r.system} {r.metric} {r.published}, ours {r.ours:.4g}" for r in table.head(_LISTED).itertuples())
    sentences = [f"Claims contradicted by the papers' own tables or by our counts: {claims}."] if claims else []
    if far:
        near = (table["away"] < 0.01).sum()
        sentences.append(
            f"Counts that no counter reproduces: {len(table)}, of which {near} within 1 %; largest deviations: {far}."
        )
    return sentences


def _launches(rows: Sequence[Row], networks: Sequence[Network]) -> list[str]:
    """Rates that follow the number of kernel launches, not the work, were timed without waiting for the device."""
    groups: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for row, network in zip(rows, networks, strict=True):
        counts = network.counts or {}
        if row.metric == "throughput" and row.device and counts.get("launches"):
            figures = (row.number, counts["launches"], counts["macs"])
            groups.setdefault((row.device, row.resolution), []).append(figures)
    return [sentence for group, found in groups.items() if (sentence := _launch_sentence(*group, found))]


def _launch_sentence(device: str, side: str, found: Sequence[tuple[float, int, int]]) -> str:
    products = [rate * launches for rate, launches, _ in found]
    macs = [work for _, _, work in found]
    spread, work = max(products) / min(products), max(macs) / min(macs)
    if len(found) < 6 or spread > 2 or work < 5:
        return ""
    return (
        f"{device}, {side} px: the product of rate and kernel launches is between {min(products) / 1e6:.0f} and "
        f"{max(products) / 1e6:.0f} million a second for all {len(found)} networks (a factor of {spread:.1f}), while "
        f"their MACs differ by a factor of {work:.0f}. Such rates measure how fast the host queues kernels, not how "
        "fast the device executes them."
    )
