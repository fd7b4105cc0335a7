"""Records as one tidy table."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.records.arrays import is_packed
from bench.records.record import Record

LEADING = ("key", "kind", "status", "reason", "seconds")


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record, in the order given; see `RecordStore.frame` for the columns."""
    return pd.DataFrame([_row(record) for record in records], columns=None if records else list(LEADING))


def _row(record: Record) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in LEADING}
    row |= {name: _cell(value) for name, value in flatten(record.determinants).items()}
    for name, value in flatten(record.result).items():
        if not isinstance(value, Mapping | list):
            row[f"result.{name}" if name in row else name] = value
    return row


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one level with dotted names; lists and packed arrays stay whole.

    Example:
        >>> flatten({"config": {"norm": "rmsnorm", "depths": [1, 2]}, "seed": 0})
        {'config.norm': 'rmsnorm', 'config.depths': [1, 2], 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        whole = not isinstance(value, Mapping) or is_packed(value)
        flat |= {f"{prefix}{name}": value} if whole else flatten(value, f"{prefix}{name}.")
    return flat


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
