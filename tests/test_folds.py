"""Whole scenes divided into parts of one mixture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.folds import divide


@st.composite
def divisions(draw):
    """Names, pixels of each class in each scene, and shares of two to five parts."""
    scenes, classes = draw(st.integers(5, 24)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    amounts = rng.integers(0, 1000, (scenes, classes)) * (rng.random((scenes, classes)) < draw(st.floats(0.1, 1)))
    shares = rng.dirichlet(np.full(draw(st.integers(2, 5)), 5.0))
    return [f"s{i}" for i in range(scenes)], amounts, shares


def unevenness(amounts, shares, parts):
    """The sum over parts and classes (and scenes) of (share held - share wanted)^2 / share wanted."""
    columns = np.concatenate([amounts[:, amounts.any(0)], np.ones((len(amounts), 1))], 1)
    held = np.array([columns[parts == part].sum(0) / columns.sum(0) for part in range(len(shares))])
    return ((held - shares[:, None]) ** 2 / shares[:, None]).sum()


class TestDivide:
    @given(divisions())
    def test_every_scene_has_one_part_and_no_part_is_empty(self, given):
        _, _, shares = given
        parts = divide(*given)
        assert set(parts) == set(range(len(shares)))

    @given(divisions(), st.randoms())
    def test_the_order_of_scenes_is_nothing(self, given, random):
        names, amounts, shares = given
        order = list(range(len(names)))
        random.shuffle(order)
        again = divide([names[i] for i in order], amounts[order], shares)
        assert (again == divide(*given)[order]).all()

    @given(divisions())
    def test_no_move_and_no_exchange_would_spread_the_classes_better(self, given):
        names, amounts, shares = given
        parts = divide(*given)
        least = unevenness(amounts, shares, parts) - 1e-6
        for one in range(len(names)):
            for part in range(len(shares)):
                moved = parts.copy()
                moved[one] = part
                assert len(set(moved)) < len(shares) or unevenness(amounts, shares, moved) >= least
            for other in range(one):
                exchanged = parts.copy()
                exchanged[[one, other]] = parts[[other, one]]
                assert unevenness(amounts, shares, exchanged) >= least

    @pytest.mark.parametrize("scenes", [40, 4000])
    def test_a_class_of_few_scenes_is_in_every_part(self, scenes):
        """A random division leaves a part without it every other time."""
        rng = np.random.default_rng(1)
        amounts = rng.integers(0, 1000, (scenes, 3))
        amounts[:, 2] = 0
        amounts[rng.choice(scenes, 5, replace=False), 2] = 500
        parts = divide([f"s{i:04d}" for i in range(scenes)], amounts, (0.2,) * 5)
        assert sorted(parts[amounts[:, 2] > 0]) == [0, 1, 2, 3, 4]
        shares = np.array([amounts[parts == part].sum(0) / amounts.sum(0) for part in range(5)])
        np.testing.assert_allclose(shares, 0.2, rtol=0.05)

    def test_fewer_scenes_than_parts_leave_the_last_parts_empty(self):
        assert sorted(divide(["a", "b"], np.array([[5, 1], [2, 2]]), (0.4, 0.3, 0.3))) == [0, 1]
