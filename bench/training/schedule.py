"""Learning rate and stopping as functions of what has happened, so that a resumed run needs no hidden state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, validations: Sequence[float]) -> float:
    """The rate of optimiser step `step` (from 0), given the macro F1 of every validation before it."""
    return recipe.lr * _warmup(recipe, step) * _decay(recipe, step, validations)


def _warmup(recipe: Recipe, step: int) -> float:
    return min(1.0, (step + 1) / (recipe.warmup_steps + 1))


def _decay(recipe: Recipe, step: int, validations: Sequence[float]) -> float:
    if recipe.schedule == "cosine":
        done = max(0, step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * done))
    if recipe.schedule == "plateau":
        return recipe.plateau_factor ** plateaus(validations, recipe.plateau_patience)
    return 1.0


def plateaus(validations: Sequence[float], patience: int) -> int:
    """How often `patience` validations in a row brought nothing better; each time the count starts again."""
    best, waited, found = -math.inf, 0, 0
    for value in validations:
        if value > best:
            best, waited = value, 0
        else:
            waited += 1
        if waited == patience:
            waited, found = 0, found + 1
    return found


def should_stop(recipe: Recipe, validations: Sequence[float]) -> bool:
    """Whether the last `early_stop` validations brought nothing better than the ones before."""
    if recipe.early_stop is None:
        return False
    return waited_since_best(validations) >= recipe.early_stop


def waited_since_best(validations: Sequence[float]) -> int:
    """Validations since the (first) best one; one that is not a number is never the best."""
    scores = [-math.inf, *(-math.inf if math.isnan(score) else score for score in validations)]
    return len(validations) - scores.index(max(scores))


def gain_of_last_fifth(history: Sequence[Mapping[str, Any]]) -> float:
    """What the last fifth of a training's steps brought: the best macro F1 less the best before it, a fraction; not a
    number where nothing was validated before."""
    best = max((entry["macro_f1"] for entry in history), default=math.nan)
    before = [entry["macro_f1"] for entry in history if entry["step"] <= 0.8 * history[-1]["step"]]
    return best - max(before, default=math.nan)


def still_rising(history: Sequence[Mapping[str, Any]], points: float = 0.3) -> bool:
    """Whether a training was not done when it ended, as the `history` of its record tells.

    It was still rising if the last fifth of its steps brought `points` or more of macro F1 (in percent points), or if
    that is not known, as nothing was validated before. That its best validation was its last one says nothing: under a
    rate that falls to zero most are, by hundredths of a point.
    """
    return not 100 * gain_of_last_fifth(history) < points
