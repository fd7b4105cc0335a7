"""What a study may say of its comparisons: better, worse, equivalent or undecided, and for what that holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bench.errors import BenchError
from bench.stats.model import ALPHA, DRAWS, Fit, Layout, fit, pointwise, simultaneous

Verdict = Literal["better", "worse", "better, within delta", "worse, within delta", "equivalent", "undecided"]
Scope = Literal["these test images", "other scenes of this set"]
THESE_IMAGES: Scope = "these test images"
SCENES: Scope = "other scenes of this set"
DELTA = 0.01  # macro F1: differences of at most one point are of no consequence, unless the study says otherwise


@dataclass(frozen=True)
class Comparison:
    """How much higher a variant scores than its base, as shares in 0..1 (0.01 is one point of F1).

    Attributes:
        variant: label.
        base: label of what it is compared with.
        effect: difference of the means over seeds.
        low: lower end of an interval; those of all comparisons of the study hold together with 95 % confidence.
        high: upper end; both are not a number where nothing tells chance from effect, as of a network with one seed.
        error: standard error of the effect.
        verdict: read from the interval alone.
        scope: what it holds for.
    """

    variant: str
    base: str
    effect: float
    low: float
    high: float
    error: float
    verdict: Verdict
    scope: Scope


def verdict(low: float, high: float, delta: float = DELTA) -> Verdict:
    """What an interval of a difference says; the same rule in both scopes.

    Example:
        >>> verdict(-0.098, -0.040), verdict(-0.004, 0.006), verdict(0.001, 0.009), verdict(-0.01, 0.03)
        ('worse', 'equivalent', 'better, within delta', 'undecided')
    """
    within = -delta <= low and high <= delta
    if low > 0:
        return "better, within delta" if within else "better"
    if high < 0:
        return "worse, within delta" if within else "worse"
    return "equivalent" if within else "undecided"


def known_verdict(change: float, delta: float = DELTA) -> Verdict:
    """What a difference says that no chance is in, as of the same weights on the same tiles."""
    return "equivalent" if abs(change) <= delta else "worse" if change < 0 else "better"


@dataclass(frozen=True, eq=False)
class Evidence:
    """All scores of a study, with the models fitted to them.

    Attributes:
        labels: variants with at least two scores, in the study's order. Of a variant with one, nothing tells whether it
            went astray, and its wide interval would widen all that are to hold together.
        seeds: all seeds that any of them has.
        trainings: the model of the scores.
        scenes: the model of the scenes' pseudo-values, where the scenes of the test images are known.
        inflation: of the scenes' variance, where training sets overlap.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    trainings: Fit
    scenes: Fit | None = None
    inflation: float = 1.0

    def compare(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        scope: Scope = THESE_IMAGES,
        delta: float = DELTA,
        level: float = ALPHA,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> list[Comparison]:
        """Compare pairs of (variant, base), all of them together.

        Args:
            pairs: of labels, all among `labels`.
            scope: what the intervals hold for; other scenes need `scenes`.
            delta: differences up to which two networks count as equivalent.
            level: chance that any of the intervals misses.
            draws: of the errors' joint distribution.
            seed: of the draws.
        """
        if not pairs:
            return []
        scenes = self.scenes if scope == SCENES else None
        found = simultaneous(
            self.contrasts(pairs), self.trainings, scenes, scene_inflation=self.inflation, level=level, draws=draws,
            seed=seed,
        )  # fmt: skip
        ends = zip(pairs, found.effects, found.half_widths, found.errors, strict=True)
        return [
            Comparison(*pair, float(e), float(e - h), float(e + h), float(s), verdict(e - h, e + h, delta), scope)
            for pair, e, h, s in ends
        ]

    def contrasts(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "c v"]:
        """Each pair as weights of the variants' means."""
        rows = np.zeros((len(pairs), len(self.labels)))
        for row, (variant, base) in zip(rows, pairs, strict=True):
            row[self.labels.index(variant)] += 1
            row[self.labels.index(base)] -= 1
        return rows

    def means(self) -> dict[str, float]:
        """Each variant's mean score; where variants have unequal seeds, as if each had them all."""
        return dict(zip(self.labels, map(float, self.trainings.means), strict=True))

    def half_widths(self) -> dict[str, float]:
        """Half of each variant's own 95 % interval over trainings on these test images, one by one."""
        widths = pointwise(np.eye(len(self.labels)), self.trainings)
        return dict(zip(self.labels, map(float, widths), strict=True))


def evidence(
    scores: Mapping[str, Mapping[int, float]],
    scenes: Mapping[str, Float[np.ndarray, " j"]] | None = None,
    folds: int = 0,
) -> Evidence | None:
    """Fit the models of a study; None where no variant has two scores.

    Args:
        scores: by variant and seed, as shares in 0..1; with folds, of the matrices of all of a seed's folds pooled.
        scenes: by variant, `bench.stats.pooled.scene_values` over the same scenes; None where they are not known.
        folds: how many folds the scenes are tested in; 0 or 1 for a single split.
    """
    labels = tuple(label for label, found in scores.items() if len(found) > 1)
    if not labels:
        return None
    seeds = tuple(sorted({seed for label in labels for seed in scores[label]}))
    table = np.array([[scores[label].get(seed, np.nan) for seed in seeds] for label in labels])
    try:
        trainings = fit(table, Layout(np.isfinite(table)))
    except BenchError:  # no two variants share a second training
        return None
    known = None
    if scenes is not None and all(label in scenes for label in labels):
        values = np.stack([scenes[label] for label in labels])
        known = fit(values, Layout(np.ones(values.shape, dtype=bool))) if values.shape[1] > 1 else None
    return Evidence(labels, seeds, trainings, known, overlap_inflation(folds))


def overlap_inflation(folds: int) -> float:
    """By how much the variance over scenes grows since the training sets of folds overlap.

    Source: C. Nadeau, Y. Bengio, Inference for the generalization error, Machine Learning 52, 2003: the variance of a
    mean over n tests is (1/n + test share / training share) of theirs, so that of k folds grows 1 + k / (k - 1) times.
    """
    return 1.0 if folds < 2 else 1.0 + folds / (folds - 1)
