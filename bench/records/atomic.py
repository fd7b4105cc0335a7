"""Files that are there whole or not at all: the one way in which this package writes what must not be half there."""

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes, drafts: Path | None = None) -> Path:
    """Write a file aside, force it to disk and rename it into place: no reader and no kill ever meets half of it.

    Folders that are missing are made. Returns the path. Raises OSError where the folder cannot be written to; what was
    there before is intact then.

    Args:
        path: of the file.
        content: all of it.
        drafts: where it is written first, on the same file system; beside its place by default.
    """
    draft = (drafts or path.parent) / draft_name(path)
    for folder in {path.parent, draft.parent}:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def draft_name(path: Path) -> str:
    """A hidden name that no other process chooses: ids of processes are the same in two containers on one volume."""
    return f".{path.name}.{uuid.uuid4().hex}.tmp"


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to disk, where the operating system opens folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def with_ending(stem: Path, ending: str) -> Path:
    """`results/unet-b0.5` and "png" give `results/unet-b0.5.png`: a dot in the name is no ending."""
    return stem.with_name(f"{stem.name}.{ending}")
