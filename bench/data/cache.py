"""Decoded splits on disk, memory-mapped: `<cache>/<digest>/{images,masks}.npy`, each written whole or not at all.

A split's digest is known only after decoding, so a second file remembers which files (by name, size and time of
change) gave which digest: an unchanged folder is opened without being read again.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.classes import Classes
from bench.errors import BenchError


def default_cache() -> Path:
    """`$LALE_BENCH_CACHE`, else `lale-bench` in the user's cache folder."""
    if given := os.environ.get("LALE_BENCH_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lale-bench"


@dataclass(frozen=True)
class SplitCache:
    """Decoded splits under `folder`; `table` is what masks were read by, and so part of what identifies them."""

    folder: Path
    table: str

    @classmethod
    def of(cls, folder: Path | None, classes: Classes) -> "SplitCache":
        """The cache in `folder` (default: `default_cache()`) for masks read by `classes`."""
        return cls((folder or default_cache()) / "tiles", json.dumps(classes.to_dict(), sort_keys=True))

    def find(self, files: Sequence[Path]) -> str | None:
        """The digest of the split that these files decoded to, where the cache still holds it."""
        memo = self._memo(files)
        if not memo.exists():
            return None
        digest = memo.read_text()
        return digest if (self.folder / digest / "masks.npy").exists() else None

    def load(self, digest: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, H, W, 3) and masks (N, H, W) as memory maps; a write to them never reaches the files."""
        held = self.folder / digest
        return np.load(held / "images.npy", mmap_mode="c"), np.load(held / "masks.npy", mmap_mode="c")

    def write(
        self, files: Sequence[Path], shape: tuple[int, ...], fill: Callable[[np.ndarray, np.ndarray], str]
    ) -> str:
        """Have `fill(images, masks)` decode into new memory maps of `shape` (N, H, W) and return the digest; keep
        them under it. A failure leaves the cache as it was. Raises `BenchError` where the disk is full."""
        memo = self._memo(files)
        try:
            memo.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.folder))
        except OSError as error:
            raise BenchError(f"The cache folder {self.folder} cannot be written ({error.strerror}).") from error
        try:
            digest = fill(_new(draft / "images.npy", (*shape, 3)), _new(draft / "masks.npy", shape))
            if not (self.folder / digest).exists():
                draft.rename(self.folder / digest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        _write_whole(memo, digest)
        return digest

    def _memo(self, files: Sequence[Path]) -> Path:
        key = hashlib.blake2b(self.table.encode(), digest_size=16)
        for path in files:
            stat = path.stat()
            key.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return self.folder / "seen" / key.hexdigest()


def _new(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A memory map of a new file whose room on the disk is taken at once: a full disk must not end in a bus error."""
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise BenchError(
            f"The cache folder {path.parent.parent} has no room for the decoded tiles ({math.prod(shape) >> 20} MiB; "
            f"{error.strerror}); free some, or name another folder in LALE_BENCH_CACHE."
        ) from error
    return array


def _write_whole(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as draft:
        draft.write(text)
    Path(draft.name).replace(path)
