"""What a data set is to the rest of the suite, and the one function that opens it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.classes import Classes
from bench.errors import BenchError

SPLITS = ("train", "val", "test")
MEMORY_LIMIT = 2 << 30
"""Bytes of decoded tiles up to which they are held in memory; more go to memory-mapped files."""

Progress = Callable[[int, int, str], None]
"""Called with (tiles done, tiles in all, what is being done)."""


class TileReport:
    """Counts tiles, over all splits, for the progress hook."""

    def __init__(self, progress: Progress | None, total: int, what: str) -> None:
        self.progress, self.total, self.what, self.done = progress, total, what, 0

    def __call__(self, tiles: int = 1) -> None:
        """So many tiles more are done."""
        self.done += tiles
        if self.progress is not None:
            self.progress(self.done, self.total, self.what)


@dataclass(frozen=True)
class Split:
    """One part of a data set, decoded: `images` uint8 (N, H, W, 3) RGB, `masks` uint8 (N, H, W), `tiles` N names.

    Mask values are class indices, or the class table's ignore_index. `digest` is the hash of all of it.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    tiles: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.tiles)


@dataclass(frozen=True)
class DataSet:
    """Splits by name and their class table. `fingerprint` is a hash of the contents: pixels, tile names, splits
    and class table; the same tiles have the same one wherever they lie and however they were compressed."""

    name: str
    classes: Classes
    fingerprint: str
    splits: Mapping[str, Split]

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            held = ", ".join(self.splits)
            raise BenchError(f"The data set {self.name} was opened with the splits {held}, not {split}.")
        return self.splits[split]

    @property
    def tile_size(self) -> tuple[int, int]:
        """(H, W) of every tile, in pixels."""
        height, width = next(iter(self.splits.values())).masks.shape[1:]
        return int(height), int(width)


def open_data(
    source: str | Path,
    splits: Sequence[str] = SPLITS,
    *,
    cache: Path | None = None,
    memory_limit: int = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> DataSet:
    """The data set that `source` names.

    `source` is `"terrain"` (our generator), `"terrain:seed=1,size=64,train=256,val=64,test=64"` (any of these
    options), or a folder of tiles (`bench.data.folder`). Only `splits` are read. A folder that decodes to more
    than `memory_limit` bytes is decoded once into memory-mapped files under `cache` (default: the user's cache
    folder); large generated splits are kept there too. `progress(done, total, what)` is told of every tile.

    Raises `BenchError`, naming the file, for anything wrong with the tiles.
    """
    if not splits:
        raise BenchError("No split was asked for; ask for at least one of train, val and test.")
    if str(source).split(":")[0] == "terrain":
        from bench.data.terrain import open_terrain

        return open_terrain(str(source), splits, cache=cache, progress=progress)
    from bench.data.folder import open_folder

    return open_folder(Path(source), splits, cache=cache, memory_limit=memory_limit, progress=progress)


def tile_digest(image: np.ndarray, mask: np.ndarray) -> bytes:
    """Hash of one decoded tile, image (H, W, 3) and mask (H, W), its size included."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    digest.update(np.ascontiguousarray(mask))
    return digest.digest()


def split_digest(tiles: Iterable[str], digests: Iterable[bytes]) -> str:
    """Hash of a split: its tiles' names and contents, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for tile, content in zip(tiles, digests, strict=True):
        digest.update(json.dumps(tile).encode() + content)
    return digest.hexdigest()


def assemble(name: str, classes: Classes, splits: Iterable[Split]) -> DataSet:
    """The data set of these splits, with its fingerprint."""
    parts = {split.name: split for split in splits}
    content = [classes.to_dict(), {split.name: split.digest for split in parts.values()}]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return DataSet(name, classes, fingerprint, parts)
