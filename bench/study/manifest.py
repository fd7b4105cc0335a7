"""Which records belong to a study: written beside its tables, so that these can be made again from the records."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.atomic import write_atomically

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
