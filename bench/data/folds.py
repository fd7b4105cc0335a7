"""Whole scenes divided into parts that hold every class alike: the splits of `world`, and folds of any data set.

Stratification by pixels instead of labels (for labels: Sechidis, Tsoumakas and Vlahavas, "On the stratification of
multi-label data", ECML PKDD 2011): what holds much of something rare is placed first, then scenes change places.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bench.data.bands import measure_bands
from bench.data.cache import SplitCache
from bench.data.dataset import SPLITS, DataSet, Fold, Split, assemble, open_data
from bench.errors import BenchError

COPIED_AT_ONCE = 256  # tiles
REFINED_UP_TO = 512
"""Scenes up to which the parts are refined; among more, those placed last even out what the first ones tilted."""


def divide(
    names: Sequence[str], amounts: Int[np.ndarray, "scenes classes"], shares: Sequence[float]
) -> Int[np.ndarray, " scenes"]:
    """The part (0 to len(shares) - 1) of each scene, such that each part holds its share of every class.

    Args:
        names: of the scenes, all different; the answer is the same in whatever order they come.
        amounts: pixels of each class in each scene.
        shares: of the parts, which add to 1. Every part gets at least one scene where there are enough.
    """
    order = np.argsort(np.array(names))
    held = np.asarray(amounts, float)[order][:, np.sum(amounts, 0) > 0]
    columns = np.concatenate([held, np.ones((len(names), 1))], 1)  # the number of scenes is to be spread as well
    division = _Division(columns / columns.sum(0), np.asarray(shares, float))
    division.place()
    if len(names) <= REFINED_UP_TO:
        division.refine()
    found = np.empty(len(names), int)
    found[order] = division.parts
    return found


def open_fold(source: str | Path, which: tuple[int, int] | None) -> DataSet:
    """The data set that `source` names, or fold (k, of) of it."""
    data = open_data(source)
    return data if which is None else fold(data, *which)


def fold(data: DataSet, k: int, of: int) -> DataSet:
    """Fold `k` (1 to `of`) of a data set: tested on part k, validated on the next one, trained on the rest.

    The tiles of all opened splits are pooled, and their scenes divided into `of` parts, so that over the folds every
    scene is tested once. `DataSet.fold` of the result says which fold it is, and what tiles it is made of.

    Raises:
        BenchError: there is no such fold, or there are fewer scenes than folds.
    """
    if not (of >= 3 and 1 <= k <= of):
        raise BenchError(f"There is no fold {k}/{of}; 1/5 to 5/5 are the folds of five, and three is the least.")
    pool = _Pool(data)
    scenes = sorted(set(pool.scenes))
    if len(scenes) < of:
        raise BenchError(f"The data set {data.name} has {len(scenes)} scenes; {of} folds need at least as many.")
    parts = dict(zip(scenes, divide(scenes, pool.amounts(scenes), (1 / of,) * of), strict=True))
    role = {(k - 1) % of: "test", k % of: "val"}
    roles = np.array([role.get(parts[scene], "train") for scene in pool.scenes])
    return pool.dealt({split: np.flatnonzero(roles == split) for split in SPLITS}, k, of)


def scope_of_folds(parts: Sequence[DataSet]) -> str:
    """What a score over all folds of a data set holds for, in one sentence."""
    first = parts[0]
    if first.stated_scope or not first.scenes_known:
        return first.scope
    scenes = {scene for part in parts for scene in part["test"].scenes}
    return (
        f"Over the {len(parts)} folds each of the {len(scenes)} scenes is tested, by networks that were not trained on "
        "it: scores hold for new scenes like these."
    )


class _Pool:
    """The tiles of all splits in one row; a name that two splits use is told apart by its split."""

    def __init__(self, data: DataSet) -> None:
        self.data, self.splits = data, [data.splits[name] for name in sorted(data.splits)]
        uses = Counter(tile for split in self.splits for tile in split.tiles)
        self.values = np.concatenate([split.values for split in self.splits])
        self.tiles, self.scenes = [], []
        for split in self.splits:
            for tile, scene in zip(split.tiles, split.scenes, strict=True):
                name = f"{split.name}/{tile}" if uses[tile] > 1 else tile
                self.tiles.append(name)
                self.scenes.append(name if scene == tile and not data.scenes_known else scene)

    def amounts(self, scenes: Sequence[str]) -> Int[np.ndarray, "scenes classes"]:
        """Pixels of each class in each scene; `scenes` are sorted."""
        values = self.values[:, : self.data.classes.num_classes]
        amounts = np.zeros((len(scenes), values.shape[1]), int)
        np.add.at(amounts, np.searchsorted(scenes, self.scenes), values)
        return amounts

    def dealt(self, rows: Mapping[str, Int[np.ndarray, " tiles"]], k: int, of: int) -> DataSet:
        """The data set whose splits are these rows of the pool, its bands measured on the new training tiles."""
        data = self.data
        parts = [self._split(name, chosen) for name, chosen in rows.items()]
        lists = json.dumps({part.name: part.tiles for part in parts})
        digest = hashlib.blake2b(lists.encode(), digest_size=16).hexdigest()
        train, specs = parts[0], [band.spec for band in data.bands]
        bands = measure_bands(train.images, train.masks, data.classes.num_classes, specs)
        told: dict[str, Any] = {
            "scenes_known": data.scenes_known,
            "credit": data.credit,
            "scope": data.stated_scope,
            "gsd_m": data.gsd_m,
        }
        return replace(assemble(data.name, data.classes, parts, bands=bands, **told), fold=Fold(k, of, digest))

    def _split(self, name: str, rows: Int[np.ndarray, " tiles"]) -> Split:
        tiles, scenes = (tuple(names[row] for row in rows) for names in (self.tiles, self.scenes))
        content = json.dumps([self.data.fingerprint, tiles])  # whose pixels they are is told by the fingerprint
        digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        files = [Path(str(s.images.filename)) for s in self.splits if isinstance(s.images, np.memmap)]
        if files:
            images, masks = self._mapped(files[0].parent.parent, digest, rows)
        else:
            images, masks = (self._stacked(rows, kind) for kind in ("images", "masks"))
        return Split(name, images, masks, tiles, digest, scenes, counted=self.values[rows])

    def _mapped(self, folder: Path, digest: str, rows: Int[np.ndarray, " tiles"]) -> tuple[np.ndarray, np.ndarray]:
        """Images and masks of a set that memory may not hold: copied once, in the cache `folder` that it lies in."""
        store = SplitCache(folder, f"rows {digest}")

        def fill(images: np.ndarray, masks: np.ndarray) -> str:
            for start in range(0, len(rows), COPIED_AT_ONCE):
                part = slice(start, start + COPIED_AT_ONCE)
                images[part], masks[part] = self._stacked(rows[part], "images"), self._stacked(rows[part], "masks")
            return digest

        one = self.splits[0].images
        found = store.find([]) or store.write([], (len(rows), *one.shape[1:]), one.dtype, fill)
        return store.load(found)[:2]

    def _stacked(self, rows: Int[np.ndarray, " tiles"], kind: str) -> np.ndarray:
        """Images or masks of these rows, which ascend."""
        ends = np.cumsum([len(split) for split in self.splits])
        held = np.split(rows, np.searchsorted(rows, ends[:-1]))
        starts = ends - [len(split) for split in self.splits]
        pairs = zip(self.splits, held, starts, strict=True)
        return np.concatenate([getattr(split, kind)[mine - start] for split, mine, start in pairs])


class _Division:
    """Scenes (rows) on their way to parts; `over` is what each part holds of each column above its share.

    The cost is the sum of over^2 / share, so that a tilt of a small part counts like the same relative one of a large.
    """

    def __init__(self, columns: Float[np.ndarray, "scenes columns"], shares: Float[np.ndarray, " parts"]) -> None:
        self.columns, self.weights = columns, 1 / shares[:, None]
        self.over = np.repeat(-shares[:, None], columns.shape[1], 1)
        self.parts = np.full(len(columns), -1)
        self.counts = np.zeros(len(shares), int)

    def put(self, scene: int, part: int) -> None:
        """Into a part, out of the one where it was."""
        if (old := self.parts[scene]) >= 0:
            self.over[old] -= self.columns[scene]
            self.counts[old] -= 1
        self.over[part] += self.columns[scene]
        self.counts[part] += 1
        self.parts[scene] = part

    def place(self) -> None:
        """Each scene where it costs least; first those that hold a large share of anything."""
        order = np.argsort(-(self.columns**2).sum(1), kind="stable")
        for left, scene in zip(range(len(order), 0, -1), order, strict=True):
            x = self.columns[scene]
            cost = (self.weights * (2 * self.over * x + x**2)).sum(1)
            if np.count_nonzero(self.counts == 0) >= left:  # no part stays empty
                cost[self.counts > 0] = np.inf
            self.put(scene, int(cost.round(12).argmin()))

    def refine(self) -> None:
        """Make the best move of one scene, or exchange of two, until none lowers the cost."""
        while True:
            moves, exchanges = self._moves(), self._exchanges()
            if min(moves.min(), exchanges.min()) > -1e-9:
                return
            if moves.min() <= exchanges.min():
                scene, part = map(int, np.unravel_index(moves.round(12).argmin(), moves.shape))
                self.put(scene, part)
            else:
                one, other = map(int, np.unravel_index(exchanges.round(12).argmin(), exchanges.shape))
                first, second = self.parts[[one, other]]
                self.put(one, second)
                self.put(other, first)

    def _moves(self) -> Float[np.ndarray, "scenes parts"]:
        """What each move of a scene to a part would add to the cost."""
        along, square = self._along()
        there = along + self.weights.T * square[:, None]
        rows = np.arange(len(along))
        here = along[rows, self.parts] - self.weights[self.parts, 0] * square
        change = there - here[:, None]
        change[rows, self.parts] = 0
        change[self.counts[self.parts] == 1] = np.inf  # no part is emptied
        return change

    def _exchanges(self) -> Float[np.ndarray, "scenes scenes"]:
        """What each exchange of two scenes would add to the cost."""
        along, square = self._along()
        mine = along[np.arange(len(along)), self.parts]
        theirs = along[:, self.parts]  # of a scene, along the part of each other one
        weight = self.weights[self.parts, 0]
        distance = square[:, None] + square - 2 * self.columns @ self.columns.T
        change = theirs.T - mine[:, None] + theirs - mine + (weight[:, None] + weight) * distance
        change[self.parts[:, None] == self.parts] = 0
        return change

    def _along(self) -> tuple[np.ndarray, np.ndarray]:
        """2 w over.x of each scene and part, and x.x of each scene."""
        return 2 * self.columns @ (self.weights * self.over).T, (self.columns**2).sum(1)
