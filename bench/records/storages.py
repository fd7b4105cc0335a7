"""Search storages of Optuna in files, SQLite and journals: their texts replaced without loading a study."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.records.atomic import write_atomically

Replace = Callable[[str], str]
STORAGES = frozenset({".db", ".sqlite", ".sqlite3", ".journal", ".log"})
_SQLITE = b"SQLite format 3\0"
_ATTRIBUTES = (
    ("trial_user_attributes", "trial_user_attribute_id"),
    ("study_user_attributes", "study_user_attribute_id"),
)


def replace_in_storage(path: Path, replace: Replace, keep_copy: Callable[[], None]) -> bool:
    """Replace keys in the attributes of trials and studies; whether there were any.

    Args:
        path: of an SQLite database or a journal; another file is left alone.
        replace: from the text of an attribute, which is JSON, to the new one.
        keep_copy: called before anything is changed.
    """
    with path.open("rb") as file:
        start = file.read(len(_SQLITE))
    if start == _SQLITE:
        return _in_sqlite(path, replace, keep_copy)
    return start.startswith(b"{") and _in_journal(path, replace, keep_copy)


def _in_sqlite(path: Path, replace: Replace, keep_copy: Callable[[], None]) -> bool:
    with closing(sqlite3.connect(path)) as database, database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        changes = []
        for table, key in _ATTRIBUTES:
            if table in tables:
                rows = database.execute(f"select {key}, value_json from {table}").fetchall()
                changes += [(table, key, row, new) for row, old in rows if (new := replace(old)) != old]
        if changes:
            keep_copy()
        for table, key, row, new in changes:
            database.execute(f"update {table} set value_json = ? where {key} = ?", (new, row))
    return bool(changes)


def _in_journal(path: Path, replace: Replace, keep_copy: Callable[[], None]) -> bool:
    before = path.read_text(encoding="utf-8")
    after = "".join(_line(line, replace) for line in before.splitlines(keepends=True))
    if after == before:
        return False
    keep_copy()
    write_atomically(path, after.encode())
    return True


def _line(line: str, replace: Replace) -> str:
    """One operation of a journal; only the attributes in it are touched."""
    try:
        operation: dict[str, Any] = json.loads(line)
    except ValueError:  # the last one may be half written
        return line
    if "user_attr" not in operation:
        return line
    new = replace(text := json.dumps(operation["user_attr"]))
    return line if new == text else json.dumps({**operation, "user_attr": json.loads(new)}) + "\n"
