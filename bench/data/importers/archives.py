"""Files of a source: a folder, or archives unpacked into a folder of ours, which nothing in them can leave."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from bench.errors import BenchError

KEPT = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".txt", ".json", ".csv")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError, RuntimeError)


def source_files(source: Path, scratch: Path) -> list[Path]:
    """All files of a folder or archive, with those of archives inside it, unpacked under `scratch`; hidden ones and
    what is no image, table or text are left out.

    Raises:
        BenchError: there is no such source, an archive is damaged, needs a password or more room than there is, or a
            member of it would be written elsewhere or is no plain file.
    """
    if source.is_dir():
        found = [path for path in sorted(source.rglob("*")) if path.is_file() and not _hidden(path.relative_to(source))]
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
