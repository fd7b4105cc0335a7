"""Search storages of Optuna, databases and journals: texts in them replaced, without loading a study."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.records.atomic import write_atomically

Replace = Callable[[str], str]
Changes = list[tuple[str, int, str, str]]
"""Table, row, text before, text after."""
STORAGES = frozenset({".db", ".sqlite", ".sqlite3", ".journal", ".log"})
_SQLITE = b"SQLite format 3\0"
_TEXTS = {
    "trial_user_attributes": ("trial_user_attribute_id", "value_json"),
    "study_user_attributes": ("study_user_attribute_id", "value_json"),
    "studies": ("study_id", "study_name"),
}


def storages_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """The storages in files below a folder, and by what URL or path Optuna opens each."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in STORAGES and path.is_file() and (url := _url(path)):
            yield path, url


def _url(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.readline(1 << 16)
    if start.startswith(b"{"):
        return str(path) if b'"op_code"' in start else None
    if not start.startswith(_SQLITE):
        return None
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("select 1 from sqlite_master where name = 'studies'").fetchone()
    return f"sqlite:///{path}" if found else None


def replace_in_storage(path: Path, url: str, replace: Replace, keep_copy: Callable[[], None]) -> bool:
    """Replace keys in a storage of `storages_in`: see `replace_in_database`; whether there were any."""
    if url.startswith("sqlite:"):
        return replace_in_database(url, replace, lambda changes: keep_copy())
    return _in_journal(path, replace, keep_copy)


def replace_in_database(url: str, replace: Replace, keep: Callable[[Changes], None]) -> bool:
    """Replace keys in the attributes of trials and studies and in the names of studies; whether there were any.

    Args:
        url: of SQLAlchemy, with the driver.
        replace: from a text (attributes are JSON) to the new one.
        keep: told of all changes before any is made.
    """
    from sqlalchemy import NullPool, create_engine, inspect, text

    engine = create_engine(url, poolclass=NullPool)
    tables = set(inspect(engine).get_table_names())
    with engine.begin() as database:
        changes: Changes = []
        for table, (key, column) in _TEXTS.items():
            rows = database.execute(text(f"select {key}, {column} from {table}")) if table in tables else ()
            changes += [(table, row, old, new) for row, old in rows if (new := replace(old)) != old]
        if changes:
            keep(changes)
        for table, row, _, new in changes:
            key, column = _TEXTS[table]
            database.execute(text(f"update {table} set {column} = :new where {key} = :row"), {"new": new, "row": row})
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
    """One operation of a journal; only the attributes in it and the name of a study are touched."""
    try:
        operation: dict[str, Any] = json.loads(line)
    except ValueError:  # the last one may be half written
        return line
    old = {name: operation[name] for name in ("user_attr", "user_attrs", "study_name") if name in operation}
    new = json.loads(replace(json.dumps(old)))
    return line if new == old else json.dumps(operation | new) + "\n"
