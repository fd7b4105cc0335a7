"""The front is what no row dominates; the hypervolume is the area that it covers."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.stats.pareto import hypervolume_2d, hypervolume_trace, pareto_front, staircase

# A small grid makes ties frequent; NaN and infinity are among the values.
VALUES = st.one_of(st.integers(-4, 4).map(float), st.sampled_from([np.nan, np.inf, -np.inf]))
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=14)
FINITE = st.lists(st.tuples(st.integers(-5, 5).map(float), st.integers(-5, 5).map(float)), max_size=10)
BETTER = st.sampled_from(["low", "high"])
QUICK = settings(max_examples=60, deadline=None)


def table(points):
    return pd.DataFrame(points, columns=["cost", "gain"], dtype=float)


def dominates(a, b, x_better, y_better):
    """First principles: at least as good in both, better in one."""
    signs = [1 if better == "high" else -1 for better in (x_better, y_better)]
    gains = [(p - q) * sign for p, q, sign in zip(a, b, signs, strict=True)]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


@QUICK
@given(POINTS, BETTER, BETTER)
def test_front_is_exactly_the_measured_points_that_none_dominates(points, x_better, y_better):
    mask = pareto_front(table(points), "cost", "gain", x_better, y_better)
    measured = [p for p in points if np.isfinite(p).all()]
    for point, on_front in zip(points, mask, strict=True):
        beaten = any(dominates(other, point, x_better, y_better) for other in measured)
        assert on_front == (np.isfinite(point).all() and not beaten)


@QUICK
@given(POINTS, BETTER, BETTER)
def test_whatever_is_off_the_front_is_dominated_by_a_member(points, x_better, y_better):
    mask = pareto_front(table(points), "cost", "gain", x_better, y_better)
    members = [p for p, on_front in zip(points, mask, strict=True) if on_front]
    for point in (p for p, on_front in zip(points, mask, strict=True) if not on_front):
        if np.isfinite(point).all():
            assert any(dominates(member, point, x_better, y_better) for member in members)


@QUICK
@given(POINTS, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    mask = pareto_front(table(points), "cost", "gain")
    shuffled = pareto_front(table([points[i] for i in order]), "cost", "gain")
    assert list(shuffled) == [mask[i] for i in order]


def test_equal_points_are_on_the_front_together():
    frame = table([(1, 5), (1, 5), (2, 5), (1, 4), (3, 6)])
    assert list(pareto_front(frame, "cost", "gain")) == [True, True, False, False, True]


def test_missing_values_of_pandas_count_as_not_measured():
    frame = pd.DataFrame({"cost": pd.array([1, None, 2], dtype="Int64"), "gain": [0.2, 0.9, None]})
    assert list(pareto_front(frame, "cost", "gain")) == [True, False, False]


def brute_force_area(points, reference):
    """Sum of the cells of the grid through all coordinates that some point covers (x low, y high)."""
    xs = sorted({min(p[0], reference[0]) for p in points} | {reference[0]})
    ys = sorted({max(p[1], reference[1]) for p in points} | {reference[1]})
    area = 0.0
    for (left, right), (low, high) in itertools.product(itertools.pairwise(xs), itertools.pairwise(ys)):
        if any(x <= left and y >= high for x, y in points):
            area += (right - left) * (high - low)
    return area


@QUICK
@given(FINITE)
def test_hypervolume_is_the_area_counted_cell_by_cell(points):
    assert hypervolume_2d(table(points), "cost", "gain", (3.0, -3.0)) == pytest.approx(
        brute_force_area(points, (3.0, -3.0))
    )


@QUICK
@given(FINITE)
def test_hypervolume_agrees_with_optuna(points):
    hypervolume = pytest.importorskip("optuna._hypervolume")
    losses = np.array([(x, -y) for x, y in points if x < 3 and -y < 3]).reshape(-1, 2)
    assume(len(losses))
    expected = hypervolume.compute_hypervolume(losses, np.array([3.0, 3.0]))
    assert hypervolume_2d(table(points), "cost", "gain", (3.0, -3.0)) == pytest.approx(expected)


@QUICK
@given(FINITE, BETTER, BETTER)
def test_hypervolume_only_grows_with_points_and_only_by_the_front(points, x_better, y_better):
    frame = table(points)
    reference = (6.0 if x_better == "low" else -6.0, 6.0 if y_better == "low" else -6.0)
    trace = hypervolume_trace(frame, "cost", "gain", reference, x_better, y_better)
    assert (np.diff(trace, prepend=0.0) >= -1e-12).all()
    if points:
        whole = hypervolume_2d(frame, "cost", "gain", reference, x_better, y_better)
        front = frame[pareto_front(frame, "cost", "gain", x_better, y_better)]
        assert trace[-1] == pytest.approx(whole)
        assert whole == pytest.approx(hypervolume_2d(front, "cost", "gain", reference, x_better, y_better))


def test_points_beyond_the_reference_add_nothing():
    assert hypervolume_2d(table([(9, 9), (1, -4), (np.nan, 9)]), "cost", "gain", (3.0, -3.0)) == 0.0


def test_staircase_climbs_from_cheap_to_good():
    frame = table([(4, 9), (1, 5), (2, 7), (2, 6), (1, 5), (np.nan, 10)])
    assert staircase(frame, "cost", "gain").tolist() == [[1, 5], [2, 7], [4, 9]]
    assert staircase(frame[:0], "cost", "gain").shape == (0, 2)


@pytest.mark.parametrize("better", ["up", ""])
def test_unknown_direction_is_a_sentence(better):
    with pytest.raises(BenchError, match="'low' or 'high'"):
        pareto_front(table([(1, 2)]), "cost", "gain", better)


def test_unknown_column_is_a_sentence():
    with pytest.raises(BenchError, match=r"no column 'speed'.*cost, gain"):
        pareto_front(table([(1, 2)]), "speed", "gain")


def test_reference_must_be_finite():
    with pytest.raises(BenchError, match="finite"):
        hypervolume_2d(table([(1, 2)]), "cost", "gain", (np.inf, 0.0))
