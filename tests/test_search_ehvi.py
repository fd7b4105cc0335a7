"""Exact-cost expected hypervolume improvement: the closed form against its definition, and what it proposes."""

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archs
from bench.errors import BenchError
from bench.search.budget import Budget, Pricer
from bench.search.ehvi import ExactCostEHVISampler, _unbeaten, cut, expected_gain
from bench.search.feasible import FeasibleSpace
from bench.search.spaces import space_of

S1 = archs.config("lale-s1")
BUDGET = Budget(max_gmacs=0.03, max_params=1.2e6)


def hypervolume(scores, costs, worst, limits):
    """By definition, on a fine grid of whole costs and scores: the share of boxes that some point dominates."""
    axes = [np.arange(limit) for limit in limits]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(limits))
    reached = (costs[None] <= corners[:, None]).all(-1)
    return float((np.where(reached, scores[None], worst).max(axis=1, initial=worst) - worst).sum())


whole = st.integers(0, 9)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2]))
def test_a_known_score_gains_the_growth_of_the_hypervolume(data, dimensions):
    point = st.tuples(whole, *[st.integers(0, 11)] * dimensions)
    found = np.array(data.draw(st.lists(point, max_size=6)), dtype=float).reshape(-1, dimensions + 1)
    new = np.array(data.draw(point), dtype=float)
    scores, costs, limits = found[:, 0], found[:, 1:], np.full(dimensions, 10.0)
    gain = expected_gain(new[:1], np.zeros(1), new[None, 1:], cut(scores, costs, (0.0, limits)))
    before = hypervolume(scores, costs, 0.0, limits.astype(int))
    after = hypervolume(np.append(scores, new[0]), np.vstack([costs, new[1:]]), 0.0, limits.astype(int))
    assert gain[0] == pytest.approx(after - before, abs=1e-6)


def test_an_uncertain_score_gains_the_mean_over_its_distribution():
    scores, costs = np.array([0.5, 0.6, 0.7]), np.array([[2.0], [5.0], [7.0]])
    cells = cut(scores, costs, (0.3, np.array([10.0])))
    draws = np.random.default_rng(0).normal(0.62, 0.1, 200_000)
    known = expected_gain(draws, np.zeros_like(draws), np.full((len(draws), 1), 4.0), cells)
    gain = expected_gain(np.array([0.62]), np.array([0.1]), np.array([[4.0]]), cells)
    assert gain[0] == pytest.approx(known.mean(), rel=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(whole, st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=12))
def test_points_that_others_beat_change_no_gain(points):
    found = np.array(points, dtype=float)
    scores, costs, limits = found[:, 0], found[:, 1:], np.full(2, 10.0)
    new, deviation = np.array([[3.0, 4.0], [0.0, 9.0]]), np.array([0.5, 2.0])
    every, front = (cut(*known, (0.0, limits)) for known in ((scores, costs), _unbeaten(scores, costs)))
    gains = [expected_gain(np.array([5.0, 1.0]), deviation, new, boxes) for boxes in (every, front)]
    assert len(front.low) <= len(every.low) and gains[0] == pytest.approx(gains[1], abs=1e-12)


def test_beyond_the_limit_nothing_is_gained():
    cells = cut(np.array([0.5]), np.array([[2.0]]), (0.3, np.array([10.0])))
    assert expected_gain(np.array([0.9]), np.array([0.2]), np.array([[11.0]]), cells)[0] == 0


@pytest.fixture
def feasible():
    return FeasibleSpace(space_of(S1, ("widths", "depths", "conv_stages")), BUDGET, Pricer((64, 64), num_classes=7))


def study_of(feasible, names=("f1", "macs"), seed=0):
    sampler = ExactCostEHVISampler(feasible, seed)
    study = optuna.create_study(directions=["maximize", *["minimize"] * (len(names) - 1)], sampler=sampler)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(list(names))
    return study


def quality(config):
    """More in the last stages is better, with diminishing returns."""
    return 1 - 1 / (1 + sum(w * d for w, d in zip(config.widths, (1, 1, 2, 3), strict=True)) / 400)


@pytest.mark.parametrize("names", [("f1", "macs"), ("f1", "params", "macs")])
def test_all_proposals_keep_the_budget_and_none_is_repeated(feasible, names):
    study, seen = study_of(feasible, names), set()
    for _ in range(10):
        trial = study.ask()
        config = feasible.space.suggest(trial)
        assert feasible.fits(config)
        assert config not in seen or len(seen) < 6  # the first are drawn at random
        seen.add(config)
        cost = feasible.price(config)
        study.tell(trial, [quality(config), *(getattr(cost, name) for name in names[1:])])


def test_equal_seeds_propose_equally_and_two_workers_differ(feasible):
    def proposals():
        study = study_of(feasible, seed=3)
        for _ in range(7):
            trial = study.ask()
            config = feasible.space.suggest(trial)
            study.tell(trial, [quality(config), feasible.price(config).macs])
        return [feasible.space.suggest(study.ask()) for _ in range(2)]  # the second while the first is in training

    first, second = proposals(), proposals()
    assert first == second
    assert first[0] != first[1]


def test_a_cost_that_has_to_be_measured_is_refused(feasible):
    study = study_of(feasible, ("f1", "latency"))
    with pytest.raises(BenchError, match="not f1, latency; use the sampler gp"):
        feasible.space.suggest(study.ask())
