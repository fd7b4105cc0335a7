"""Where labels go so that every point keeps its name and no two texts meet.

Each label has candidate places around its point, in rings of growing distance, and further off on a grid over
the whole frame. Places outside the frame or on a marker are out. From the rest each label in turn takes the
cheapest given where the others are, until none wants to move. Plain geometry in pixels; `bench.figures.labels`
draws the outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_GAPS = (0.15, 0.5, 1.0, 1.6, 2.4, 3.4, 4.6, 6.0)  # label heights between the marker and its label
_GRID = (24, 20)
_SWEEPS = 40
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
    count = len(scene.anchors)
    candidates = [_candidates(scene, i) for i in range(count)]
    costs = [_own_cost(scene, i, boxes) for i, boxes in enumerate(candidates)]
    chosen: list[np.ndarray | None] = [None] * count
    for _ in range(_SWEEPS):
        moved = False
        for i in _by_crowding(scene.anchors):
            better = _best(scene, i, candidates[i], costs[i], chosen)
            moved |= better is not chosen[i] and not _same(better, chosen[i])
            chosen[i] = better
        if not moved:
            break
    return _without_overlaps(chosen)


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
    cost += 8 * _crossed_boxes(scene.lines, boxes)
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


def _best(
    scene: Scene, i: int, boxes: np.ndarray, own: np.ndarray, chosen: Sequence[np.ndarray | None]
) -> np.ndarray | None:
    """The cheapest place of a label beside the places that the other labels have now."""
    if not len(boxes):
        return None
    rest = [j for j, box in enumerate(chosen) if box is not None and j != i]
    if not rest:
        return boxes[own.argmin()]
    others = np.stack([chosen[j] for j in rest])
    anchors = scene.anchors[rest]
    there = np.concatenate([anchors, np.clip(anchors, others[:, :2], others[:, 2:])], axis=1)
    ends = _leader_ends(scene.anchors[i], boxes)
    here = np.concatenate([np.broadcast_to(scene.anchors[i], ends.shape), ends], axis=1)
    cost = own + _OVERLAP * _overlaps(boxes, others).sum(axis=1)
    cost += _CROSSING * (_crossed_boxes(there, boxes) + _crossed_boxes(here, others, by_line=True))
    return boxes[(cost + _CROSSING * _crossed_lines(here, there)).argmin()]


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a, b) whether two boxes share more than an edge."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low > 1e-9).all(axis=-1)


def _crossed_boxes(lines: np.ndarray, boxes: np.ndarray, by_line: bool = False) -> np.ndarray:
    """How many lines meet each box, or with `by_line` how many boxes each line meets (clipping by slabs)."""
    start, step = lines[:, None, :2], (lines[:, 2:] - lines[:, :2])[:, None]
    step = np.where(np.abs(step) < 1e-12, 1e-12, step)
    first, second = (boxes[None, :, :2] - start) / step, (boxes[None, :, 2:] - start) / step
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    hits = (enter < leave) & (leave > 1e-9) & (enter < 1 - 1e-9)
    return hits.sum(axis=1 if by_line else 0)


def _crossed_lines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a,) how many segments of b each segment of a crosses."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        along, across = q - p, r - p
        return np.sign(along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0])

    p, q, r, s = a[:, None, :2], a[:, None, 2:], b[None, :, :2], b[None, :, 2:]
    return ((side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0)).sum(axis=1)


def _markers_under(lines: np.ndarray, markers: np.ndarray, radius: float) -> np.ndarray:
    """(lines,) how many markers each line runs over."""
    step = lines[:, None, 2:] - lines[:, None, :2]
    offset = markers[None] - lines[:, None, :2]
    along = (offset * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-9)
    nearest = lines[:, None, :2] + np.clip(along, 0, 1)[..., None] * step
    return (np.linalg.norm(nearest - markers[None], axis=-1) < radius).sum(axis=1)


def _by_crowding(anchors: np.ndarray) -> np.ndarray:
    """Points in the thick of it first: they have the fewest good places."""
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
