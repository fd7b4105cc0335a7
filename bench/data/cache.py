"""Decoded splits on disk, memory-mapped: `<cache>/<digest>/{images,masks}.npy`, each written whole or not at all; the
pixels of each mask value by tile and the bands of a training split lie beside them.

A split's digest is known only after decoding, so a second file remembers which files (by path, size and times of
change) gave which digest under which code: an unchanged folder is opened without being read again.
"""

import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.bands import Band
from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.records.environment import user_cache

DRAFT = ".draft-"
ABANDONED_S = 2 * 24 * 3600.0  # nothing is decoded for so long
DECODERS = ("pixels.py", "masks.py", "nodata.py", "folder.py")


@functools.cache
def _code() -> str:
    """Of what turns files into pixels and labels: what it made before it was changed is made again."""
    parts = [(Path(__file__).parent / name).read_bytes() for name in DECODERS]
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


@dataclass(frozen=True)
class SplitCache:
    """Decoded splits under `folder`; `table` is what masks were read by, and so part of what identifies them."""

    folder: Path
    table: str

    @classmethod
    def of(cls, folder: Path | None, table: str) -> "SplitCache":
        """The cache in `folder` (default: `user_cache()`) for tiles read by `table`."""
        return cls((folder or user_cache()) / "tiles", table)

    def find(self, files: Sequence[Path]) -> str | None:
        """The digest of the split that these files decoded to, where the cache still holds it."""
        memo = self._memo(files)
        if not memo.exists():
            return None
        digest = memo.read_text()
        return digest if (self.folder / digest / "masks.npy").exists() else None

    def load(self, digest: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Images (N, H, W, B) and masks (N, H, W) as memory maps, and pixels of each mask value (N, 256) where they
        were counted; a write to them never reaches the files."""
        held = self.folder / digest
        images, masks = (np.load(held / f"{kind}.npy", mmap_mode="c") for kind in ("images", "masks"))
        if not (held / "values.npz").exists():
            return images, masks, None
        with np.load(held / "values.npz") as counted:
            return images, masks, counted["values"]

    def write(
        self,
        files: Sequence[Path],
        shape: tuple[int, ...],
        dtype: np.dtype | type,
        fill: Callable[[np.ndarray, np.ndarray], str],
    ) -> str:
        """Have `fill(images, masks)` decode into new memory maps, images of `shape` (N, H, W, B) and `dtype`, and
        return the digest; keep them under it. A failure leaves the cache as it was, and of two processes that write
        the same split the first counts. Raises `BenchError` where the disk is full."""
        memo = self._memo(files)
        try:
            memo.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        except OSError as error:
            raise BenchError(f"The cache folder {self.folder} cannot be written ({error.strerror}).") from error
        try:
            masks = _new(draft / "masks.npy", shape[:3], np.uint8)
            digest = fill(_new(draft / "images.npy", shape, dtype), masks)
            np.savez_compressed(draft / "values.npz", values=count_values(masks))
            _move(draft, self.folder / digest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        write_atomically(memo, digest.encode())
        return digest

    def bands(self, digest: str, measure: Callable[[], tuple[Band, ...]]) -> tuple[Band, ...]:
        """The bands that were measured on the split `digest` as this table names them; measured where they were not."""
        path = self.folder / "bands" / f"{digest}-{self._key([])}.json"
        if not path.exists():
            write_atomically(path, json.dumps([band.to_dict() for band in measure()]).encode())
        return tuple(Band(**band) for band in json.loads(path.read_text()))

    def _sweep(self) -> None:
        """Remove the drafts of processes that were killed, each as large as a split."""
        for draft in self.folder.glob(f"{DRAFT}*"):
            if time.time() - draft.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(draft, ignore_errors=True)

    def _memo(self, files: Sequence[Path]) -> Path:
        return self.folder / "seen" / self._key(files)

    def _key(self, files: Sequence[Path]) -> str:
        key = hashlib.blake2b(f"{_code()}{self.table}".encode(), digest_size=16)
        for path in files:
            stat = path.stat()  # st_ctime: a copy may keep the time of its contents, but not that of its place
            told = (path.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            key.update("\0".join(map(str, (*told, "\n"))).encode())
        return key.hexdigest()


def decode(
    store: SplitCache | None,
    files: Sequence[Path],
    shape: tuple[int, ...],
    dtype: np.dtype | type,
    fill: Callable[[np.ndarray, np.ndarray], str],
    report: Callable[[int], None],
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray | None]:
    """Digest, images, masks and counts (None: not counted) of the split that these files decode to.

    Without a `store`, `fill(images, masks)` decodes into memory. With one, they are as its `load` gives them, after
    `write` where they are not there yet; else `report` is told that all its tiles are done.
    """
    if store is None:
        images, masks = np.empty(shape, dtype), np.empty(shape[:3], np.uint8)
        return fill(images, masks), images, masks, None
    digest = store.find(files)
    if digest is None:
        digest = store.write(files, shape, dtype, fill)
    else:
        report(shape[0])
    return digest, *store.load(digest)


def count_values(masks: np.ndarray) -> np.ndarray:
    """Pixels of each mask value in each tile of masks (N, H, W): int32 (N, 256)."""
    return np.stack([np.bincount(mask.ravel(), minlength=256) for mask in masks]).astype(np.int32)


def _new(path: Path, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """A memory map of a new file whose room on the disk is taken at once: a full disk must not end in a bus error."""
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        needed = math.prod(shape) * np.dtype(dtype).itemsize >> 20
        raise BenchError(
            f"The cache folder {path.parent.parent} has no room for the decoded tiles ({needed} MiB; "
            f"{error.strerror}); free some, or name another folder in LALE_BENCH_CACHE."
        ) from error
    return array


def _move(draft: Path, place: Path) -> None:
    """Rename a folder, unless another process was quicker with the same contents."""
    try:
        draft.rename(place)
    except OSError:
        if not (place / "masks.npy").exists():
            raise
