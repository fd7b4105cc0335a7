"""One measured cell, and its spelling as a file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from bench.errors import BenchError
from bench.records.canonical import SCHEMA, plain_json, record_key

Status = Literal["ok", "failed"]


@dataclass(frozen=True)
class Record:
    """One measured cell of a study.

    Attributes:
        key: `record_key(kind, determinants)`, which is also the file's name.
        kind: what sort of measurement it is, as "train" or "speed"; also the folder's name.
        status: "ok", or "failed" with a reason.
        determinants: everything that the result depends on, as plain JSON; what has its default is left out.
        about: the same in full, as plain JSON: whole configs and recipes as they were then, the data set's name.
        result: what was measured, as plain JSON; of a failed cell what there is, perhaps nothing.
        environment: hardware and software that it was made with; no host, user or path.
        seconds: wall-clock time of the measurement (of its last sitting, if it was killed and resumed).
        schema: version of this layout.
        reason: why it failed, in one line; empty if it did not.
        cost: the cell's size in the units of its kind, from which the time of other cells is estimated.
    """

    key: str
    kind: str
    status: Status
    determinants: dict[str, Any]
    result: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    schema: int = SCHEMA
    reason: str = ""
    cost: float = 1.0
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        kind: str,
        determinants: Mapping[str, Any],
        result: Mapping[str, Any],
        *,
        environment: Mapping[str, Any],
        seconds: float,
        status: Status = "ok",
        reason: str = "",
        cost: float = 1.0,
        about: Mapping[str, Any] | None = None,
    ) -> "Record":
        """A record with everything brought to plain JSON and the key worked out.

        Raises:
            BenchError: something in it is not JSON, or the result is no mapping.
        """
        record = cls(
            key=record_key(kind, determinants),
            kind=kind,
            status=status,
            determinants=plain_json(determinants, "determinants"),
            result=plain_json(result, "result", non_finite="null"),
            environment=plain_json(environment, "environment", non_finite="null"),
            seconds=float(seconds),
            reason=reason,
            cost=float(cost),
            about=plain_json(about or {}, "about"),
        )
        record._check()
        return record

    def to_text(self) -> str:
        """The file's text: indented JSON, so that a record can be read and compared by eye.

        Raises:
            BenchError: something in it is not JSON, or the key is not that of its determinants.
        """
        self._check()
        whole = {"schema": self.schema, **asdict(self), "result": plain_json(self.result, "result", non_finite="null")}
        return json.dumps(plain_json(whole, "record"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Record":
        """The record that `to_text` wrote, of this schema.

        Raises:
            BenchError: the text is not a whole record, or its key is not that of its determinants.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise BenchError(f"it is not JSON ({error})") from None
        if not isinstance(raw, dict) or raw.keys() != {f.name for f in fields(cls)}:
            raise BenchError("its fields are not those of a record")
        record = cls(**raw)
        record._check()
        return record

    def _check(self) -> None:
        if self.status not in ("ok", "failed"):
            raise BenchError(f"its status is {self.status!r}: a record is 'ok' or 'failed'")
        for name in ("determinants", "result", "environment", "about"):
            if not isinstance(getattr(self, name), dict):
                raise BenchError(f"its {name} is not a mapping")
        if self.schema != SCHEMA or self.key != record_key(self.kind, self.determinants):
            raise BenchError("its key is not that of its kind and determinants: it was edited or renamed")


def schema_of(text: str) -> int | None:
    """The layout version that a record file states; None where it states none or is not JSON."""
    try:
        raw = json.loads(text)
    except ValueError:
        return None
    found = raw.get("schema") if isinstance(raw, dict) else None
    return found if isinstance(found, int) else None
