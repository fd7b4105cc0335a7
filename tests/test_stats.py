"""Statistics: pooled scores as in `bench.training.metrics`, intervals and p values that keep what they promise."""

import doctest
import itertools
import math
import sys
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.errors import BenchError
from bench.stats import (
    Comparison,
    class_differences,
    compare,
    f1_interval,
    holm,
    macro_f1,
    macro_iou,
    pool_groups,
    verdict,
)
from bench.stats import pooled as pooled_module
from bench.stats import spread as spread_module
from bench.stats.pooled import class_counts, class_f1, class_iou, resampled, stack_runs
from bench.stats.spread import Spread, spread_of
from bench.training.metrics import scores


def random_runs(seed, runs=3, images=8, classes=4, most=200):
    """Confusion matrices as uneven as real ones: some classes are missing from most images."""
    rng = np.random.default_rng(seed)
    matrices = rng.integers(0, most, (runs, images, classes, classes)) + most * np.eye(classes, dtype=int)
    return list(matrices * rng.integers(0, 2, (1, images, classes, 1)))


# Pooled scores


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.lists(st.integers(0, 6), max_size=3))
def test_vectorised_scores_equal_those_of_the_metrics(seed, classes, missing):
    matrix = np.random.default_rng(seed).integers(0, 50, (classes, classes))
    for k in missing:  # absent from the truth, from the prediction, or from both
        matrix[k % classes] = 0
        if k % 2:
            matrix[:, k % classes] = 0
    expected, counts = scores(matrix), class_counts(matrix)
    np.testing.assert_allclose(class_f1(counts), expected.f1, rtol=1e-12)
    np.testing.assert_allclose(class_iou(counts), expected.iou, rtol=1e-12)
    np.testing.assert_allclose(macro_f1(counts), expected.macro_f1, rtol=1e-12)
    np.testing.assert_allclose(macro_iou(counts), expected.macro_iou, rtol=1e-12)


def test_every_draw_scores_the_pooled_matrix_of_the_images_it_drew(monkeypatch):
    runs, draws = random_runs(0, runs=2), 25
    whole = resampled(stack_runs(runs), class_f1, draws, np.random.default_rng(3))
    drawn = np.random.default_rng(3).integers(0, 8, (draws, 8))
    for row, images in zip(whole, drawn, strict=True):
        for values, run in zip(row, runs, strict=True):
            np.testing.assert_allclose(values, scores(run[images].sum(0)).f1, rtol=1e-12)
    monkeypatch.setattr(pooled_module, "CHUNK", 8 * 4)  # four draws at a time, the last chunk is not full
    chunked = resampled(stack_runs(runs), class_f1, draws, np.random.default_rng(3))
    np.testing.assert_allclose(chunked, whole)


def test_tiles_pool_by_the_image_they_were_cut_from():
    (run,) = random_runs(1, runs=1, images=5)
    pooled = pool_groups(run, ["b", "a", "b", "c", "a"])
    np.testing.assert_array_equal(pooled, np.stack([run[0] + run[2], run[1] + run[4], run[3]]))
    with pytest.raises(BenchError, match="4 groups of 5 images"):
        pool_groups(run, list("abca"))


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([], "no run"),
        ([np.ones((3, 2, 2), int), np.ones((4, 2, 2), int)], "same images"),
        ([np.ones((3, 2, 3), int)], "classes"),
        ([np.ones((1, 2, 2), int)], "at least 2"),
        ([np.zeros((3, 2, 2), int)], "no pixel"),
    ],
)
def test_runs_that_cannot_be_judged_get_a_sentence(runs, says):
    with pytest.raises(BenchError, match=says):
        f1_interval(runs)
    with pytest.raises(BenchError, match=says):
        compare(runs, runs)


# Intervals of one network


def test_interval_is_around_the_mean_of_the_seeds_and_repeats():
    runs = random_runs(2)
    interval = f1_interval(runs)
    assert interval.value == pytest.approx(np.mean([scores(run.sum(0)).macro_f1 for run in runs]))
    assert 0 <= interval.low < interval.value < interval.high <= 1
    assert (interval.seeds, interval.images) == (3, 8)
    assert f1_interval(runs) == interval
    iou = f1_interval(runs, metric=macro_iou)
    assert iou.value == pytest.approx(np.mean([scores(run.sum(0)).macro_iou for run in runs]))


def test_interval_of_one_seed_is_the_bootstrap_of_its_images():
    (run,) = random_runs(3, runs=1, images=60)
    interval = f1_interval([run], draws=4000)
    drawn = np.random.default_rng(9).integers(0, 60, (2000, 60))
    spread = np.std([scores(run[images].sum(0)).macro_f1 for images in drawn])
    assert interval.high - interval.low == pytest.approx(2 * 2.0 * spread, rel=0.08)
    assert interval.seeds == 1


# Comparisons


def test_effect_is_the_mean_difference_and_turns_with_the_order():
    a, b = random_runs(4), random_runs(5)
    forth, back = compare(a, b), compare(b, a)
    pairs = [scores(y.sum(0)).macro_f1 - scores(x.sum(0)).macro_f1 for x, y in zip(a, b, strict=True)]
    assert forth.effect == pytest.approx(np.mean(pairs))
    assert forth.seed_deviation == pytest.approx(np.std(pairs, ddof=1))
    assert back.effect == pytest.approx(-forth.effect)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert back.p == pytest.approx(forth.p)
    assert compare(a, b) == forth


def test_a_network_against_itself_is_no_difference():
    runs = random_runs(6)
    same = compare(runs, runs)
    assert (same.effect, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert same.seeds_needed is None
    assert verdict(same, same.p) == "no evidence"


def test_pairing_takes_out_what_seeds_and_images_share():
    """b is a with a few more hits on every image of every seed: tiny beside the spread of either."""
    a = random_runs(7, images=30, most=2000)
    b = [run + 15 * (run > 0) * np.eye(4, dtype=int) for run in a]
    alone, paired = f1_interval(a), compare(a, b)
    assert 0 < paired.low < paired.effect < paired.high
    assert paired.effect < (alone.high - alone.low) / 5
    assert verdict(paired, paired.p) == "better"


def test_seeds_must_pair():
    with pytest.raises(BenchError, match="3 and 2 runs"):
        compare(random_runs(0), random_runs(0, runs=2))


def test_one_seed_gives_an_effect_and_no_evidence():
    one = compare(random_runs(0, runs=1), random_runs(1, runs=1))
    assert one.effect != 0
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert (one.p, one.seeds_needed) == (1.0, None)
    assert verdict(one, one.p) == "no evidence"


def test_class_differences_are_those_of_each_class():
    a, b = random_runs(8), random_runs(9)
    for k, found in enumerate(class_differences(a, b)):
        pairs = [scores(y.sum(0)).f1[k] - scores(x.sum(0)).f1[k] for x, y in zip(a, b, strict=True)]
        assert found.effect == pytest.approx(np.mean(pairs))
        assert found.low < found.effect < found.high


def test_a_class_that_is_nowhere_is_not_compared_and_spoils_nothing():
    a, b = random_runs(8), random_runs(9)
    for run in (*a, *b):
        run[:, 2, :] = run[:, :, 2] = 0
    nowhere = class_differences(a, b)[2]
    assert math.isnan(nowhere.effect)
    assert (nowhere.p, verdict(nowhere, nowhere.p)) == (1.0, "no evidence")
    assert math.isfinite(compare(a, b).low)


# Holm and verdicts


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_rule_rejects(ps):
    adjusted = holm(ps)
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    rejecting = True
    for rank, i in enumerate(order):  # the rule as published: the smallest against alpha / m, the next / (m - 1), ...
        rejecting = rejecting and ps[i] * (len(ps) - rank) < 0.05
        assert (adjusted[i] < 0.05) == rejecting
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))


def test_holm_of_nothing_and_of_what_is_no_p():
    assert holm([]) == []
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(BenchError, match=r"0\.\.1"):
            holm([0.5, wrong])


def test_the_example_in_the_documentation_runs():
    found = doctest.testmod(sys.modules["bench.stats.compare"])
    assert found.attempted > 0
    assert found.failed == 0


def test_verdicts():
    found = Comparison(0.02, 0.01, 0.03, 0.001, 3, 60, 2, 0.001, 0.001)
    assert verdict(found, 0.049) == "better"
    assert verdict(replace(found, effect=-0.02), 0.049) == "worse"
    assert verdict(found, 0.05) == "no evidence"


# The mixture of two t distributions


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("effect", [0.001, 0.02, 0.1, 0.7])
def test_one_source_alone_is_a_plain_t_test(seeds, effect):
    by_seeds, by_images = Spread(4e-4, 0.0, seeds, 60), Spread(0.0, 4e-4, seeds, 60)
    for spread, freedom in ((by_seeds, seeds - 1), (by_images, 59)):
        assert spread.p_value(effect) == pytest.approx(2 * stats.t.sf(effect / spread.error, freedom), rel=1e-8)
        assert spread.half_width == pytest.approx(stats.t.isf(0.025, freedom) * spread.error, rel=1e-6)


def test_both_sources_are_the_sum_of_two_ts():
    spread, rng = Spread(4e-4, 2e-4, 3, 10), np.random.default_rng(0)
    errors = math.sqrt(4e-4 / 3) * rng.standard_t(2, 10**6) + math.sqrt(2e-4) * rng.standard_t(9, 10**6)
    for effect in (0.01, 0.04, 0.1):
        assert spread.p_value(effect) == pytest.approx((abs(errors) > effect).mean(), rel=0.02)
    assert spread.p_value(spread.half_width) == pytest.approx(0.05)


def test_p_is_as_exact_as_a_far_finer_sum(monkeypatch):
    rng = np.random.default_rng(6)
    spreads = [
        Spread(10**a, 10**b, s, 50) for a, b, s in zip(*rng.uniform(-6, -2, (2, 40)), [2, 3, 4, 9] * 10, strict=True)
    ]
    effects = rng.uniform(0.2, 9, 40)
    coarse = [spread.p_value(effect * spread.error) for spread, effect in zip(spreads, effects, strict=True)]
    monkeypatch.setattr(spread_module, "_NODES", np.linspace(-8, 8, 1601))
    fine = [replace(s).p_value(effect * s.error) for s, effect in zip(spreads, effects, strict=True)]
    np.testing.assert_allclose(coarse, fine, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-10, 1), st.floats(1e-10, 1), st.integers(2, 40), st.integers(2, 10**4))
def test_p_falls_with_the_effect_and_agrees_with_the_interval(seed_variance, image_variance, seeds, images):
    spread = Spread(seed_variance, image_variance, seeds, images)
    effects = np.geomspace(1e-3, 1e2, 15) * spread.error
    ps = [spread.p_value(effect) for effect in effects]
    assert all(0 <= p <= 1 for p in ps)
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(ps))
    assert spread.p_value(spread.half_width * 1.001) < 0.05 < spread.p_value(spread.half_width * 0.999)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_false_findings_are_at_most_what_p_says(seeds, share):
    """Normal errors, variances estimated from S seeds and 60 images; `share` of the variance is the seeds'."""
    rng, runs = np.random.default_rng(1), 1500
    by_seeds = share * rng.chisquare(seeds - 1, runs) / (seeds - 1)
    by_images = (1 - share) * rng.chisquare(59, runs) / 59
    errors = rng.normal(size=runs)
    ps = np.array(
        [Spread(v * seeds, w, seeds, 60).p_value(e) for v, w, e in zip(by_seeds, by_images, errors, strict=True)]
    )
    assert 0.01 < (ps < 0.05).mean() < 0.06
    assert (ps < 0.01).mean() < 0.014


# The whole way, on simulated trainings


@dataclass(frozen=True)
class World:
    """Two networks whose recall of a class on an image is a sum of chances, on the logit scale."""

    seeds: int
    images: int = 30
    seed: float = 0.2
    shared: float = 0.2  # network by image: what no number of seeds averages out
    own: float = 0.2  # seed by image
    gain: float = 0.0  # of the second network
    classes: int = 4

    def sample(self, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        ramp, shape = np.linspace(0, 1, self.classes), (self.images, self.classes)
        pixels = np.round(4096 * rng.dirichlet(0.3 + 2 * ramp, self.images))
        scene = 2 - 1.8 * ramp + rng.normal(0, 0.5, shape)
        both = []
        for network in (0, 1):
            steady = scene + self.gain * network + rng.normal(0, self.shared, shape)
            chance = rng.normal(0, self.seed, (self.seeds, 1, self.classes))
            chance = chance + rng.normal(0, self.own, (self.seeds, *shape))
            both.append(list(self._matrices(pixels, 1 / (1 + np.exp(-steady - chance)))))
        return both[0], both[1]

    def _matrices(self, pixels, recall):
        confused = (1 - np.eye(self.classes)) * np.linspace(1, 0.2, self.classes)
        confused /= confused.sum(1, keepdims=True)
        hits = pixels * recall
        matrices = (pixels - hits)[..., None] * confused + hits[..., None] * np.eye(self.classes)
        return np.round(matrices).astype(np.int64)

    def truth(self) -> float:
        """The difference that infinitely many seeds and images would show."""
        a, b = replace(self, seeds=40, images=2000).sample(np.random.default_rng(99))
        f1 = [np.mean([scores(run.sum(0)).macro_f1 for run in runs]) for runs in (a, b)]
        return f1[1] - f1[0]


def seeds_bootstrapped(a, b, rng) -> bool:
    """Whether the plain bootstrap over seeds and images finds a difference."""
    drawn = resampled(stack_runs([*a, *b]), macro_f1, 200, rng)
    differences = drawn[:, len(a) :] - drawn[:, : len(a)]
    weights = rng.multinomial(len(a), [1 / len(a)] * len(a), 200) / len(a)
    low, high = np.quantile((weights * differences).sum(1), [0.025, 0.975])
    return not low <= 0 <= high


TRIALS = 150
CHANCE = 2 * math.sqrt(0.05 * 0.95 / TRIALS)  # two standard errors of a share of 5 %
PLAIN = World(seeds=3)


@cache
def judged(world: World) -> list[Comparison]:
    """Comparisons of as many studies in that world."""
    rng = np.random.default_rng(0)
    return [compare(*world.sample(rng), draws=100) for _ in range(TRIALS)]


@pytest.mark.parametrize(
    "world",
    [
        replace(PLAIN, shared=0, own=0.1),  # only the seeds differ
        PLAIN,
        replace(PLAIN, seed=0.02, shared=0.5),  # only the images
    ],
)
def test_equal_networks_are_seldom_told_apart(world):
    assert np.mean([c.p < 0.05 for c in judged(world)]) < 0.05 + CHANCE


def test_bootstrapping_three_seeds_would_find_differences_that_are_none():
    """Why this module does not do so."""
    rng, world = np.random.default_rng(0), replace(PLAIN, shared=0, own=0.1)
    found = [seeds_bootstrapped(*world.sample(rng), rng) for _ in range(TRIALS)]
    assert np.mean(found) > 0.05 + 5 * CHANCE


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds):
    world = replace(PLAIN, seeds=seeds, gain=0.3)
    truth, found = world.truth(), judged(world)
    assert np.mean([c.effect for c in found]) == pytest.approx(truth, rel=0.1)
    assert np.mean([c.low <= truth <= c.high for c in found]) > 0.95 - CHANCE


def test_the_two_sources_add_up_to_what_effects_really_vary():
    claimed = np.mean([c.seed_deviation**2 / 3 + c.image_deviation**2 for c in judged(PLAIN)])
    assert claimed == pytest.approx(np.var([c.effect for c in judged(PLAIN)]), rel=0.25)


def test_spread_tells_seeds_from_images():
    rng, images = np.random.default_rng(4), 50
    common = rng.normal(0, 0.02, (5000, 1))
    values = np.array([0.5, 0.52, 0.54])
    found = spread_of(values, values + common + rng.normal(0, 0.01, (5000, 3)), images)
    assert found.seed_variance == pytest.approx(4e-4)
    assert found.image_variance == pytest.approx(4e-4 * 50 / 49, rel=0.1)
    alone = spread_of(values, values + rng.normal(0, 0.01, (5000, 3)), images)
    assert alone.image_variance < 1e-5
    assert spread_of(np.array([0.5, np.nan]), np.ones((9, 2)), images) is None


# How many seeds


def test_seeds_needed_settle_the_effect_four_times_in_five():
    """Of new studies with that many seeds, drawn from the spread that the answer was made of."""
    effect, rng = 0.02, np.random.default_rng(5)
    needed = Spread(4e-4, 1e-5, 3, 60).seeds_needed(effect)
    found = []
    for _ in range(600):
        pairs = rng.normal(effect, 0.02, needed) + rng.normal(0, math.sqrt(1e-5))
        image = 1e-5 * rng.chisquare(59) / 59
        found.append(Spread(pairs.var(ddof=1), image, needed, 60).p_value(pairs.mean()) < 0.05)
    assert 0.77 < np.mean(found) < 0.9
    fewer = Spread(4e-4, 1e-5, needed - 1, 60)
    assert fewer.power(effect) < 0.8 <= Spread(4e-4, 1e-5, needed, 60).power(effect)


def test_seeds_needed_of_a_plain_t_test_is_the_textbook_answer():
    """One standard deviation, paired t test, two-sided 5 %, 80 %: 10 pairs (Cohen 1988, table 2.3.5 and others)."""
    assert Spread(4e-4, 0.0, 3, 10**6).seeds_needed(0.02) == 10
    assert Spread(4e-4, 0.0, 3, 10**6).seeds_needed(0.01) == 34  # half of one


def test_no_number_of_seeds_settles_what_the_images_leave_open():
    spread = Spread(4e-4, 1e-4, 3, 60)
    assert spread.seeds_needed(0.02) is None
    assert spread.seeds_needed(0.0) is None
    assert spread.seeds_needed(0.05) < spread.seeds_needed(0.04)
