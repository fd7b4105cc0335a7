"""What a study is: a question, cells under a setting, and a report of their records.

The manifest says which records belong to it. It is written beside the study's tables, so that these can be made again
from the records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from bench.engine import Cell
from bench.errors import BenchError
from bench.records import Record
from bench.records.atomic import write_atomically
from bench.report.columns import Column
from bench.report.tables import TerminalTable, rich_table
from bench.stats.verdicts import DELTA
from bench.training.recipe import RECIPES, Recipe

FILE = "study.json"
FORMAT = "lale-bench study 2"


@dataclass(frozen=True)
class Manifest:
    """A study as it was planned.

    Attributes:
        study: its name.
        question: one sentence.
        source: where its code is: the name of a study of the suite, the path of a file relative to the study's folder
            (or its name), or empty for a `VariantStudy`, which `details` declares.
        setting: the device, and what else of the setting the study read; see `bench.study.Setting.to_dict`.
        cells: by label, the keys of the records in the `records` folder beside the study's own.
        skipped: what was not measured, and why.
        details: see `bench.study.Layout`.
    """

    study: str
    question: str
    source: str
    setting: Mapping[str, Any]
    cells: Mapping[str, str]
    skipped: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return self.setting["device"]

    @property
    def declared(self) -> bool:
        """Whether the manifest itself says what was compared, as that of a `VariantStudy` does."""
        return not self.source and "variants" in self.details

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Manifest":
        """The manifest of `to_dict`.

        Raises:
            BenchError: it is of another version.
        """
        if document.get("format") != FORMAT:
            raise BenchError(
                "the manifest is of another version; carry the folder of the results over by `lale-bench records "
                "upgrade`, or run the study again, its records are kept"
            )
        return cls(**{key: value for key, value in document.items() if key != "format"})

    def save(self, folder: Path) -> Path:
        """Write the manifest into the study's folder, whole."""
        return write_atomically(folder / FILE, (json.dumps(self.to_dict(), indent=1) + "\n").encode())


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a study's folder.

    Raises:
        BenchError: there is none, or it cannot be read.
    """
    path = folder / FILE
    try:
        return Manifest.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BenchError(f"{folder} holds no study ({FILE} is missing); give a folder that a study wrote") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BenchError(f"{path} cannot be read ({error}); run the study again, its records are kept") from None
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from None


RECORDS = "records"
"""Folder of records, beside those of the studies that have them."""
WEIGHTS = "weights"
"""Folder of kept weights, beside that of the records: `<key of the training>.safetensors`."""


@dataclass(frozen=True)
class Setting:
    """Under what conditions a study is run; what determines a figure ends up in its record.

    Attributes:
        data: a data source (see `bench.data.open_data`).
        recipe: how every network is trained.
        seeds: one training a seed; variants are paired by seed.
        folds: into how many parts the scenes are divided, each seed then being trained once a fold and tested on
            every scene (see `bench.data.folds`); 0 keeps the splits of the data.
        device: "cpu" or "cuda".
        size: height and width at which counts and speed are taken.
        batches: batch sizes at which speed is taken; the first is that of the latency.
        out: folder of the results; records are shared by all studies in it.
        delta: difference of macro F1 (a share) up to which two networks count as equivalent.
        keep_weights: whether the best weights of every training are kept (in `out/weights`).
        log: whether trainings write curves for TensorBoard (in `out/tensorboard`).
    """

    data: str = "world"
    recipe: Recipe = RECIPES["quick"]
    seeds: Sequence[int] = (0, 1, 2)
    folds: int = 0
    device: str = "cpu"
    size: tuple[int, int] = (256, 256)
    batches: Sequence[int] = (1, 8)
    out: Path = Path("runs")
    delta: float = DELTA
    keep_weights: bool = False
    log: bool = False

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain JSON of the fields `names` and the device; without `data`, `out` and `log`, which are of one host."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name in ("device", *names)}
        kept = {name: value for name, value in kept.items() if name not in ("data", "log")}
        return {key: value.to_dict() if isinstance(value, Recipe) else value for key, value in kept.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], data: str, out: Path) -> "Setting":
        """The setting of `to_dict`, with this host's data source and output folder."""
        given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        if "recipe" in given:
            given["recipe"] = Recipe.from_dict(given["recipe"])
        return cls(**given, data=data, out=out)


@dataclass(frozen=True)
class Layout:
    """What a study measures under a setting.

    Attributes:
        cells: by a label that is unique in the study, in the order in which they are measured.
        skipped: what is not measured, and why.
        details: what the report needs beside the records, as plain JSON; it stands in the manifest.
    """

    cells: Mapping[str, Cell]
    skipped: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What a report is made of.

    Attributes:
        manifest: of the study as it was planned.
        records: those that are there, by the labels of their cells.
        folder: where tables and figures go.
        data: a data source for pictures of tiles; None leaves these out.
    """

    manifest: Manifest
    records: Mapping[str, Record]
    folder: Path
    data: str | None = None


@dataclass(frozen=True)
class Report:
    """What was written for a study, and its findings in sentences."""

    folder: Path
    frame: pd.DataFrame
    columns: list[Column]
    caption: str
    files: list[Path]
    findings: list[str]

    def table(self) -> TerminalTable:
        """The main table, for `rich.print`."""
        return rich_table(self.frame, self.columns, self.caption)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: rows, findings, files."""
        rows = self.frame.astype(object).where(self.frame.notna(), None).to_dict("records")
        return {"rows": rows, "findings": self.findings, "files": [path.name for path in self.files]}


@runtime_checkable
class Study(Protocol):
    """What a study has to offer; `bench.study.testing.StudyTestCase` tests it.

    `VariantStudy` is the implementation for networks that are counted, timed and trained side by side. A study of
    another kind, in `studies/` or in a file of the user's own, holds an object with these members as `STUDY`.

    Attributes:
        name: of the output folder; lower-case letters, digits, hyphens.
        question: one sentence.
        uses: fields of the `Setting` that it reads, beside `device` and `out`; options for others are refused.
    """

    @property
    def name(self) -> str: ...

    @property
    def question(self) -> str: ...

    @property
    def uses(self) -> Sequence[str]: ...

    def layout(self, setting: Setting) -> Layout:
        """What is to be measured. Trains and times nothing.

        Raises:
            BenchError: it cannot be measured under this setting.
        """
        ...

    def report(self, results: Results) -> Report:
        """Write tables and figures from the records that are there; cells without a record are shown as missing."""
        ...
