"""Trainings that another machine recorded, taken over by a study that goes on here.

A training is one draw of what its determinants describe. Another processor or version of torch rounds otherwise, which
changes the draw and not what it is drawn from, so a study need not be trained twice because it moved. Times and counts
are not taken over: they belong to a machine or to a version.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.engine import Cell
from bench.records import Record, RecordStore, record_key

KIND = "train"
OF_THE_MACHINE = ("device", "versions")
"""Determinants of a training that may differ."""


def adopted(cells: Mapping[str, Cell], store: RecordStore, earlier: Mapping[str, str]) -> dict[str, Cell]:
    """The cells, by label; a training that is recorded of another machine stands for the one that it equals.

    Args:
        earlier: keys by label in the study's last manifest: what was reported once stays in the report.
    """
    trainings = {label: cell for label, cell in cells.items() if cell.kind == KIND}
    if all(earlier.get(label, cell.key) == cell.key and cell.key in store for label, cell in trainings.items()):
        return dict(cells)
    equals: dict[str, list[Record]] = {}
    for record in store.all(KIND):
        if record.status == "ok":
            equals.setdefault(_shared_key(record.determinants), []).append(record)
    found = dict(cells)
    for label, cell in trainings.items():
        choice = _choice(cell, equals.get(_shared_key(cell.determinants), []), earlier.get(label))
        if choice is not None:
            found[label] = replace(cell, determinants=choice.determinants)
    return found


def adoption_note(cells: Sequence[Cell], planned: Sequence[Cell]) -> str:
    """A sentence on what `adopted` took over, from the cells as laid out and as planned; empty if nothing."""
    taken = [new for old, new in zip(cells, planned, strict=True) if old.key != new.key]
    if not taken:
        return ""
    places = Counter(f"{c.determinants['device']}, torch {c.determinants['versions']['torch']}" for c in taken)
    where = "; ".join(f"{count} of {place}" for place, count in places.most_common())
    return (
        f"trainings recorded on other machines are taken as they are ({where}); to have all of this one, give another "
        "--out"
    )


def _shared_key(determinants: Mapping[str, Any]) -> str:
    return record_key(KIND, {name: value for name, value in determinants.items() if name not in OF_THE_MACHINE})


def _choice(cell: Cell, equals: Sequence[Record], earlier: str | None) -> Record | None:
    """What was reported before, then what this machine recorded, then the first by key."""
    by_key = {record.key: record for record in equals}
    wanted = [key for key in (earlier, cell.key, *sorted(by_key)) if key in by_key]
    return by_key[wanted[0]] if wanted else None
