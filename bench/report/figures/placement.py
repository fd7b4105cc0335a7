"""Where labels go so that every point keeps its name and no two texts meet.

Each label has candidate places around its point, in rings of growing distance, and further off on a grid over
the whole frame. Places outside the frame or on a marker are out. From the rest each label in turn takes the
cheapest given where the others are, until none wants to move; the cheapest outcome of several orders stays. Plain
geometry in pixels; `bench.report.figures.labels` draws the outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_GAPS = (0.15, 0.5, 1.0, 1.6, 2.4, 3.4, 4.6, 6.0)  # label heights between the marker and its label
_GRID = (24, 20)
_SWEEPS = 40
_TURNS = 120  # labels times orders that are tried
_OVERLAP, _CROSSING = 1e6, 300.0
_READS_AS = 5  # label heights; the gap across which a label still seems to belong to a marker at its side


@dataclass(frozen=True)
class Scene:
    """What labels are placed among, in pixels.

    Attributes:
        anchors: (n, 2) the points that have labels.
        sizes: (n, 2) width and height of each label.
        frame: (4,) x0, y0, x1, y1 that all labels stay inside.
        radius: half the width of a marker.
        obstacles: (m, 2) centres of further markers that no label may cover.
        lines: (k, 4) segments x0, y0, x1, y1 that labels rather leave free.
    """

    anchors: np.ndarray
    sizes: np.ndarray
    frame: np.ndarray
    radius: float
    obstacles: np.ndarray
    lines: np.ndarray


def place(scene: Scene) -> list[np.ndarray | None]:
    """A box (x0, y0, x1, y1) for each label, in the order of the anchors; None for one that finds no room.

    No two of the boxes overlap, none covers a marker, and all lie inside the frame.
    """
    candidates = [_candidates(scene, i) for i in range(len(scene.anchors))]
    costs = [_own_cost(scene, i, boxes) for i, boxes in enumerate(candidates)]
    rounds = [_Round(scene, candidates, costs).play(order) for order in _orders(scene.anchors)]
    return _without_overlaps(min(rounds, key=itemgetter(0))[1])


def _orders(anchors: np.ndarray) -> list[np.ndarray]:
    """Where nobody wants to move any more depends on who chose first: the fewer labels, the more orders are tried.

    Those in the thick of it have the fewest good places and begin in the first order.
    """
    crowding = _by_crowding(anchors)
    more = min(max(_TURNS // max(len(anchors), 1), 2), 6) - 2
    return [crowding, crowding[::-1], *(np.random.default_rng(i).permutation(crowding) for i in range(more))]


class _Round:
    """Labels that take turns, each going to the place that is cheapest given where the others are.

    What label j's place adds to the cost of every place of label i is kept until j moves.
    """

    def __init__(self, scene: Scene, candidates: Sequence[np.ndarray], own: Sequence[np.ndarray]) -> None:
        count = len(candidates)
        self.scene, self.candidates, self.own = scene, candidates, own
        self.chosen: list[np.ndarray | None] = [None] * count
        self.added = [np.zeros((count, len(boxes))) for boxes in candidates]
        self.stale: list[set[int]] = [set() for _ in candidates]

    def play(self, order: np.ndarray) -> tuple[float, list[np.ndarray | None]]:
        """What the places cost in all, and the places, once no label wants to move."""
        movable = [i for i in order if len(self.candidates[i])]
        paid = 0.0
        for _ in range(_SWEEPS):
            before, paid = list(self.chosen), 0.0
            for i in movable:
                paid += self._turn(i)
            if all(map(_same, before, self.chosen)):
                break
        return paid, self.chosen

    def _turn(self, i: int) -> float:
        """Label i goes to its cheapest place; what that costs."""
        if moved := sorted(self.stale[i]):
            self.added[i][moved] = _added(self.scene, i, self.candidates[i], moved, [self.chosen[j] for j in moved])
            self.stale[i].clear()
        cost = self.own[i] + self.added[i].sum(axis=0)
        place = self.candidates[i][cost.argmin()]
        if not _same(place, self.chosen[i]):
            self.chosen[i] = place
            for j, others in enumerate(self.stale):
                if j != i:
                    others.add(i)
        return float(cost.min())


def _candidates(scene: Scene, i: int) -> np.ndarray:
    """(c, 4) boxes near the anchor and over the frame that are inside it and clear of all markers."""
    size, frame = scene.sizes[i], scene.frame
    near = np.concatenate([_ring(scene, i, gap * size[1]) for gap in _GAPS])
    xs = np.linspace(frame[0], max(frame[0], frame[2] - size[0]), _GRID[0])
    ys = np.linspace(frame[1], max(frame[1], frame[3] - size[1]), _GRID[1])
    corners = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([near, np.concatenate([corners, corners + size], axis=1)])
    inside = (boxes[:, :2] >= frame[:2] - 1e-6).all(axis=1) & (boxes[:, 2:] <= frame[2:] + 1e-6).all(axis=1)
    boxes = boxes[inside]
    return boxes[~_covers_marker(boxes, _markers(scene), scene.radius)]


def _ring(scene: Scene, i: int, gap: float) -> np.ndarray:
    """(angles, 4) boxes whose nearest point is radius and gap away from the anchor, in every direction."""
    directions = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    half = scene.sizes[i] / 2
    # Towards (c, s) a box of half sides (a, b) is pushed out until its side or corner clears the circle.
    centres = scene.anchors[i] + directions * (scene.radius + gap) + np.clip(directions * 3, -1, 1) * half
    return np.concatenate([centres - half, centres + half], axis=1)


def _markers(scene: Scene) -> np.ndarray:
    return np.concatenate([scene.anchors, scene.obstacles.reshape(-1, 2)])


def _covers_marker(boxes: np.ndarray, markers: np.ndarray, radius: float) -> np.ndarray:
    """(boxes,) whether any marker's disc meets the box."""
    nearest = np.clip(markers[None], boxes[:, None, :2], boxes[:, None, 2:])
    return (((nearest - markers[None]) ** 2).sum(axis=-1) < radius**2).any(axis=1)


def _own_cost(scene: Scene, i: int, boxes: np.ndarray) -> np.ndarray:
    """(c,) what each place costs whatever the other labels do: distance, lines beneath, ambiguity."""
    if not len(boxes):
        return np.zeros(0)
    ends = _leader_ends(scene.anchors[i], boxes)
    distance = np.linalg.norm(ends - scene.anchors[i], axis=1)
    unit = scene.sizes[i][1]
    cost = 10 * (distance - scene.radius) / unit + 0.02 * (distance / unit) ** 2
    cost += 8 * _meets(scene.lines, boxes).sum(axis=0)
    leaders = np.concatenate([np.broadcast_to(scene.anchors[i], ends.shape), ends], axis=1)
    others = np.delete(_markers(scene), i, axis=0)
    cost += _CROSSING / 3 * _markers_under(leaders, others, scene.radius)
    closer = np.clip(others[None], boxes[:, None, :2], boxes[:, None, 2:]) - others[None]
    ambiguous = (np.linalg.norm(closer, axis=-1) < distance[:, None] + 0.3 * unit).sum(axis=1)
    middle = boxes[:, [1, 3]].mean(axis=1)
    beside = np.abs(middle - scene.anchors[i][1]) < 0.3 * unit
    # A label level with a marker reads as that marker's, even if its own is nearer above or below.
    level = np.abs(middle[:, None] - others[None, :, 1]) < 0.7 * unit
    claimed = (level & (np.abs(closer[..., 0]) < _READS_AS * unit) & ~beside[:, None]).any(axis=1)
    return cost + 25 * np.minimum(ambiguous, 3) + 15 * claimed - 1.5 * beside


def _leader_ends(anchor: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return np.clip(anchor, boxes[:, :2], boxes[:, 2:])


def _added(scene: Scene, i: int, boxes: np.ndarray, rest: list[int], places: Sequence[np.ndarray]) -> np.ndarray:
    """(rest, c) what the place of each label of `rest` adds to the cost of each of the boxes of label i."""
    others, anchors = np.stack(places), scene.anchors[rest]
    there = np.concatenate([anchors, _leader_ends(anchors, others)], axis=1)
    ends = _leader_ends(scene.anchors[i], boxes)
    here = np.concatenate([np.broadcast_to(scene.anchors[i], ends.shape), ends], axis=1)
    crossings = _meets(there, boxes).astype(int) + _meets(here, others).T + _crosses(there, here)
    return _OVERLAP * _overlaps(others, boxes) + _CROSSING * crossings


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a, b) whether two boxes share more than an edge."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low > 1e-9).all(axis=-1)


def _meets(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(lines, boxes) whether a line meets a box (clipping by slabs)."""
    start, step = lines[:, None, :2], (lines[:, 2:] - lines[:, :2])[:, None]
    step = np.where(np.abs(step) < 1e-12, 1e-12, step)
    first, second = (boxes[None, :, :2] - start) / step, (boxes[None, :, 2:] - start) / step
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    return (enter < leave) & (leave > 1e-9) & (enter < 1 - 1e-9)


def _crosses(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a, b) whether a segment of a crosses one of b."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        along, across = q - p, r - p
        return np.sign(along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0])

    p, q, r, s = a[:, None, :2], a[:, None, 2:], b[None, :, :2], b[None, :, 2:]
    return (side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0)


def _markers_under(lines: np.ndarray, markers: np.ndarray, radius: float) -> np.ndarray:
    """(lines,) how many markers each line runs over."""
    step = lines[:, None, 2:] - lines[:, None, :2]
    offset = markers[None] - lines[:, None, :2]
    along = (offset * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-9)
    nearest = lines[:, None, :2] + np.clip(along, 0, 1)[..., None] * step
    return (np.linalg.norm(nearest - markers[None], axis=-1) < radius).sum(axis=1)


def _by_crowding(anchors: np.ndarray) -> np.ndarray:
    """Points in the thick of it first."""
    distances = np.linalg.norm(anchors[:, None] - anchors[None], axis=-1)
    return np.argsort(np.sort(distances, axis=1)[:, : min(5, len(anchors))].sum(axis=1), kind="stable")


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is None if b is None else a is not None and bool((a == b).all())


def _without_overlaps(boxes: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """Give up labels that still lie on another, those on most others first."""
    kept = list(boxes)
    while True:
        there = [i for i, box in enumerate(kept) if box is not None]
        if len(there) < 2:
            return kept
        stacked = np.stack([kept[i] for i in there])
        clashes = _overlaps(stacked, stacked).sum(axis=1) - 1
        if not clashes.any():
            return kept
        kept[there[int(clashes.argmax())]] = None
