"""What can be wrong with the labels of a data set, found from the pixel counts of its tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.data.classes import Classes

Severity = Literal["error", "warning"]
Counts = Mapping[str, np.ndarray]
"""For each split the pixels of each class, last the ignored ones, of each tile: (N, C + 1)."""


@dataclass(frozen=True)
class Problem:
    """One thing found; `text` is a sentence that names files, classes and counts.

    `kind` is missing, unmatched, unreadable, unknown, size, repeated, leak, manifest or empty (files), or unscorable,
    few, absent or shift (labels).
    """

    severity: Severity
    kind: str
    text: str


def label_problems(classes: Classes, counts: Counts) -> list[Problem]:
    """Splits that cannot be scored (errors); classes that lack pixels, values that look shifted by one, and too few
    test tiles for an interval (warnings)."""
    totals = {split: tiles.sum(0) for split, tiles in counts.items()}
    return [*_unscorable(counts), *_few_test_tiles(counts), *_absent(classes, totals), *_shifted(classes, totals)]


def labelled_tiles(tiles: np.ndarray) -> int:
    """How many tiles of counts (N, C + 1) have a labelled pixel."""
    return int(tiles[:, :-1].any(1).sum())


def _unscorable(counts: Counts) -> list[Problem]:
    return [
        Problem(
            "error",
            "unscorable",
            f"No pixel of the split {split} has a label (tiles: {len(tiles)}), so nothing can be trained or scored on "
            "it; label some of it, or move tiles there from another split.",
        )
        for split, tiles in counts.items()
        if len(tiles) and not labelled_tiles(tiles)
    ]


def _few_test_tiles(counts: Counts) -> list[Problem]:
    if "test" not in counts or labelled_tiles(counts["test"]) != 1:
        return []
    text = (
        "The split test has 1 tile with labels, and an interval over test images needs at least 2: one training can "
        "be scored, a study cannot; move tiles to it."
    )
    return [Problem("warning", "few", text)]


def _absent(classes: Classes, totals: Mapping[str, np.ndarray]) -> list[Problem]:
    """Classes without a pixel: anywhere, or in one of train and test only. Nothing is said of parts of a data set."""
    if not {"train", "test"} <= totals.keys():
        return []
    nowhere = np.sum(list(totals.values()), axis=0)[:-1] == 0
    train, test = totals["train"][:-1] > 0, totals["test"][:-1] > 0
    return [
        *_lacking(classes, nowhere, "has no pixel in any split", "have no pixel in any split"),
        *_lacking(
            classes,
            train & ~test & test.any(),
            "is in train but not in test, so a network that predicts it there gets F1 0 for it",
            "are in train but not in test, so a network that predicts one there gets F1 0 for it",
        ),
        *_lacking(
            classes,
            test & ~train & train.any(),
            "is in test but not in train, so no network can learn it",
            "are in test but not in train, so no network can learn them",
        ),
    ]


def _lacking(classes: Classes, which: Sequence[bool] | np.ndarray, one: str, several: str) -> list[Problem]:
    names = [name for name, lacks in zip(classes.names, which, strict=True) if lacks]
    if not names:
        return []
    text = f"The class {names[0]} {one}." if len(names) == 1 else f"The classes {', '.join(names)} {several}."
    return [Problem("warning", "absent", text)]


def _shifted(classes: Classes, totals: Mapping[str, np.ndarray]) -> list[Problem]:
    """Masks counted from 1: of all classes only the first occurs nowhere."""
    anywhere = np.sum(list(totals.values()), axis=0)[:-1]
    if "train" not in totals or anywhere[0] or not anywhere[1:].all():
        return []
    text = (
        f"No mask holds class 0 ({classes.names[0]}), and all others occur: the masks may count their classes from 1; "
        f"if the value 1 means {classes.names[0]}, write "
        '"value": 1, 2, 3 and so on into the rows of classes.json.'
    )
    return [Problem("warning", "shift", text)]
