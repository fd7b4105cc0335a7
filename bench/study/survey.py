"""A survey: a question with cells and a report of its own, as what the papers claim, or how cost grows.

A survey says which cells it wants and what it makes of their records; everything else (records, resuming, plans,
progress) is that of the studies. It stands in `studies/` under the same constant, `STUDY`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from bench.engine import Cell, run_cells
from bench.errors import BenchError
from bench.records import Record, RecordStore
from bench.records.atomic import write_atomically
from bench.records.environment import environment
from bench.study.report import Report

FILE = "survey.json"
FORMAT = "lale-bench survey 1"
RECORDS = "records"


@runtime_checkable
class Survey(Protocol):
    """What a survey has to offer.

    Attributes:
        name: of the output folder; lower-case letters, digits, hyphens.
        question: one sentence.
    """

    name: str
    question: str

    def cells(self, device: str) -> dict[str, Cell]:
        """What is to be measured, by a label that is unique in the survey; plain counts where that is enough."""
        ...

    def report(self, records: Mapping[str, Record], folder: Path) -> Report:
        """Write tables and figures into `folder`, from the records that are there, by the labels of the cells."""
        ...


@dataclass(frozen=True)
class SurveyPlan:
    """The cells of a survey on a device, and where its results go; records are shared by all studies in `out`."""

    survey: Survey
    device: str
    labelled: dict[str, Cell]
    folder: Path
    store: RecordStore

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the order they are measured."""
        return tuple(self.labelled.values())


def plan_survey(survey: Survey, device: str, out: Path) -> SurveyPlan:
    """Lay out the cells."""
    return SurveyPlan(survey, device, survey.cells(device), out / survey.name, RecordStore(out / RECORDS))


def run_survey(plan: SurveyPlan, *, console: Console | None = None, retry_failed: bool = False) -> None:
    """Measure what is missing; the manifest is saved first, so that a part of a survey can be looked at.

    Raises:
        BenchError: the disk is full, or a record is damaged.
        StudyInterrupted: Ctrl-C; the same survey goes on from there.
    """
    keys = {label: cell.key for label, cell in plan.labelled.items()}
    document = {
        "format": FORMAT,
        "survey": plan.survey.name,
        "question": plan.survey.question,
        "device": plan.device,
        "cells": keys,
    }
    write_atomically(plan.folder / FILE, (json.dumps(document, indent=1) + "\n").encode())
    where = environment(plan.device)
    run_cells(plan.cells, plan.store, environment=where, console=console, retry_failed=retry_failed)


def is_survey(folder: Path) -> bool:
    """Whether a survey wrote this folder."""
    return (folder / FILE).is_file()


def load_records(folder: Path) -> dict[str, Record]:
    """The records of a survey's folder that are there, by the labels of their cells.

    Raises:
        BenchError: the folder holds no survey.
    """
    keys = _manifest(folder)["cells"]
    store = RecordStore(folder.parent / RECORDS)
    found = {label: store.get(key) for label, key in keys.items()}
    return {label: record for label, record in found.items() if record is not None}


def survey_name(folder: Path) -> str:
    """Which survey wrote the folder.

    Raises:
        BenchError: the folder holds no survey.
    """
    return _manifest(folder)["survey"]


def report_survey(survey: Survey, folder: Path) -> Report:
    """Make a survey's tables and figures from its records.

    Raises:
        BenchError: the folder holds no survey.
    """
    return survey.report(load_records(folder), folder)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{folder} holds no survey that can be read ({error}); run it again, records are kept"
        ) from None
    if document.get("format") != FORMAT:
        raise BenchError(f"{path} is no survey of this version; run it again, its records are kept")
    return document
