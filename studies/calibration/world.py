"""Simulated studies: scores of every variant, seed and scene, whose truth is known. In points of macro F1."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Truth = Literal["null", "effects", "edge"]
REST = 1.4  # deviation of a training from its variant's mean and its seed's effect
SEED = 1.0  # deviation of what all trainings of a seed share
FALL = (5.0, 30.0)  # by how much a training that goes astray scores less
EFFECTS = (3.0, 5.0)  # size of the effects that there are
SHARE = 0.3  # of the variants that have one
DELTA = 1.0
TILE = 10.0  # deviation of a variant's score on one tile from its mean
TILES = 9  # a scene, on average
TRAINING_SETS = 0.9  # what a training scene does to a network, relative to what a test scene does


@dataclass(frozen=True)
class Condition:
    """One kind of study, of which many are simulated.

    Attributes:
        variants: with the base.
        seeds: a variant at the first look.
        base_seeds: of the base; 0 for as many as the others.
        spread: deviation of the logarithm of the variants' deviations.
        astray: share of trainings that go astray.
        truth: "null", no effects; "effects", some of 3 to 5 points; "edge", all of just over delta, with trainings
            that vary a sixth as much, so that equivalence is often claimed.
        scenes: of the test images; 0 where verdicts are for these test images.
        correlation: of tiles of one scene.
        folds: in which the scenes are tested; 1 for one split.
        looks: how often the study is looked at, at most.
        out_of_reach: why no method can hold its error here; named before anything was simulated.
    """

    variants: int
    seeds: int
    spread: float = 0.0
    truth: Truth = "null"
    base_seeds: int = 0
    astray: float = 0.0
    scenes: int = 0
    correlation: float = 0.7
    folds: int = 1
    looks: int = 1
    out_of_reach: str = ""

    @property
    def label(self) -> str:
        """Unique among the conditions."""
        parts = [
            f"{self.variants} variants, {self.seeds} seeds",
            f"base {self.base_seeds}" if self.base_seeds else "",
            "unequal variances" if self.spread else "equal variances",
            f"{self.astray:.0%} astray" if self.astray else "",
            f"other scenes ({self.scenes})" if self.scenes else "",
            f"{self.folds} folds" if self.folds > 1 else "",
            f"{self.looks} looks" if self.looks > 1 else "",
            {"null": "", "effects": "effects of 3 to 5 points", "edge": "effects of delta"}[self.truth],
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Sample:
    """One simulated study; everything in points.

    Attributes:
        effects: true difference of every variant but the base to the base, (v - 1).
        scores: (v, s), as many seeds as any look may ask for.
        tiles: what each tile adds to each variant's mean, (v, t).
        scene: of each tile.
    """

    effects: Float[np.ndarray, " c"]
    scores: Float[np.ndarray, "v s"]
    tiles: Float[np.ndarray, "v t"]
    scene: np.ndarray


def sample(condition: Condition, seeds: int, rng: np.random.Generator) -> Sample:
    """Draw a study with so many seeds; where verdicts are for these images, its tiles leave the means as they are."""
    rest = REST / 6 if condition.truth == "edge" else REST / np.sqrt(condition.folds)
    deviations = rest * np.exp(condition.spread * rng.standard_normal((condition.variants, 1)))
    means = _means(condition, rng)
    scores = means[:, None] + SEED * rng.standard_normal(seeds)
    scores = scores + deviations * rng.standard_normal((condition.variants, seeds))
    fallen = rng.random(scores.shape) < condition.astray
    scores = scores - fallen * rng.uniform(*FALL, scores.shape)
    tiles, scene = _tiles(condition, rng)
    if condition.scenes:
        scores = scores + tiles.mean(axis=1, keepdims=True)
    else:
        tiles = tiles - tiles.mean(axis=1, keepdims=True)
    return Sample(means[1:] - means[0], scores, tiles, scene)


def _means(condition: Condition, rng: np.random.Generator) -> Float[np.ndarray, " v"]:
    signs = rng.choice([-1.0, 1.0], condition.variants)
    means = np.zeros(condition.variants)
    if condition.truth == "effects":
        means = signs * (rng.random(len(means)) < SHARE) * rng.uniform(*EFFECTS, len(means))
    elif condition.truth == "edge":
        means = signs * (DELTA + 1e-9)
    means[0] = 0.0
    return means


def _tiles(condition: Condition, rng: np.random.Generator) -> tuple[Float[np.ndarray, "v t"], np.ndarray]:
    """Scenes of unequal numbers of tiles; of a variant, tiles of a scene are correlated. With folds, networks also
    depend on the scenes that they were trained on, which are those of the other folds."""
    scenes = condition.scenes or 8
    sizes = 1 + rng.multinomial((TILES - 1) * scenes, np.full(scenes, 1 / scenes))
    scene = np.repeat(np.arange(scenes), sizes)
    by_scene = np.sqrt(condition.correlation) * TILE * rng.standard_normal((condition.variants, scenes))
    if condition.folds > 1:
        fold = np.arange(scenes) % condition.folds
        influence = TRAINING_SETS * np.sqrt(condition.correlation) * TILE
        influence = influence * rng.standard_normal((condition.variants, scenes))
        by_scene = by_scene + np.stack([influence[:, fold != k].mean(axis=1) for k in fold], axis=1)
    own = np.sqrt(1 - condition.correlation) * TILE * rng.standard_normal((condition.variants, len(scene)))
    return by_scene[:, scene] + own, scene
