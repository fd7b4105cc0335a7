"""Whole scenes divided into parts that hold every class alike: the splits of `world`, and folds of any data set.

Stratification by pixels instead of labels (for labels: Sechidis, Tsoumakas and Vlahavas, "On the stratification of
multi-label data", ECML PKDD 2011): what holds much of something rare is placed first, then scenes change places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

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
                scene, part = np.unravel_index(moves.round(12).argmin(), moves.shape)
                self.put(scene, part)
            else:
                one, other = np.unravel_index(exchanges.round(12).argmin(), exchanges.shape)
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
