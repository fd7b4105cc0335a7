"""Which of the searched fields the score depends on, as far as the trials can tell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

RESAMPLES = 200
LEAST_TRIALS = 8  # below, nothing can be said


def importance(trials: pd.DataFrame, dimensions: Mapping[str, Sequence[Any]], score: str = "f1") -> pd.DataFrame:
    """The share of the score's variance, in ranks, that each field explains by itself.

    Adjusted R^2 of the score's ranks on the field: on the ranks of its values where they are numbers, on the means of
    its groups where they are names. What fields do together is not seen. The trials were not drawn at random, so this
    describes the search, not the space.

    Args:
        trials: one row a trial, with the score and a column for each dimension.
        dimensions: name -> values, in their order.
        score: its column.

    Returns:
        One row a field that took several values, from the largest share to the smallest: field, share, low and high
        (95 %, bootstrap over trials), p (how often scores dealt out at random explain as much; one field at a time),
        trend (rank correlation of numbers; NaN for names), best (the value, or group, with the highest mean score).
        Empty with fewer than 8 scored trials.
    """
    scored = trials[trials[score].notna()].reset_index(drop=True)
    rows = [_row(scored, name, values, score) for name, values in dimensions.items() if len(set(scored[name])) > 1]
    keys = ["field", "share", "low", "high", "p", "trend", "best"]
    if len(scored) < LEAST_TRIALS or not rows:
        return pd.DataFrame(columns=keys)
    return pd.DataFrame(rows, columns=keys).sort_values("share", ascending=False, ignore_index=True)


def _row(scored: pd.DataFrame, name: str, values: Sequence[Any], score: str) -> dict[str, Any]:
    codes = scored[name].map(list(values).index).to_numpy()
    found = scored[score].to_numpy(dtype=float)
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    share = _explained_by_rank if numeric else _explained_by_group
    random, n = np.random.default_rng(0), len(found)
    draws = [random.integers(n, size=n) for _ in range(RESAMPLES)]
    low, high = np.quantile([share(codes[i], found[i]) for i in draws], (0.025, 0.975))
    means = scored.groupby(name)[score].mean()
    value = share(codes, found)
    chance = np.array([share(codes, random.permutation(found)) for _ in range(RESAMPLES)])
    trend = float(_correlation(codes, found)) if numeric else float("nan")
    return {
        "field": name, "share": value, "low": min(low, value), "high": max(high, value),
        "p": (1 + (chance >= value).sum()) / (1 + RESAMPLES), "trend": trend, "best": means.idxmax(),
    }  # fmt: skip


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


def _correlation(codes: np.ndarray, found: np.ndarray) -> float:
    """Spearman's; 0 where one of the two does not vary."""
    a, b = _ranks(codes), _ranks(found)
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _explained_by_rank(codes: np.ndarray, found: np.ndarray) -> float:
    return _adjusted(_correlation(codes, found) ** 2, len(found), 2)


def _explained_by_group(codes: np.ndarray, found: np.ndarray) -> float:
    ranks = _ranks(found)
    total = ((ranks - ranks.mean()) ** 2).sum()
    if total == 0:
        return 0.0
    groups = [ranks[codes == code] for code in np.unique(codes)]
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    return _adjusted(1 - within / total, len(ranks), len(groups))


def _adjusted(r2: float, n: int, parameters: int) -> float:
    """What is left of R^2 beyond what as many parameters explain by chance."""
    return max(0.0, 1 - (1 - r2) * (n - 1) / (n - parameters)) if n > parameters else 0.0
