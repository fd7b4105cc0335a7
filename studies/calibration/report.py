"""What the simulations found: error and power of every method under every condition, a table and a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from bench.records import Record
from bench.report.columns import Column, Format
from bench.report.figures.style import (
    BAD,
    GOOD,
    GREY,
    NEUTRAL,
    PAPER,
    SMALL,
    WIDTH,
    axes,
    heading,
    legend_rows,
    save,
    sheet,
)
from bench.report.tables import write_tables
from bench.study import Report, Results
from studies.calibration.judging import METHODS
from studies.calibration.world import Condition

BOUND = 0.055  # that the upper 95 % Monte Carlo bound of the error may reach
CONFIDENCE = 0.95
NAMES = {"model": "model of the study", "former": "former method", "paired t": "paired t, Holm"}
LOOKS = {"model": (GOOD, "o"), "former": (NEUTRAL, "s"), "paired t": (BAD, "^")}
PERCENT = Format(".1f", scale=100, unit="%")
COLUMNS = [
    Column("variant", "Condition"),
    *(Column(f"{method} error", f"Error, {name}", PERCENT) for method, name in NAMES.items()),
    Column("upper", "Upper 95 % bound, model", PERCENT),
    Column("missed", "Studies with an interval that missed, model", PERCENT),
    *(Column(f"{method} power", f"Power, {name}", PERCENT) for method, name in NAMES.items()),
    Column("width", "Half width, model (points)", Format(".1f")),
    Column("trainings", "Trainings a study, model", Format(".0f")),
    Column("studies", "Studies", "count"),
]
_ROW = 0.17


def report_calibration(conditions: Sequence[Condition], results: Results) -> Report:
    """Write the table and the figure."""
    frame = pd.DataFrame([_row(condition, results.records.get(condition.label)) for condition in conditions])
    caption = (
        "Error: studies with any false statement (a difference where there is none, a wrong sign, an equivalence of "
        "networks more than delta apart). Power: true effects of 3 to 5 points found, with their sign."
    )
    files = write_tables(frame, COLUMNS, results.folder / "table", caption)
    if frame["model error"].notna().any():
        files += draw_calibration(frame, results.folder / "calibration")
    return Report(results.folder, frame, COLUMNS, caption, files, _sentences(frame))


def upper_bound(errors: int, studies: int) -> float:
    """The largest share of errors that so few are compatible with (Clopper and Pearson, one-sided 95 %)."""
    from scipy import special

    return 1.0 if errors == studies else float(special.betaincinv(errors + 1, studies - errors, CONFIDENCE))


def _row(condition: Condition, record: Record | None) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": condition.label, "out_of_reach": condition.out_of_reach}
    found = record.result if record is not None and record.status == "ok" else None
    row |= {"status": "" if found else "incomplete", "reason": "" if found else "not simulated yet"}
    if record is not None and record.status == "failed":
        row |= {"status": "failed", "reason": record.reason}
    studies: Any = found["studies"] if found else None
    for method in METHODS:
        row |= _rates(method, found["methods"][method] if found else None, studies, condition)
    own = found["methods"]["model"] if found else {}
    row["upper"] = upper_bound(own["false"], studies) if found else None
    row |= {"missed": own["missed"] / studies if found else None, "width": own.get("width")}
    return {**row, "trainings": own.get("trainings"), "studies": studies}


def _rates(method: str, counts: Mapping[str, Any] | None, studies: int | None, condition: Condition) -> dict[str, Any]:
    if counts is None or studies is None:
        return {f"{method} error": None, f"{method} power": None}
    power = counts["found"] / counts["there"] if condition.truth == "effects" else None
    return {f"{method} error": counts["false"] / studies, f"{method} power": power}


def _sentences(frame: pd.DataFrame) -> list[str]:
    known = frame[frame["upper"].notna()]
    if known.empty:
        return []
    over = known[(known["upper"] > BOUND) & (known["out_of_reach"] == "")]
    named = known[known["out_of_reach"] != ""]
    worst = known.loc[known["upper"].idxmax()]
    sentences = [
        f"{len(known)} of {len(frame)} conditions simulated. Largest error of the model: "
        f"{100 * worst['model error']:.1f} % (upper bound {100 * worst['upper']:.1f} %), with {worst['variant']}."
    ]
    where = "every condition" if len(known) == len(frame) else "each of these"
    but = " but those named as out of reach" if (named["upper"] > BOUND).any() else ""
    sentences += [f"Over the bound of {100 * BOUND:g} %: {', '.join(over['variant'])}."] if len(over) else [
        f"The upper bound is at most {100 * BOUND:g} % in {where}{but}."]  # fmt: skip
    told = "; ".join(f"{r.variant} ({r.out_of_reach}): {100 * r.upper:.1f} %" for r in named.itertuples())
    return (
        [*sentences, f"Named beforehand as out of reach, with the bound that was found: {told}."] if told else sentences
    )


def draw_calibration(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Error on the left and power on the right, one line a condition.

    Args:
        frame: of `report_calibration`.
        stem: path without an ending.
    """
    rows = frame[frame["model error"].notna()].reset_index(drop=True)
    with sheet(WIDTH, 1.7 + _ROW * len(rows)) as figure:
        heading(figure, "Error and power of three methods on simulated studies")
        handles = [Line2D([], [], ls="", marker=LOOKS[m][1], color=LOOKS[m][0], ms=5, label=NAMES[m]) for m in METHODS]
        legend_rows(figure, handles)
        left = axes(figure, left=3.75, right=2.2, top=0.85, bottom=0.75)
        right = axes(figure, left=WIDTH - 2.0, right=0.15, top=0.85, bottom=0.75)
        for ax, what in ((left, "error"), (right, "power")):
            for method in METHODS:
                colour, marker = LOOKS[method]
                shares = 100 * pd.to_numeric(rows[f"{method} {what}"])
                ax.plot(shares, rows.index, marker, color=colour, ms=4, mec=PAPER, mew=0.4, zorder=4)
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.grid(visible=True, axis="y", lw=0.3)
        left.hlines(rows.index, 100 * rows["model error"], 100 * rows["upper"], color=GOOD, lw=1.2, zorder=3)
        left.axvline(5, color=GREY, lw=0.9, ls="--")
        left.set_xscale("symlog", linthresh=10)
        left.set_xlim(-0.3, 60)
        left.set_xticks([0, 2, 5, 10, 20, 50], ["0", "2", "5", "10", "20", "50"])
        left.set_yticks(rows.index, rows["variant"], fontsize=SMALL - 1.5)
        left.set_xlabel("studies with a false statement (%)", fontsize=SMALL)
        right.set_yticks(rows.index, [""] * len(rows))
        right.set_xlim(-3, 103)
        right.set_xlabel("effects found (%)", fontsize=SMALL)
        note = "Lines: upper 95 % bound of the model's error. Dashed: 5 %. Power only where there are effects."
        return save(figure, stem, [note])
