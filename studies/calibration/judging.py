"""Every method's verdicts on a simulated study, and whether they are true."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from bench.engine import CellContext
from bench.stats.looks import MOST_EXTRA, grown, look_levels, look_seeds
from bench.stats.model import Layout, fit, simultaneous
from bench.stats.verdicts import overlap_inflation, verdict
from studies.calibration.historical import holm, paired_t, seeds_and_images
from studies.calibration.world import DELTA, Condition, Sample, sample

METHODS = ("model", "former", "paired t")
DRAWS = 1000
TOGETHER = 40  # studies that share their draws
SAID = {"better": 1, "better, within delta": 1, "worse": -1, "worse, within delta": -1}


def simulate(condition: Condition, studies: int, seed: int, context: CellContext) -> Mapping[str, Any]:
    """Simulate studies and judge them by every method.

    Returns:
        By method: studies with a false statement, of those simulated; true effects found, of those there were; the
        median half width of an interval (points); trainings a study. And of the model's intervals, how many studies
        had one that missed.
    """
    rng = np.random.default_rng([seed, *condition.label.encode()])
    found = [_judged(condition, rng, i, seed, context, studies) for i in range(studies)]
    return {
        "condition": asdict(condition),
        "studies": studies,
        "methods": {method: _counted([one[method] for one in found if method in one]) for method in METHODS},
    }


def _judged(
    condition: Condition, rng: np.random.Generator, i: int, seed: int, context: CellContext, studies: int
) -> dict[str, dict[str, float]]:
    if i % 100 == 0:
        context.progress(i, studies, "")
    looks = look_seeds(condition.seeds, condition.looks)
    drawn = sample(condition, max(condition.base_seeds, looks[-1] * (MOST_EXTRA if condition.looks > 1 else 1)), rng)
    table = 1000 * seed + i // TOGETHER
    judged = {"model": _by_model(condition, drawn, looks, table)}
    if condition.looks == 1 and not condition.base_seeds:
        scores = drawn.scores
        judged["former"] = _by_tests(drawn, holm(seeds_and_images(scores, drawn.tiles)))
        judged["paired t"] = _by_tests(drawn, holm(paired_t(scores)))
    return judged


def _by_model(condition: Condition, drawn: Sample, looks: tuple[int, ...], table: int) -> dict[str, float]:
    """The suite's method; with looks, seeds are added where a verdict is undecided, as `--settle` does."""
    levels = look_levels(looks) if len(looks) > 1 else (0.05,)
    present = _present(condition)
    scenes = fit(_pseudo_values(drawn), _complete(len(present), condition.scenes)) if condition.scenes else None
    contrasts = np.eye(len(present))[1:] - np.eye(len(present))[0]
    said = np.zeros(len(contrasts))
    settled, missed = np.zeros(len(contrasts), dtype=bool), False
    for look, level in enumerate(levels):
        layout = _complete(*present.shape) if present.all() else Layout(present)
        fitted = fit(drawn.scores[:, : present.shape[1]] / 100, layout)
        found = simultaneous(
            contrasts, fitted, scenes, scene_inflation=overlap_inflation(condition.folds), level=level, draws=DRAWS,
            seed=table,
        )  # fmt: skip
        low, high = 100 * (found.effects - found.half_widths), 100 * (found.effects + found.half_widths)
        verdicts = [verdict(a, b, DELTA) for a, b in zip(low, high, strict=True)]
        new = ~settled & np.array([word != "undecided" for word in verdicts])
        said[new] = [_statement(word) for word, fresh in zip(verdicts, new, strict=True) if fresh]
        settled |= new
        missed |= bool(((low > drawn.effects) | (high < drawn.effects)).any())
        if settled.all() or look == len(levels) - 1:
            break
        pairs = [(int(c) + 1, 0) for c in np.flatnonzero(~settled)]
        present = grown(present, pairs, looks[look + 1], fitted.gamma)
    width = float(np.median(found.half_widths)) * 100
    return {**_outcome(drawn.effects, said), "missed": missed, "width": width, "trainings": int(present.sum())}


def _present(condition: Condition) -> Bool[np.ndarray, "v s"]:
    present = np.zeros((condition.variants, max(condition.seeds, condition.base_seeds)), dtype=bool)
    present[:, : condition.seeds] = True
    present[0] = True
    return present


_LAYOUTS: dict[tuple[int, int], Layout] = {}


def _complete(variants: int, seeds: int) -> Layout:
    """The same object for the same size, which keeps what was worked out of it."""
    return _LAYOUTS.setdefault((variants, seeds), Layout(np.ones((variants, seeds), dtype=bool)))


def _pseudo_values(drawn: Sample) -> Float[np.ndarray, "v j"]:
    """The jackknife's pseudo-values of scenes for a mean over tiles, as `bench.stats.pooled.scene_values`."""
    scenes = np.eye(drawn.scene.max() + 1)[drawn.scene]
    sums, sizes = drawn.tiles @ scenes, scenes.sum(axis=0)
    number = len(sizes)
    without = (sums.sum(axis=1, keepdims=True) - sums) / (sizes.sum() - sizes)
    return (number * drawn.tiles.mean(axis=1, keepdims=True) - (number - 1) * without) / 100


def _by_tests(drawn: Sample, ps: Float[np.ndarray, " c"]) -> dict[str, float]:
    seen = drawn.scores[1:].mean(axis=1) - drawn.scores[0].mean()
    outcome = _outcome(drawn.effects, np.where(ps < 0.05, np.sign(seen), 0.0))
    return {**outcome, "trainings": drawn.scores.size}


def _statement(word: str) -> float:
    """1 and -1 for better and worse, 2 for equivalent; a difference within delta is both, and counts as its sign."""
    return float(SAID.get(word, 2))


def _outcome(effects: Float[np.ndarray, " c"], said: Float[np.ndarray, " c"]) -> dict[str, float]:
    false = (np.abs(said) == 1) & (said != np.sign(effects)) | (said == 2) & (np.abs(effects) > DELTA)
    there = np.abs(effects) > DELTA
    return {
        "false": bool(false.any()),
        "found": int((there & (said == np.sign(effects))).sum()),
        "there": int(there.sum()),
    }


def _counted(found: list[dict[str, float]]) -> dict[str, float] | None:
    if not found:
        return None
    totals = {key: int(sum(one[key] for one in found)) for key in ("false", "found", "there")}
    extra = {"missed": int(sum(one["missed"] for one in found))} if "missed" in found[0] else {}
    width = {"width": float(np.median([one["width"] for one in found]))} if "width" in found[0] else {}
    return {**totals, **extra, **width, "trainings": float(np.mean([one["trainings"] for one in found]))}
