"""Verdicts: what the model of a study estimates, what its intervals hold, and what adding trainings may say."""

import doctest
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.errors import BenchError
from bench.stats import DELTA, SCENES, evidence, verdict
from bench.stats.looks import grown, look_levels, look_seeds, mean_variance, seeds_to_settle
from bench.stats.model import Layout, fit, simultaneous
from bench.stats.verdicts import overlap_inflation


def table(seed, variants=6, seeds=3, rest=0.014, shared=0.01, effects=0.0):
    rng = np.random.default_rng(seed)
    scores = 0.6 + shared * rng.standard_normal(seeds) + rest * rng.standard_normal((variants, seeds))
    return scores + np.broadcast_to(effects, variants)[:, None]


def against_first(variants):
    return np.eye(variants)[1:] - np.eye(variants)[0]


def complete(variants, seeds):
    return Layout(np.ones((variants, seeds), dtype=bool))


def as_scores(scores):
    return {f"v{i}": dict(enumerate(row)) for i, row in enumerate(scores.tolist())}


PAIRS = [(f"v{i}", "v0") for i in range(1, 6)]


# The model


def test_effects_are_plain_differences_of_means_where_all_have_the_same_seeds():
    scores = table(0)
    found = evidence(as_scores(scores)).compare(PAIRS)
    np.testing.assert_allclose([c.effect for c in found], (scores[1:] - scores[0]).mean(axis=1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.2, 0.2), st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3))
def test_what_a_seed_does_to_all_and_the_level_of_all_change_nothing(seed, level, seeds):
    scores = table(seed)
    same = simultaneous(against_first(6), fit(scores, complete(6, 3)), draws=500)
    moved = simultaneous(against_first(6), fit(scores + level + np.array(seeds), complete(6, 3)), draws=500)
    np.testing.assert_allclose(moved.effects, same.effects, atol=1e-6)
    np.testing.assert_allclose(moved.half_widths, same.half_widths, rtol=1e-3)


def test_of_two_variants_the_interval_is_that_of_the_paired_t_test_and_a_little_more():
    """All that two variants tell of chance is the spread of their differences: no prior can add to it."""
    for seeds in (3, 5, 8):
        scores = table(seeds, variants=2, seeds=seeds)
        found = simultaneous(against_first(2), fit(scores, complete(2, seeds)), draws=200_000)
        differences = scores[1] - scores[0]
        error = differences.std(ddof=1) / np.sqrt(seeds)
        np.testing.assert_allclose(found.effects, differences.mean())
        exact = stats.t.isf(0.045 / 2, seeds - 1) * error
        assert 0.95 * exact < found.half_widths[0] < 1.2 * exact


def test_variances_are_shrunk_towards_the_study_and_those_of_many_seeds_less():
    rng, spread = np.random.default_rng(1), np.geomspace(0.004, 0.04, 12)
    errors = {}
    for seeds in (3, 40):
        scores = 0.6 + spread[:, None] * rng.standard_normal((12, seeds))
        found = fit(scores, complete(12, seeds)).variances
        assert np.ptp(np.log(found)) < np.ptp(np.log(scores.var(axis=1, ddof=1)))
        errors[seeds] = np.abs(np.log(found / spread**2)).mean()
    assert errors[40] < 0.5
    assert errors[3] > errors[40]


def test_residuals_are_solved_for_each_variants_own_variance():
    """A residual of the two-way table holds a share of all variants' rests; one noisy variant must not taint three."""
    rng, noisy = np.random.default_rng(2), np.array([0.03, 0.01, 0.01, 0.01])
    scores = 0.6 + noisy[:, None] * rng.standard_normal((4, 400))
    np.testing.assert_allclose(np.sqrt(fit(scores, complete(4, 400)).variances), noisy, rtol=0.15)


def test_more_of_the_base_alone_narrows_intervals_where_seeds_matter_little():
    def width(shared):
        scores = table(3, variants=8, seeds=12, shared=shared)
        few = simultaneous(against_first(8), fit(scores[:, :3], complete(8, 3)), draws=4000)
        present = np.zeros((8, 12), dtype=bool)
        present[:, :3] = present[0] = True
        more = simultaneous(against_first(8), fit(scores, Layout(present)), draws=4000)
        return np.median(more.half_widths / few.half_widths)

    assert width(shared=0.0) < 0.9
    assert width(shared=0.0) < width(shared=0.2)


def test_one_seed_has_an_effect_and_nothing_to_judge_it_by():
    assert evidence({"a": {0: 0.5}, "b": {0: 0.6}}) is None
    with pytest.raises(BenchError, match="at least 2 seeds"):
        fit(table(0, seeds=1), complete(6, 1))
    with pytest.raises(BenchError, match="needs a training"):
        Layout(np.array([[True], [False]]))


def test_a_variant_with_a_single_seed_is_not_judged_and_widens_no_other_interval():
    scores = as_scores(table(5, seeds=4))
    others = {label: scores[label] for label in scores if label != "v5"}
    known = evidence({**others, "v5": {0: scores["v5"][0]}})
    assert known.labels == tuple(others)
    assert known.compare(PAIRS[:-1]) == evidence(others).compare(PAIRS[:-1])


def test_means_of_unequal_seeds_are_those_of_the_same_seeds():
    """Seed 2 was a good one, of which b knows nothing: it is not worse for that."""
    rng = np.random.default_rng(0)
    scores = as_scores(0.6 + np.array([0.0, 0.0, 0.05, 0.0]) + 0.002 * rng.standard_normal((4, 4)))
    scores["v3"] = {seed: scores["v3"][seed] for seed in (0, 1)}
    means = evidence(scores).means()
    assert means["v3"] == pytest.approx(means["v0"], abs=0.005)
    plain = np.mean(list(scores["v3"].values()))
    assert plain < means["v0"] - 0.01
    effects = {c.variant: c.effect for c in evidence(scores).compare([("v3", "v0"), ("v1", "v0")])}
    assert effects["v3"] == pytest.approx(means["v3"] - means["v0"])


def test_equal_scores_are_equivalent_and_nothing_divides_by_zero():
    found = evidence(as_scores(np.full((3, 3), 0.5))).compare(PAIRS[:2])
    assert [c.verdict for c in found] == ["equivalent"] * 2


def test_the_same_records_give_the_same_verdicts():
    scores = as_scores(table(6))
    assert evidence(scores).compare(PAIRS) == evidence(scores).compare(PAIRS)


# Intervals hold


@cache
def misses(variants, seeds, spread, studies=300):
    """Of so many simulated studies, those of which any interval misses."""
    rng, layout, missed = np.random.default_rng(0), complete(variants, seeds), 0
    for i in range(studies):
        deviation = 0.014 * np.exp(spread * rng.standard_normal((variants, 1)))
        scores = 0.6 + 0.01 * rng.standard_normal(seeds) + deviation * rng.standard_normal((variants, seeds))
        found = simultaneous(against_first(variants), fit(scores, layout), draws=1000, seed=i // 50)
        missed += bool((np.abs(found.effects) > found.half_widths).any())
    return missed


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.4])
@pytest.mark.parametrize(("variants", "seeds"), [(2, 3), (6, 2), (6, 5), (18, 3)])
def test_all_intervals_of_a_study_hold_together(variants, seeds, spread):
    assert stats.binomtest(misses(variants, seeds, spread), 300, 0.05, alternative="greater").pvalue > 0.01


def test_an_astray_training_widens_its_own_interval_most():
    scores = table(7, variants=10, seeds=4)
    scores[4, 2] -= 0.25
    found = simultaneous(against_first(10), fit(scores, complete(10, 4)), draws=4000)
    assert np.argmax(found.half_widths) == 3
    assert found.half_widths[3] > 2 * np.median(found.half_widths)
    assert abs(found.effects[3]) < found.half_widths[3]


# Verdicts and scopes


@settings(max_examples=200, deadline=None)
@given(st.floats(-0.1, 0.1), st.floats(0, 0.1), st.floats(0.001, 0.05))
def test_a_verdict_says_no_more_than_its_interval(effect, half, delta):
    low, high = effect - half, effect + half
    said = verdict(low, high, delta)
    assert said.startswith("better") == (low > 0)
    assert said.startswith("worse") == (high < 0)
    assert (said == "equivalent" or "within" in said) == (-delta <= low and high <= delta)
    assert (said == "undecided") == (low <= 0 <= high and not (-delta <= low and high <= delta))


def test_a_verdict_without_an_interval_is_undecided():
    assert verdict(float("nan"), float("nan")) == "undecided"


def test_other_scenes_are_less_certain_than_these_images():
    scores, rng = table(8, effects=[0, 0, 0, 0, 0, 0.06]), np.random.default_rng(8)
    scenes = {f"v{i}": scores[i].mean() + 0.05 * rng.standard_normal(8) for i in range(6)}
    known = evidence(as_scores(scores), scenes)
    here, there = known.compare(PAIRS), known.compare(PAIRS, scope=SCENES)
    assert all(b.low < a.low and a.high < b.high and a.effect == b.effect for a, b in zip(here, there, strict=True))
    assert (here[-1].verdict, there[-1].verdict) == ("better", "undecided")


def test_overlapping_training_sets_widen_what_is_said_of_other_scenes():
    scores, rng = table(9), np.random.default_rng(9)
    scenes = {f"v{i}": scores[i].mean() + 0.05 * rng.standard_normal(20) for i in range(6)}
    split, folds = (evidence(as_scores(scores), scenes, k).compare(PAIRS, scope=SCENES)[0] for k in (0, 5))
    assert overlap_inflation(5) == pytest.approx(1 + 5 / 4)  # Nadeau and Bengio: 1/5 + 1/4 instead of 1/5
    assert folds.high - folds.low > 1.15 * (split.high - split.low)


# Adding trainings


def test_looks_share_the_error():
    assert look_seeds(2) == (2, 3, 5, 8)
    assert sum(look_levels(look_seeds(3))) == pytest.approx(0.05)
    assert look_levels((4,)) == (0.05,)


def test_only_what_is_open_gets_more_trainings_and_its_base():
    present = np.ones((5, 3), dtype=bool)
    more = grown(present, [(2, 0)], 5, gamma=30.0)
    np.testing.assert_array_equal(more.sum(axis=1), [5, 3, 5, 3, 3])
    np.testing.assert_array_equal(more[:, :3], present)


def test_many_open_comparisons_get_more_of_their_base_where_seeds_share_little():
    present, pairs = np.ones((18, 3), dtype=bool), [(i, 0) for i in range(1, 18)]
    little, much = (grown(present, pairs, 5, gamma) for gamma in (0.0, 30.0))
    assert 2 * 5 < little[0].sum() <= 4 * 5
    assert much[0].sum() == 5
    assert little[1:].sum() == 17 * 5


def test_the_variance_of_comparisons_is_the_textbook_one():
    present = np.ones((3, 4), dtype=bool)
    assert mean_variance(present, [(1, 0), (2, 0)], gamma=2.0) == pytest.approx(2 / 4)
    unpaired = np.array([[True] * 4, [False] * 2 + [True] * 2])
    assert mean_variance(unpaired, [(1, 0)], gamma=0.0) == pytest.approx(1 / 4 + 1 / 2)


def test_seeds_to_settle_are_those_at_which_four_of_five_studies_would_be():
    needed = seeds_to_settle(0.03, 2 * 0.014**2, 0.0, DELTA, seeds=3, critical=3.4, comparisons=1)
    error = np.sqrt(2 * 0.014**2 / needed)
    assert stats.norm.sf(1.96 - 0.03 / error) >= 0.8
    more = {"seeds": 3, "critical": 3.4, "comparisons": 5}
    assert seeds_to_settle(0.02, 2 * 0.014**2, 0.0, DELTA, **more) > seeds_to_settle(
        0.03, 2 * 0.014**2, 0.0, DELTA, **more
    )
    assert seeds_to_settle(0.03, 2 * 0.014**2, 0.02**2, DELTA, **more) is None  # the scenes leave it open


def test_the_examples_in_the_documentation_run():
    for name in ("bench.stats.verdicts", "bench.stats.looks"):
        found = doctest.testmod(sys.modules[name])
        assert found.attempted > 0
        assert found.failed == 0
