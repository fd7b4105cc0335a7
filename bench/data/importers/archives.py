"""Archives of published data: fetched, and unpacked into a folder of ours, which nothing in them can leave.

Fetching goes on where it stopped (HTTP Range), and a file is believed only if its checksum fits."""

import errno
import gzip
import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bench.data.folder import files_below
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
    except (OSError, HTTPException, ValueError) as error:  # ValueError: no address
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


KEPT = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".txt", ".json", ".csv")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def source_files(source: Path, scratch: Path) -> list[Path]:
    """All files of a folder or archive, with those of archives inside it, unpacked under `scratch`; hidden ones and
    what is no image, table or text are left out.

    Raises:
        BenchError: there is no such source, an archive is damaged, needs a password or more room than there is, or a
            member of it would be written elsewhere or is no plain file.
    """
    if source.is_dir():
        found = [path for path in files_below(source) if not _hidden(path.relative_to(source))]
    elif source.is_file() and source.name.lower().endswith(ARCHIVES):
        found = [source]
    elif source.exists():
        raise BenchError(f"{source} is neither a folder nor an archive ({', '.join(ARCHIVES)}).")
    else:
        raise BenchError(f"{source} does not exist; give the folder or archive as the authors publish it.")
    files = [path for path in found if path.suffix.lower() in KEPT]
    for number, archive in enumerate(path for path in found if path.name.lower().endswith(ARCHIVES)):
        into = scratch / f"{number}" / archive.name.split(".")[0]
        unpack(archive, into)
        files += source_files(into, scratch / f"{number}-inner")
    return files


def unpack(archive: Path, into: Path) -> None:
    """Write the plain files of a zip or tar archive under `into`. Raises `BenchError` as `source_files` does."""
    try:
        members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
        for member in members(archive):
            _write(archive, member, into)
    except DAMAGED as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise BenchError(
            f"{archive} is damaged or needs a password ({reason}); fetch it again, or unpack it."
        ) from error


@dataclass(frozen=True)
class _Member:
    """A file of an archive: its stored path, its size in bytes, and its contents."""

    name: str
    size: int
    content: IO[bytes]


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _refusal(archive, info.filename, "is a link")
            if not info.is_dir():
                with opened.open(info) as content:
                    yield _Member(info.filename, info.file_size, content)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            content = opened.extractfile(info) if info.isfile() else None
            if content is not None:
                yield _Member(info.name, info.size, content)
            elif not info.isdir():
                raise _refusal(archive, info.name, "is no plain file")
        while opened.fileobj and opened.fileobj.read(CHUNK):  # the checksum of what is compressed stands at its end
            pass


def _write(archive: Path, member: _Member, into: Path) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member.name:
        raise _refusal(archive, member.name, "lies outside the folder that it is unpacked to")
    if _hidden(path) or not member.name.lower().endswith(KEPT + ARCHIVES):
        return
    target = into / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.size > shutil.disk_usage(target.parent).free:
        raise BenchError(f"{archive} unpacks to more than the disk has room for; make room, or unpack it elsewhere.")
    with target.open("wb") as file:
        shutil.copyfileobj(member.content, file, 1 << 20)


def _refusal(archive: Path, name: str, why: str) -> BenchError:
    return BenchError(f"{archive} holds {name!r}, which {why}; nothing of it was imported: get it from its authors.")


def _hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)
