"""Successive halving: who is promoted, what it costs, and how its rungs are judged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.search.front import SearchedTrial, SearchResult
from bench.search.halving import Rung, agreement, best, halve, parse_rungs, ranks
from bench.training.recipe import RECIPES


def trial(number, f1, macs):
    return SearchedTrial(number, f"key{number}", None, {"params": 10.0 * macs, "macs": macs, "mib": 1.0}, (f1, macs),
                         None, True, None, "", False)  # fmt: skip


values = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=20)


@given(values)
@settings(max_examples=60)
def test_a_rank_is_one_more_than_that_of_what_beats_it(points):
    trials = [trial(i, *point) for i, point in enumerate(points)]
    found = ranks(trials)
    for i, (f1, macs) in enumerate(points):
        above = [found[j] for j, (g, m) in enumerate(points) if g >= f1 and m <= macs and (g, m) != (f1, macs)]
        assert found[i] == max(above, default=-1) + 1


@given(values, st.integers(1, 20))
@settings(max_examples=60)
def test_the_best_are_never_beaten_by_the_others(points, count):
    trials = [trial(i, *point) for i, point in enumerate(points)]
    rank = dict(zip([t.key for t in trials], ranks(trials), strict=True))
    chosen = best(trials, count)
    assert len(chosen) == min(count, len(trials)) == len({t.key for t in chosen})
    left = [rank[t.key] for t in trials if t not in chosen]
    assert max(rank[t.key] for t in chosen) <= min(left, default=99)


def halved(n, f1_at):
    """Three rungs over n candidates of rising cost."""
    rungs = parse_rungs("10,30,90")
    asked = []

    def train(candidate, rung):
        asked.append((candidate.key, rung.steps))
        return f1_at(candidate.slot, rung.steps)

    first = SearchResult("s", ("f1", "macs"), tuple(trial(i, f1_at(i, 10), 1.0 + i) for i in range(n)))
    return halve(first, rungs, train, seed=0), asked


def test_a_true_ranking_finds_the_front_of_the_last_rung_for_less():
    """F1 that peaks at a middle cost: the front is what lies before the peak."""
    halving, asked = halved(40, lambda slot, steps: 0.5 + 0.01 * min(slot, 20 - slot / 100))
    assert len(asked) == len(set(asked))
    assert halving.full_steps == 40 * 90 and halving.steps < 0.55 * halving.full_steps
    assert halving.rungs.iloc[0]["tau"] == pytest.approx(1) and halving.rungs.iloc[0]["pairs"] == 6
    assert halving.rungs["trained"].iloc[0] == 40 and halving.rungs.iloc[2]["trained"] < 20
    front = halving.result.front
    assert front and all(t.slot <= 20 for t in front)
    assert "Kendall's tau of 10 steps against the last rung, on 6 random candidates: 1.00" in halving.sentence()


def test_a_rung_that_ranks_at_random_is_seen_to():
    random = np.random.default_rng(0)
    noise = random.random(100)
    halving, _ = halved(100, lambda slot, steps: 0.01 * slot if steps == 90 else float(noise[slot]))
    first, macs = halving.rungs.iloc[0], halving.rungs.set_index("rung").loc["MACs, no training"]
    assert first["low"] < 0.3 and macs["tau"] == pytest.approx(1)
    assert np.isnan(halving.rungs.iloc[2]["tau"])  # the top against itself says nothing


def test_failed_trainings_fall_off():
    halving, _ = halved(30, lambda slot, steps: None if steps == 30 and slot % 2 else 0.01 * slot)
    assert len(halving.result.front) > 0
    assert all(t.objectives[0] is not None for t in halving.result.trials)
    assert halving.candidates == 30 and 0 < halving.failed <= 15


@pytest.mark.parametrize("failing", [30, 90])
def test_a_rung_at_which_all_fail_is_one_sentence(failing):
    with pytest.raises(BenchError, match=rf"all \d+ candidates that were promoted to {failing} steps failed there"):
        halved(30, lambda slot, steps: None if steps == failing else 0.01 * slot)


def test_agreement_needs_five_and_knows_its_sign():
    assert np.isnan(agreement([1, 2, 3, 4], [1, 2, 3, 4])["tau"])
    assert agreement(range(10), range(10))["tau"] == pytest.approx(1)
    assert agreement(range(10), range(10, 0, -1))["high"] < 0


def test_budgets_in_words_and_recipes():
    rungs = parse_rungs("25@32, 75,150")
    assert rungs == (Rung(25, 32), Rung(75), Rung(150)) and str(rungs[0]) == "25 steps of 32 px"
    top = RECIPES["standard"]
    short = rungs[0].recipe(top)
    assert (short.steps, short.crop, short.eval_every) == (25, 32, 12) and short.warmup_steps < top.warmup_steps
    assert Rung(top.steps).recipe(top) == top


@pytest.mark.parametrize("text", ["25", "75,25", "25,25", "a,b", "0,10", "10@0,20"])
def test_what_are_no_rungs_is_refused(text):
    with pytest.raises(BenchError, match=r"--halving .* give two rising numbers of steps"):
        parse_rungs(text)
