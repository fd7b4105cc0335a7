"""Which records belong to a study: written beside its tables, so that they can be made again from the records alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.atomic import write_atomically

FILE = "study.json"
FORMAT = "lale-bench study 1"


@dataclass(frozen=True)
class Row:
    """One variant: its label, its family, its factor, the keys of its records, and what it is compared with.

    `skipped`: why it was not measured, if it was not; then it has no training keys. `trained`: whether it was to be.
    """

    label: str
    family: str
    factor: str
    static: str | None
    trains: tuple[str, ...]
    trained: bool
    skipped: str = ""
    base: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A study as it was run. Keys name records in the `records` folder beside the study's own."""

    study: str
    question: str
    base: str | None
    figures: tuple[str, ...]
    data: dict[str, Any]
    recipe: dict[str, Any]
    seeds: tuple[int, ...]
    size: tuple[int, int]
    device: str
    speeds: dict[str, str]  # batch -> key
    rows: tuple[Row, ...]

    def save(self, folder: Path) -> Path:
        """Write the manifest into the study's folder, whole."""
        document = {"format": FORMAT, **asdict(self)}
        return write_atomically(folder / FILE, (json.dumps(document, indent=1) + "\n").encode())


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a study's folder.

    Raises:
        BenchError: there is none, or it cannot be read.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{folder} holds no study ({FILE} is missing); give a folder that a study wrote.") from None
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read ({error}); run the study again, its records are kept.") from None
    if document.pop("format", None) != FORMAT:
        raise BenchError(f"{path} is no study of this version; run the study again, its records are kept.")
    rows = tuple(Row(**{**row, "trains": tuple(row["trains"])}) for row in document.pop("rows"))
    for field in ("figures", "seeds", "size"):
        document[field] = tuple(document[field])
    return Manifest(**document, rows=rows)
