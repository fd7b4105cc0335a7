"""Successive halving: all candidates are trained a little, the best by Pareto rank longer, the last of them in full.

Whether a short training ranks networks as a long one does is not taken for granted: a random sample of the candidates
is trained at every rung, promoted or not, and Kendall's tau between each rung and the last is reported on that sample
alone. (On the promoted ones it would be another quantity: they were chosen by the lower rung.) Parameters and MACs
stand beside the rungs as rankings that cost nothing: a rung that does not beat them is not worth its steps. The
scheme is that of Jamieson and Talwalkar, 2016 (AISTATS), with Pareto ranks in place of a single loss.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.search.front import SearchedTrial, SearchResult
from bench.training.recipe import Recipe

KEEP = 1 / 3
"""The share of a rung that is promoted to the next."""
SAMPLE_SHARE, SAMPLE_LEAST, SAMPLE_MOST = 0.15, 6, 12
"""Candidates that are trained at every rung to measure them: many tell more, few cost less."""
RESAMPLES = 300
PROXIES = {"parameters": "params", "MACs": "macs"}


@dataclass(frozen=True)
class Rung:
    """One budget: optimiser steps, and the side of the crops (None: as the recipe says)."""

    steps: int
    crop: int | None = None

    def recipe(self, top: Recipe) -> Recipe:
        """The recipe with this budget: validated twice, warmed up for as large a share of it."""
        warmup = round(top.warmup_steps * min(1.0, self.steps / top.steps))
        every = max(1, min(top.eval_every, self.steps // 2))
        return replace(top, steps=self.steps, eval_every=every, warmup_steps=warmup, crop=self.crop or top.crop)

    def __str__(self) -> str:
        return f"{self.steps} step{'s' if self.steps > 1 else ''}" + (f" of {self.crop} px" if self.crop else "")


def parse_rungs(text: str) -> tuple[Rung, ...]:
    """`25@32,75,150`: 25 steps on crops of 32 px, then 75 and 150 steps on the recipe's.

    Raises:
        BenchError: these are not two rungs or more with rising steps.
    """
    try:
        parts = [part.strip().split("@") for part in text.split(",")]
        rungs = tuple(Rung(int(part[0]), int(part[1]) if len(part) > 1 else None) for part in parts)
    except ValueError:
        rungs = ()
    steps = [rung.steps for rung in rungs]
    if len(rungs) < 2 or steps != sorted(set(steps)) or min(steps) < 1 or any(rung.crop == 0 for rung in rungs):
        raise BenchError(f"--halving {text}: give two rising numbers of steps or more, as 25,75,150 or 25@32,75,150")
    return rungs


@dataclass(frozen=True)
class Halving:
    """What came of successive halving.

    Attributes:
        result: the trials that were trained at the last rung, with their F1 there, and the front among them.
        rungs: one row a rung: rung, steps, trained, tau, low, high (against the last rung, 95 %), pairs (size of the
            sample); then one row a proxy that needs no training.
        steps: optimiser steps spent in all, sample included.
        full_steps: what training every candidate at the last rung would have taken.
        candidates: how many there were at the first rung.
        failed: how many of them could not be trained at one of the rungs.
    """

    result: SearchResult
    rungs: pd.DataFrame
    steps: int
    full_steps: int
    candidates: int
    failed: int

    def sentence(self) -> str:
        """What it saved, and how far its lowest rung can be trusted."""
        low = self.rungs.iloc[0]
        trust = f"{low['tau']:.2f} [{low['low']:.2f}, {low['high']:.2f}]" if np.isfinite(low["tau"]) else "unknown"
        return (
            f"Successive halving took {self.steps:,} optimiser steps; all candidates at the last rung would have "
            f"taken {self.full_steps:,}. Kendall's tau of {low['rung']} against the last rung, on {low['pairs']} "
            f"random candidates: {trust}."
        )


Train = Callable[[SearchedTrial, Rung], float | None]
"""Macro F1 on validation tiles after that budget; None if the training failed."""


def halve(first: SearchResult, rungs: Sequence[Rung], train: Train, seed: int) -> Halving:
    """Promote the trials of a search that was run at the first rung, rung by rung to the last.

    Args:
        first: trials scored at `rungs[0]`.
        rungs: of rising budgets.
        train: trains a trial's config at a rung.
        seed: of the sample that measures the rungs.

    Raises:
        BenchError: all candidates of a rung failed, so that there is none to promote.
    """
    candidates = {trial.key for trial in first.trials}
    trials = list({trial.key: trial for trial in first.trials if trial.objectives}.values())
    if not trials:
        raise BenchError("no candidate of the search could be trained, so there is none to promote")
    sample = _sample(trials, seed)
    scores = [{trial.key: trial.objectives[0] for trial in trials}]
    promoted, steps = trials, len(trials) * rungs[0].steps
    failed = candidates - {trial.key for trial in trials}
    for rung in rungs[1:]:
        promoted = best(promoted, math.ceil(KEEP * len(promoted)))
        keys = sample | {trial.key for trial in promoted}
        chosen = [trial for trial in trials if trial.key in keys]
        found = {trial.key: train(trial, rung) for trial in chosen}
        scores.append({key: f1 for key, f1 in found.items() if f1 is not None})
        failed |= found.keys() - scores[-1].keys()
        steps += len(chosen) * rung.steps
        promoted = _succeeded(promoted, scores[-1], rung)
        trials = [_scored(trial, scores[-1].get(trial.key, trial.objectives[0])) for trial in trials]
    last = [trial for trial in trials if trial.key in scores[-1]]
    members = {trial.key for trial, rank in zip(last, ranks(last), strict=True) if rank == 0}
    reached = tuple(replace(trial, on_front=trial.key in members) for trial in last)
    table = _table(rungs, scores, [trial for trial in last if trial.key in sample])
    full = len(scores[0]) * rungs[-1].steps
    return Halving(replace(first, trials=reached), table, steps, full, len(candidates), len(failed))


def _sample(trials: Sequence[SearchedTrial], seed: int) -> set[str]:
    """Keys of the candidates that measure the rungs."""
    size = min(SAMPLE_MOST, max(SAMPLE_LEAST, round(SAMPLE_SHARE * len(trials))))
    return {trials[i].key for i in np.random.default_rng(seed).permutation(len(trials))[:size].tolist()}


def _succeeded(promoted: Sequence[SearchedTrial], scores: Mapping[str, float], rung: Rung) -> list[SearchedTrial]:
    left = [_scored(trial, scores[trial.key]) for trial in promoted if trial.key in scores]
    if not left:
        raise BenchError(
            f"all {len(promoted)} candidates that were promoted to {rung} failed there (the reasons stand above and in "
            "their records), so none can be promoted further: leave this rung out of --halving, or change the recipe; "
            "the trainings of the rungs below are kept"
        )
    return left


def _scored(trial: SearchedTrial, f1: float) -> SearchedTrial:
    return replace(trial, objectives=(f1, *trial.objectives[1:]))


def ranks(trials: Sequence[SearchedTrial]) -> np.ndarray:
    """Pareto rank of each trial: 0 for what nothing beats, 1 for what nothing but rank 0 beats, and so on."""
    costs = np.array([[-trial.objectives[0], *trial.objectives[1:]] for trial in trials])
    beats = np.all(costs[:, None] <= costs[None], axis=-1) & np.any(costs[:, None] < costs[None], axis=-1)
    found, rank = np.full(len(trials), -1), 0
    while (found < 0).any():
        left = found < 0
        found[left & ~beats[left].any(0)] = rank
        rank += 1
    return found


def best(trials: Sequence[SearchedTrial], count: int) -> list[SearchedTrial]:
    """The `count` best by Pareto rank; within a rank those that stand most alone, ends of the front first."""
    rank = ranks(trials)
    chosen: list[int] = []
    for level in range(rank.max() + 1):
        same = np.flatnonzero(rank == level)
        alone = _crowding(np.array([trials[i].objectives for i in same.tolist()]))
        chosen += [int(i) for i in same[np.argsort(-alone, kind="stable")]]
    return [trials[i] for i in chosen[:count]]


def _crowding(points: np.ndarray) -> np.ndarray:
    """How far the neighbours of each point are apart, summed over the objectives; infinite at the ends (NSGA-II)."""
    found = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        span = (values[order[-1]] - values[order[0]]) or 1.0
        found[order[[0, -1]]] = np.inf
        found[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return found


def _table(rungs: Sequence[Rung], scores: Sequence[dict[str, float]], sample: Sequence[SearchedTrial]) -> pd.DataFrame:
    top = [trial.objectives[0] for trial in sample]
    rows: list[dict[str, Any]] = []
    for rung, found in zip(rungs, scores, strict=True):
        values = [found.get(trial.key, np.nan) for trial in sample]
        last = rung == rungs[-1]
        rows.append({"rung": str(rung), "steps": rung.steps, "trained": len(found),
                     **(_nothing() if last else agreement(values, top))})  # fmt: skip
    for proxy, cost in PROXIES.items():
        values = [trial.cost[cost] for trial in sample]
        rows.append({"rung": f"{proxy}, no training", "steps": 0, "trained": 0, **agreement(values, top)})
    return pd.DataFrame(rows)


def _nothing() -> dict[str, float]:
    return {"tau": np.nan, "low": np.nan, "high": np.nan, "pairs": 0}


def agreement(values: Sequence[float], top: Sequence[float]) -> dict[str, float]:
    """Kendall's tau-b of two rankings with its 95 % interval (bootstrap over candidates); NaN below five."""
    from scipy.stats import kendalltau

    pairs = np.array([values, top], dtype=float).T
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 5:
        return _nothing() | {"pairs": len(pairs)}
    random = np.random.default_rng(0)
    draws = [pairs[random.integers(len(pairs), size=len(pairs))] for _ in range(RESAMPLES)]
    taus = np.array([kendalltau(*draw.T).statistic for draw in draws])
    low, high = np.nanquantile(taus, (0.025, 0.975))
    return {"tau": float(kendalltau(*pairs.T).statistic), "low": float(low), "high": float(high), "pairs": len(pairs)}
