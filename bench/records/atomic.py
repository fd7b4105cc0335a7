"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file beside its place and rename it into place: a reader or a kill never meets half of it.

    Folders that are missing are made. Returns the path. Raises OSError where the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def with_ending(stem: Path, ending: str) -> Path:
    """`results/unet-b0.5` and "png" give `results/unet-b0.5.png`: a dot in the name is no ending."""
    return stem.with_name(f"{stem.name}.{ending}")
