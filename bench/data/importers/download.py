"""Fetching what authors offer: goes on where it stopped (HTTP Range), and is believed only if its checksum fits."""

import errno
import hashlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bench.data.importers.layout import Download
from bench.errors import BenchError

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte after which a connection counts as lost
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
Bytes = Callable[[int, int | None], None]
"""Told of (bytes that are there, bytes in all, None where the server does not say)."""


def fetch(download: Download, folder: Path, progress: Bytes | None = None) -> Path:
    """The file in `folder`, fetched unless it is there; a part of it (`NAME.part`) is kept and gone on with.

    Raises:
        BenchError: the address cannot be reached, the connection is lost, the disk is full, or the checksum is
            another one than the authors'.
    """
    target = folder / download.url.partition("?")[0].rpartition("/")[2]
    if target.exists():
        _check(target, download, target)
        return target
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _receive(download.url, part, progress or (lambda done, total: None))
    except (OSError, HTTPException) as error:
        raise _stopped(download.url, part, error) from error
    _check(part, download, target)
    return part.rename(target)


def _receive(url: str, part: Path, progress: Bytes) -> None:
    """Append what is missing; from the start where the server cannot go on in the middle."""
    held = part.stat().st_size if part.exists() else 0
    try:
        answer = urlopen(Request(url, headers={"Range": f"bytes={held}-"} if held else {}), timeout=TIMEOUT)
    except HTTPError as error:
        if held and error.code == RANGE_NOT_SATISFIABLE:  # all of it is there
            return
        raise
    with answer:
        goes_on = answer.status == PARTIAL_CONTENT
        held = held if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = held + int(length) if length else None
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                held += len(block)
                progress(held, total)
    if total is not None and held < total:
        raise ConnectionError(f"{total - held} bytes are missing")


def _check(path: Path, download: Download, target: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found == download.md5:
        return
    if path != target:  # going on with it would never come right
        path.unlink()
    raise BenchError(
        f"{target.name} has the MD5 sum {found}, not {download.md5} as its authors say: it is damaged or another "
        "version; " + ("remove it and fetch it again." if path == target else "it was removed: fetch it again.")
    )


def _stopped(url: str, part: Path, error: Exception) -> BenchError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return BenchError(f"The disk is full; {part} is kept: make room, and the same command goes on there.")
    held = part.stat().st_size if part.exists() else 0
    kept = f"{held} bytes are kept in {part}: the same command goes on there" if held else "nothing was fetched"
    return BenchError(f"{url} could not be fetched ({error}); {kept}.")
