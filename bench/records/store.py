"""A folder of records that any number of processes may read, write and merge by copying files."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.records.canonical import SCHEMA
from bench.records.privacy import private_parts
from bench.records.record import Record, schema_of

STALE_AFTER_S = 3600.0  # writing a record takes milliseconds: a temporary file this old was left by a kill


class RecordStore:
    """Records as files `<folder>/<kind>/<key>.json`.

    A record appears whole, by an atomic rename, or not at all; what a kill leaves behind lies in `.tmp`, `.locks`
    and `.scratch`, which no reader looks into. Two stores are merged by copying one folder over the other.

    Attributes:
        folder: where the records lie; made at the first write.
        corrupt: files that the last `all` had to leave out since they cannot be read, each with why.
        stale: files that it left out since they have another record schema.

    Example:
        >>> import tempfile
        >>> store = RecordStore(tempfile.mkdtemp())
        >>> record = Record.of("demo", {"seed": 0}, {"f1": 0.5}, environment={}, seconds=1.0)
        >>> _ = store.put(record)
        >>> record.key in store, store.get(record.key).result
        (True, {'f1': 0.5})
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.corrupt: dict[Path, str] = {}
        self.stale: list[Path] = []
        self._checked = False

    def get(self, key: str) -> Record | None:
        """The record of that key; None if there is none.

        Raises:
            BenchError: its file is damaged, or of another schema.
        """
        for path in self._files(f"{key}.json"):
            try:
                record = _read(path)
            except BenchError as error:
                raise BenchError(f"{_damaged(path, str(error))}") from None
            if record is None:
                raise BenchError(outdated(self.folder, 1))
            return record
        return None

    def refuse_outdated(self) -> None:
        """Find out whether the folder holds records of another schema, before anything is measured a second time.

        Raises:
            BenchError: it does; the sentence says how they are carried over.
        """
        count = 0 if self._checked else sum(not _is_current(path) for path in self._files("*.json"))
        if count:
            raise BenchError(outdated(self.folder, count))
        self._checked = True

    def __contains__(self, key: object) -> bool:
        """Whether a record of that key and of this schema is there, of either status."""
        return isinstance(key, str) and self.get(key) is not None

    def all(self, kind: str | None = None) -> list[Record]:
        """Every readable record (of one kind), sorted by kind and key.

        Damaged files and files of another schema do not stop a table: they are left out and listed in `corrupt`
        and `stale`, which a report shows.
        """
        self.corrupt, self.stale, records = {}, [], []
        for path in self._files("*.json", kind):
            try:
                record = _read(path)
            except BenchError as error:
                self.corrupt[path] = str(error)
                continue
            if record is None:
                self.stale.append(path)
            else:
                records.append(record)
        return records

    def warnings(self) -> list[str]:
        """One sentence for each file that the last `all` left out."""
        damaged = [_damaged(path, why) for path, why in self.corrupt.items()]
        return damaged + ([outdated(self.folder, len(self.stale))] if self.stale else [])

    def put(self, record: Record) -> Path:
        """Writes a record, whole and durably, and returns its file.

        A failed record gives way to a new one; one that is ok stays as it is.

        Raises:
            BenchError: the record names this machine, its user or an absolute path, holds what is not JSON, would
                replace one that is ok, or cannot be written (a full disk); what was there is intact.
        """
        text = record.to_text()
        self._check_private(record)
        before = self.get(record.key)
        path = self.folder / record.kind / f"{record.key}.json"
        if before is not None and before.status == "ok":
            raise BenchError(f"{path} is recorded already: delete it if it is to be measured again")
        try:
            self._sweep()
            write_atomically(path, text.encode(), drafts=self.folder / ".tmp")
        except OSError as error:
            raise BenchError(
                f"{path} could not be written ({error.strerror}): make room or choose another folder, and start"
                " again; every record written before is safe"
            ) from error
        return path

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Holds the cell of that key for this process while the block runs; does not wait.

        Gives True if the claim is held and False if another process (or another claim of this one) has it. The
        claim is an advisory lock of the operating system, so a killed holder frees it at once.

        Raises:
            BenchError: the file system does not let the folder be locked.
        """
        path = self.folder / ".locks" / key  # stays when it is let go: a name must not stand for two files
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            pass
        except (OSError, NotImplementedError) as error:
            raise BenchError(
                f"{path} cannot be made and locked ({getattr(error, 'strerror', error)}): put the study into a folder"
                " that can be written to, on a file system with locks"
            ) from error
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def scratch(self, key: str) -> Path:
        """Where the cell of that key keeps what must survive a kill; not made here."""
        return self.folder / ".scratch" / key

    def _files(self, pattern: str, kind: str | None = None) -> list[Path]:
        """Record files; neither hidden folders nor hidden files are looked at."""
        found = self.folder.glob(f"{kind or '*'}/{pattern}")
        return sorted(p for p in found if not (p.name.startswith(".") or p.parent.name.startswith(".")))

    def _check_private(self, record: Record) -> None:
        parts = {"determinants": record.determinants, "result": record.result, "reason": record.reason}
        found = private_parts({**parts, "environment": record.environment}, record.kind)
        if found:
            raise BenchError(
                f"a record may not name the machine, its user or an absolute path, since records are shared:"
                f" leave out {'; '.join(found[:3])}"
            )

    def _sweep(self) -> None:
        """Deletes what killed writers left behind."""
        for path in (self.folder / ".tmp").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                if time.time() - path.stat().st_mtime > STALE_AFTER_S:
                    path.unlink()


def _read(path: Path) -> Record | None:
    """The record in a file; None for one of another schema.

    Raises:
        BenchError: the file is not a whole record.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"it cannot be read ({error.__class__.__name__})") from None
    if schema_of(text) not in (None, SCHEMA):
        return None
    record = Record.from_text(text)
    if (path.parent.name, path.stem) != (record.kind, record.key):
        raise BenchError(f"it holds the record {record.kind}/{record.key}, not the one it is named after")
    return record


def _damaged(path: Path, why: str) -> str:
    return f"the record file {path} is damaged: {why}; delete it, and its cell is measured again"


def _is_current(path: Path) -> bool:
    """Whether a file is of this schema, or no record at all (which is found out when it is read)."""
    try:
        with path.open(encoding="utf-8") as file:
            if re.match(rf'{{\s*"schema": {SCHEMA},', file.read(40)):
                return True
        return schema_of(path.read_text(encoding="utf-8")) in (None, SCHEMA)
    except (OSError, UnicodeDecodeError):
        return True


def outdated(folder: Path, count: int) -> str:
    """The sentence about records of another schema."""
    records = "a record" if count == 1 else f"{count} records"
    return (
        f"{folder} holds {records} of another schema than {SCHEMA}: `lale-bench records upgrade {folder.parent}`"
        " carries them over, with a backup; to measure them again, give another folder"
    )
