"""Which variants nothing else beats on two quantities at once, and how much of the plane they cover.

A point dominates another when it is at least as good in both quantities and better in one. Hence two points
with equal values in both do not dominate each other, and both are on the front: neither variant is hidden
because another one happens to cost and score the same. A point with a value that is not finite was not
measured: it is never on the front and never dominates.
"""

from typing import Literal

import numpy as np
import pandas as pd

from bench.errors import BenchError

Better = Literal["low", "high"]


def pareto_front(
    frame: pd.DataFrame, x: str, y: str, x_better: Better = "low", y_better: Better = "high"
) -> np.ndarray:
    """Mark the rows that no other row dominates.

    Args:
        frame: one row a variant.
        x, y: columns of numbers; missing values are NaN or None.
        x_better, y_better: whether "low" or "high" values are wanted.

    Returns:
        Boolean mask, (rows,), in the order of the frame. Equal points are on the front together.

    Raises:
        BenchError: a column is not in the frame, or a direction is neither "low" nor "high".
    """
    return _front(_costs(frame, x, y, x_better, y_better))


def hypervolume_2d(
    frame: pd.DataFrame,
    x: str,
    y: str,
    reference: tuple[float, float],
    x_better: Better = "low",
    y_better: Better = "high",
) -> float:
    """Area between the Pareto front and a reference point that is worse in both quantities.

    Points that are not better than the reference in both quantities add nothing. The unit is that of x times
    that of y, so two areas compare only with the same reference; take logarithms first where x spans decades.

    Args:
        frame, x, y, x_better, y_better: as for `pareto_front`.
        reference: (x, y) of the reference point.

    Raises:
        BenchError: as `pareto_front`; or the reference is not finite.
    """
    costs = _costs(frame, x, y, x_better, y_better)
    return _area(costs, _reference_costs(reference, x_better, y_better))


def hypervolume_trace(
    frame: pd.DataFrame,
    x: str,
    y: str,
    reference: tuple[float, float],
    x_better: Better = "low",
    y_better: Better = "high",
) -> np.ndarray:
    """`hypervolume_2d` of the first row, of the first two, and so on: (rows,), never falling."""
    costs = _costs(frame, x, y, x_better, y_better)
    corner = _reference_costs(reference, x_better, y_better)
    return np.array([_area(costs[: end + 1], corner) for end in range(len(costs))], dtype=float)


def staircase(frame: pd.DataFrame, x: str, y: str, x_better: Better = "low", y_better: Better = "high") -> np.ndarray:
    """Distinct points of the front from the best x to the best y: (points, 2), in the frame's own units."""
    costs = _costs(frame, x, y, x_better, y_better)
    points = np.unique(costs[_front(costs)], axis=0).reshape(-1, 2)
    return points * np.array([_sign(x_better), _sign(y_better)])


def _costs(frame: pd.DataFrame, x: str, y: str, x_better: Better, y_better: Better) -> np.ndarray:
    """The two columns as (rows, 2) floats of which less is better in both."""
    missing = [name for name in (x, y) if name not in frame.columns]
    if missing:
        have = ", ".join(map(str, frame.columns))
        raise BenchError(f"There is no column {missing[0]!r} to draw a front from; the table has: {have}.")
    columns = [pd.to_numeric(frame[name]).to_numpy(dtype=float, na_value=np.nan) for name in (x, y)]
    return np.stack(columns, axis=1) * np.array([_sign(x_better), _sign(y_better)])


def _reference_costs(reference: tuple[float, float], x_better: Better, y_better: Better) -> np.ndarray:
    corner = np.array(reference, dtype=float) * np.array([_sign(x_better), _sign(y_better)])
    if not np.isfinite(corner).all():
        raise BenchError(f"The reference point {reference} of a hypervolume must be finite in both values.")
    return corner


def _sign(better: Better) -> float:
    if better not in ("low", "high"):
        raise BenchError(f"A quantity is better 'low' or 'high', not {better!r}.")
    return 1.0 if better == "low" else -1.0


def _front(costs: np.ndarray) -> np.ndarray:
    """In order of x: on the front are the best y of an equal x, if below the best y of every smaller x."""
    mask = np.zeros(len(costs), dtype=bool)
    finite = np.flatnonzero(np.isfinite(costs).all(axis=1))
    best_before = np.inf
    for value in np.unique(costs[finite, 0]):
        same = finite[costs[finite, 0] == value]
        best = costs[same, 1].min()
        mask[same] = (costs[same, 1] == best) & (best < best_before)
        best_before = min(best_before, best)
    return mask


def _area(costs: np.ndarray, corner: np.ndarray) -> float:
    """Sum of the front's slabs, each from its x to the corner and from its y to the y before it."""
    inside = costs[(costs < corner).all(axis=1)]  # false for NaN
    steps = np.unique(inside[_front(inside)], axis=0).reshape(-1, 2)
    heights = -np.diff(steps[:, 1], prepend=corner[1])
    return float(((corner[0] - steps[:, 0]) * heights).sum())
