"""How a network is trained, as data. The default is the ARAS400k recipe of the LALE authors.

A budget is a number of optimiser steps, never of epochs: twenty epochs of eight tiles would train nothing. Learning
rate and stopping are functions of what has happened, so that a resumed run needs no hidden state."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from bench.errors import BenchError

PAPER_EPOCH = 80_192 // 24 + 1  # 3,342 batches of 24 hold the 80,192 training tiles of ARAS400k once

SCHEDULES = ("plateau", "cosine", "constant")
LOSSES = ("dice", "ce", "dice+ce")
PRECISIONS = ("fp32", "bf16")
SELECTIONS = ("best", "last")
INITS = ("order", "name")


@dataclass(frozen=True)
class Recipe:
    """One training recipe; the defaults are the authors' own for ARAS400k ("paper").

    Raises `BenchError` when a field has a value that means nothing.
    """

    # Budget
    steps: int = 20 * PAPER_EPOCH
    """optimiser steps at most"""
    eval_every: int = PAPER_EPOCH
    """steps between two validations; the last step is always validated"""
    early_stop: int | None = 5
    """validations without a better macro F1 after which training stops; None never stops"""
    checkpoint_every: int | None = None
    """steps between checkpoints beside those at validations; changes no result, so it is no part of `to_dict`"""

    # Batch
    batch: int = 24
    """tiles a step"""
    crop: int | None = None
    """side in pixels of a random square crop of each tile; None trains on whole tiles"""

    # Optimiser: AdamW, other settings at PyTorch's defaults
    lr: float = 1e-3
    weight_decay: float = 0.01
    clip: float | None = 1.0
    """largest norm of the whole gradient; None leaves it"""
    loss: Literal["dice", "ce", "dice+ce"] = "dice"

    # Learning rate over time
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    warmup_steps: int = 0
    """steps over which the learning rate rises linearly from near zero"""
    plateau_factor: float = 0.1
    plateau_patience: int = 3
    """validations without a better macro F1 after which the rate is multiplied by `plateau_factor`"""

    # Weights
    ema: float | None = None
    """decay a step of a moving average of the weights, which is what is validated and kept; None averages none"""
    select: Literal["best", "last"] = "best"
    """which validation's weights are kept: those of the best macro F1, or the last ones"""
    init: Literal["order", "name"] = "order"
    """what seeds initial weights: their order in the network, or the name of each, which variants share"""

    # Arithmetic
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast for forward and evaluation, weights and optimiser in float32"""
    channels_last: bool = False

    # Augmentation: probabilities, then limits. The authors' list gives 0.3 for brightness and contrast among
    # probabilities, so it is read as one; the limits are what the usual libraries take when nothing is said.
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.5
    quarter_turn: float = 0.5
    brightness_contrast: float = 0.3
    brightness_limit: float = 0.2
    """largest shift of brightness, as a share of the full range"""
    contrast_limit: float = 0.2
    """largest relative change of contrast"""

    def __post_init__(self) -> None:
        for name, (holds, wanted) in _RULES.items():
            value = getattr(self, name)
            if not _passes(holds, value):
                raise BenchError(f"Recipe field {name} is {value!r}; it must be {wanted}.")
        if self.warmup_steps >= self.steps:
            raise BenchError(
                f"Recipe field warmup_steps is {self.warmup_steps}, which leaves none of the {self.steps} steps "
                "at the full learning rate; make it smaller than steps."
            )

    def to_dict(self) -> dict[str, Any]:
        """Every field that determines the result, JSON-able: what a record's key is hashed from.

        Fields that came later are left out at their default, so that what was recorded before them stays valid.
        """
        values = asdict(self)
        del values["checkpoint_every"]
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe of `to_dict`; raises `BenchError` for a field that a recipe does not have."""
        known = [field.name for field in fields(cls) if field.default is not MISSING]
        for name in values:
            if name not in known:
                raise BenchError(f"A recipe has no field {name!r}; its fields are {', '.join(known)}.")
        return cls(**values)


_LATER = MappingProxyType({"ema": None, "select": "best", "init": "order"})


def _passes(holds: Callable[[Any], bool], value: object) -> bool:
    try:
        return holds(value)
    except TypeError:  # a value of another type, such as text for a number
        return False


def _whole(least: int) -> tuple[Callable[[Any], bool], str]:
    return lambda v: type(v) is int and v >= least, f"a whole number of at least {least}"


def _whole_or_none(least: int) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v is None or (type(v) is int and v >= least), f"None or a whole number of at least {least}"


def _one_of(values: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v in values, "one of " + ", ".join(values)


_share = (lambda v: 0 <= v <= 1, "between 0 and 1")
_positive = (lambda v: v > 0 and math.isfinite(v), "above 0 and finite")

_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "steps": _whole(1),
        "eval_every": _whole(1),
        "early_stop": _whole_or_none(1),
        "checkpoint_every": _whole_or_none(1),
        "batch": _whole(1),
        "crop": _whole_or_none(1),
        "lr": _positive,
        "weight_decay": (lambda v: v >= 0 and math.isfinite(v), "0 or above and finite"),
        "clip": (lambda v: v is None or (v > 0 and math.isfinite(v)), "None or above 0 and finite"),
        "loss": _one_of(LOSSES),
        "schedule": _one_of(SCHEDULES),
        "warmup_steps": _whole(0),
        "plateau_factor": (lambda v: 0 < v < 1, "between 0 and 1, neither included"),
        "plateau_patience": _whole(1),
        "ema": (lambda v: v is None or 0 < v < 1, "None or between 0 and 1, neither included"),
        "select": _one_of(SELECTIONS),
        "init": _one_of(INITS),
        "precision": _one_of(PRECISIONS),
        "channels_last": (lambda v: type(v) is bool, "true or false"),
        "flip_horizontal": _share,
        "flip_vertical": _share,
        "quarter_turn": _share,
        "brightness_contrast": _share,
        "brightness_limit": _share,
        "contrast_limit": _share,
    }
)

# A few hundred steps hold too few validations for a plateau of three to show, so the rate would stay at its first
# value to the end; the short budgets anneal it by a cosine instead, which also makes every one of their steps count,
# and allow a higher first rate after a short warm-up. Nor do they stop early: their length is the budget.
_SHORT = Recipe(
    steps=150,
    eval_every=75,
    early_stop=None,
    batch=16,
    schedule="cosine",
    warmup_steps=10,
    lr=3e-3,
    channels_last=True,
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "smoke": replace(_SHORT, steps=12, eval_every=6, warmup_steps=2, batch=4, crop=32),
        "quick": replace(_SHORT, crop=64),
        "standard": replace(
            _SHORT, steps=400, eval_every=40, warmup_steps=20, crop=128, ema=0.99
        ),  # see studies/pilot.py
        "paper": Recipe(),
    }
)


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; raises `BenchError` with the names there are."""
    if name not in RECIPES:
        raise BenchError(f"There is no training recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]


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
