"""The papers' own figures, as they printed them: tables, headline claims, and the peak rates of the devices named."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar, get_args

from bench.errors import BenchError

T = TypeVar("T")
Relation = Literal[
    "reference over system",
    "system over reference",
    "reference minus system",
    "system minus reference",
    "system above reference",
    "system below reference",
]


def half_last_digit(text: str) -> float:
    """How far a value may lie from a printed one that it rounds to: "0.59" is 0.005, "17" is 0.5."""
    decimals = len(text.partition(".")[2])
    return 0.5 * 10.0**-decimals


@dataclass(frozen=True)
class Row:
    """One figure of a published table; every field is the text that was read.

    `resolution`: side in pixels, or HxW; `device`, `batch`, `precision`: of a timing; empty where not stated.
    """

    system: str
    variant: str
    dataset: str
    metric: str
    value: str
    unit: str
    resolution: str
    source: str
    note: str
    device: str
    batch: str
    precision: str

    @property
    def number(self) -> float:
        """The printed value."""
        return float(self.value)

    @property
    def tolerance(self) -> float:
        """Half of the last printed digit."""
        return half_last_digit(self.value)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the input, where they are printed."""
        sides = [int(side) for side in self.resolution.split("x") if side]
        return (sides[0], sides[-1]) if sides else None

    @property
    def name(self) -> str:
        """System and variant."""
        return f"{self.system} {self.variant}".strip()

    def same_run(self, other: "Row") -> bool:
        """Whether both are of one network on one data set."""
        mine, others = ((r.system, r.variant, r.dataset) for r in (self, other))
        return mine == others


@dataclass(frozen=True)
class Headline:
    """A claim that compares two systems; `others` are further variants of the system, separated by `;`."""

    paper: str
    claim: str
    quantity: str
    relation: Relation
    system: str
    variant: str
    others: str
    reference: str
    reference_variant: str
    dataset: str
    value: str
    unit: str
    source: str

    @property
    def candidates(self) -> list[str]:
        """The variant that the claim names, then the others of its family."""
        return [self.variant, *(v for v in self.others.split(";") if v)]


@dataclass(frozen=True)
class Peak:
    """The peak of a part of a device in a precision, in 10^12 operations a second (two a MAC)."""

    device: str
    part: str
    precision: str
    peak_tflops: str
    source: str

    @property
    def flops(self) -> float:
        """Operations a second."""
        return float(self.peak_tflops) * 1e12


def read_published(path: Path) -> list[Row]:
    """The tables' figures.

    Raises:
        BenchError: the file is missing, lacks a column, or holds a value that is no number.
    """
    return _read(path, Row, lambda row: float(row.value))


def read_headlines(path: Path) -> list[Headline]:
    """The headline claims.

    Raises:
        BenchError: as `read_published`, or a relation is not known.
    """
    return _read(path, Headline, _check_headline)


def read_peaks(path: Path) -> list[Peak]:
    """The peak rates.

    Raises:
        BenchError: as `read_published`.
    """
    return _read(path, Peak, lambda peak: float(peak.peak_tflops))


def _check_headline(headline: Headline) -> None:
    float(headline.value)
    if headline.relation not in get_args(Relation):
        raise ValueError(f"the relation {headline.relation!r} is none of {', '.join(get_args(Relation))}")


def _read(path: Path, kind: type[T], check: Callable[[T], object]) -> list[T]:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lacking = sorted(set(names) - set(reader.fieldnames or ()))
            if lacking:
                raise BenchError(f"{path.name} lacks the column {lacking[0]!r}; its columns are {', '.join(names)}")
            rows = [kind(**{name: line[name] or "" for name in names}) for line in reader]
    except OSError as error:
        raise BenchError(
            f"{path.name} cannot be read ({error.strerror}); it belongs to the package studies.claims"
        ) from None
    for number, row in enumerate(rows, 2):
        try:
            check(row)
        except ValueError as error:
            raise BenchError(f"{path.name}, line {number}: {error}") from None
    return rows
