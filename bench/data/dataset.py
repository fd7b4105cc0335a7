"""What a data set is to the rest of the suite, and the one function that opens it."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.data.bands import RGB, Band, BandSpec, is_rgb, measure_bands, pictures
from bench.data.cache import count_values
from bench.data.classes import Classes
from bench.data.problems import Problem, label_problems
from bench.data.scenes import scope_of
from bench.errors import BenchError, DataWarning

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
    """One part of a data set, decoded: `images` (N, H, W, B) of uint8, uint16 or float32, `masks` uint8 (N, H, W),
    the names of its N `tiles`, and for each of them the scene that it was cut from (its own name where that is not
    known). Mask values are class indices, or the class table's ignore_index. `digest` is the hash of pixels and
    tile names.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    tiles: tuple[str, ...]
    digest: str
    scenes: tuple[str, ...] = ()
    counted: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenes", tuple(self.scenes) or tuple(self.tiles))

    def __len__(self) -> int:
        return len(self.tiles)

    @cached_property
    def values(self) -> np.ndarray:
        """Pixels of each mask value in each tile, counted once: int32 (N, 256)."""
        return count_values(self.masks) if self.counted is None else self.counted


@dataclass(frozen=True)
class Fold:
    """Fold `k` of `of`, and a hash of the names of its tiles, split by split."""

    k: int
    of: int
    digest: str


@dataclass(frozen=True)
class DataSet:
    """Splits by name and their class table. `fingerprint` is a hash of what a training depends on: pixels, tile
    names, splits, class names and the ignored value, wherever they lie and however they were compressed; not the
    set's name, nor the colours that classes are drawn in.

    `bands` describe the last axis of the images, with the mean, deviation and range of the training tiles (see
    `Band`); those of 8-bit RGB are ImageNet's. `scenes_known` says whether the tiles' scenes were told by the data
    or each tile stands for its own. `credit` is the line that captions owe the data's makers, empty for none.
    `fold` says which fold this is, where `bench.data.folds.fold` made it. `gsd_m` is the side of a pixel on the
    ground in metres, None where it is not known.
    """

    name: str
    classes: Classes
    fingerprint: str
    splits: Mapping[str, Split]
    bands: tuple[Band, ...] = RGB
    scenes_known: bool = False
    credit: str = ""
    stated_scope: str = ""
    fold: Fold | None = None
    gsd_m: float | None = None

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            held = ", ".join(self.splits)
            raise BenchError(f"The data set {self.name} was opened with the splits {held}, not {split}.")
        return self.splits[split]

    @property
    def in_channels(self) -> int:
        """How many bands a network of this data set takes."""
        return len(self.bands)

    @property
    def tile_size(self) -> tuple[int, int]:
        """(H, W) of every tile, in pixels."""
        height, width = next(iter(self.splits.values())).masks.shape[1:]
        return int(height), int(width)

    @property
    def scope(self) -> str:
        """What a score on the test split holds for, in one sentence."""
        scenes = {name: split.scenes for name, split in self.splits.items()}
        return self.stated_scope or scope_of(scenes if self.scenes_known else None)

    def pictures(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, B) of this data set as people look at them: uint8 RGB (N, H, W, 3); 8-bit RGB as it is."""
        return images if self.bands == RGB else pictures(images, self.bands)

    def problems(self) -> list[Problem]:
        """What is wrong or doubtful about the labels of the opened splits; each should be shown to the user."""
        return label_problems(self.classes, self._counts)

    def require_scorable(self, intervals: bool = False) -> None:
        """Raise `BenchError` where a training on the opened splits could not be scored: a split without a labelled
        pixel; with `intervals`, as a study needs, also fewer than two test tiles with labels."""
        for problem in self.problems():
            if problem.severity == "error" or (intervals and problem.kind == "few"):
                raise BenchError(f"The data set {self.name} cannot be used: {problem.text}")

    @property
    def _counts(self) -> dict[str, np.ndarray]:
        return {name: class_counts(split.values, self.classes) for name, split in self.splits.items()}


def class_counts(values: np.ndarray, classes: Classes) -> np.ndarray:
    """Pixels of each class, and last all others, from pixels of each mask value: (N, 256) to (N, C + 1)."""
    known = values[:, : classes.num_classes]
    return np.column_stack([known, values.sum(1) - known.sum(1)])


def open_data(
    source: str | Path,
    splits: Sequence[str] = SPLITS,
    *,
    cache: Path | None = None,
    memory_limit: int = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> DataSet:
    """The data set that `source` names.

    `source` is `"world"` (an embedded map of the Earth) or `"world:tile=64"`, `"terrain"` (our generator) or
    `"terrain:seed=1,size=64,train=256,val=64,test=64"` (any of these options), or a folder of tiles
    (`bench.data.folder`). Only `splits` are read. A folder that decodes to more than `memory_limit` bytes is decoded
    once into memory-mapped files under `cache` (default: the user's cache folder); large generated splits are kept
    there too. `progress(done, total, what)` is told of every tile.

    Raises `BenchError`, naming the file, for anything wrong with the tiles; what is doubtful about their labels
    (`DataSet.problems`) is a `DataWarning`.
    """
    if not splits:
        raise BenchError("No split was asked for; ask for at least one of train, val and test.")
    data = _opened(str(source), splits, cache, memory_limit, progress)
    for problem in data.problems():
        if problem.severity == "warning":  # errors are for `require_scorable`: an unlabelled split can be looked at
            warnings.warn(f"{data.name}: {problem.text}", DataWarning, stacklevel=2)
    return data


def _opened(
    source: str, splits: Sequence[str], cache: Path | None, memory_limit: int, progress: Progress | None
) -> DataSet:
    kind = source.split(":")[0]
    if kind == "world":
        from bench.data.world import open_world

        return open_world(source, splits, progress=progress)
    if kind == "terrain":
        from bench.data.terrain import open_terrain

        return open_terrain(source, splits, cache=cache, progress=progress)
    from bench.data.folder import open_folder

    return open_folder(Path(source), splits, cache=cache, memory_limit=memory_limit, progress=progress)


def tile_digest(image: np.ndarray, mask: np.ndarray) -> bytes:
    """Hash of one decoded tile, image (H, W, B) and mask (H, W), its size and type included."""
    kind = "" if image.dtype == np.uint8 else str(image.dtype)
    digest = hashlib.blake2b(f"{image.shape!r}{kind}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    digest.update(np.ascontiguousarray(mask).data)
    return digest.digest()


def split_digest(tiles: Iterable[str], digests: Iterable[bytes]) -> str:
    """Hash of a split: its tiles' names and contents, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for tile, content in zip(tiles, digests, strict=True):
        digest.update(json.dumps(tile).encode() + content)
    return digest.hexdigest()


def assemble(
    name: str,
    classes: Classes,
    splits: Iterable[Split],
    *,
    bands: tuple[Band, ...] | None = None,
    scenes_known: bool = False,
    credit: str = "",
    scope: str = "",
    gsd_m: float | None = None,
) -> DataSet:
    """The data set of these splits, with its fingerprint. `bands` are measured on the train split where they are
    not given and the images are not 8-bit RGB; `scope` is stated where the scenes do not tell it."""
    parts = {split.name: split for split in splits}
    content = [classes.names, classes.ignore_index, {split.name: split.digest for split in parts.values()}]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    bands = _measured(classes, parts) if bands is None else bands
    return DataSet(name, classes, fingerprint, parts, bands, scenes_known, credit, scope, gsd_m=gsd_m)


def _measured(classes: Classes, parts: Mapping[str, Split]) -> tuple[Band, ...]:
    split = parts.get("train", next(iter(parts.values())))
    if is_rgb(split.images):
        return RGB
    specs = [BandSpec(f"band {i + 1}") for i in range(split.images.shape[-1])]
    return measure_bands(split.images, split.masks, classes.num_classes, specs)
