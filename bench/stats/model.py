"""One model for all trainings of a study: score = variant + seed + rest.

What trainings of one seed share (initial weights, order of the batches) is a random effect; it drops out of a
comparison wherever both variants have the seed. The rest has a variance of its own for each variant, and since two
or three trainings tell little of a variance, those are shrunk towards the study's, as in the moderated t test:

    variance of the rest of variant v ~ scaled inverse chi squared (prior degrees of freedom d0, scale s0)

d0 and s0 are not plugged in: their likelihood is summed over a grid, so that six variants with two seeds, which say
next to nothing of d0, get wide intervals and eighteen with five get narrow ones. Variances are those of the residuals
of the two-way table, solved for each variant (a residual holds a share of every other variant's rest too). All
errors of a study's comparisons are drawn together from that distribution, and one critical value, that of the
largest of their ratios to their standard errors, makes all intervals hold at once.

Where variants have unequal numbers of seeds, means are those of generalised least squares, and the seed's share in
the variance (`gamma`) has a posterior of its own on a grid: an unpaired training counts for what it is worth, and no
more than the data can say of that share.

Sources: G. K. Smyth, Linear models and empirical Bayes methods for assessing differential expression, Stat. Appl.
Genet. Mol. Biol. 3, 2004 (moderated variances); C. R. Rao, Estimation of variance and covariance components, 1971
(MINQUE); T. Hothorn, F. Bretz, P. Westfall, Simultaneous inference in general parametric models, Biom. J. 50, 2008.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Float

from bench.errors import BenchError

ALPHA = 0.05  # chance that a study makes any false statement
DRAWS = 20_000
PRUDENCE = 0.9  # part of a level that is spent; the rest is for what the model leaves out (see the study calibration)
PRIOR_FREEDOM = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])  # d0: how alike the variants' variances are
PRIOR_WEIGHT = np.array([1.0, 1.0, 1.0, 0.8, 0.5, 0.4, 0.3])  # before the data: rather unlike
SCALES = np.exp(np.linspace(-3, 3, 41))  # s0 squared, relative to the mean variance of the residuals
GAMMA = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 25.0])  # variance of the seeds relative to the rest's
ABSENT = 0.15  # prior weight of no seed effect at all
PAIRED = 1e6  # a gamma at which only trainings of the same seed are compared
CAUTION = 0.8  # trainings are weighted as if gamma were at this quantile of its posterior
LEAST_VARIANCE = 1e-10  # of scores in 0..1: a thousandth of a point
LEAST_SHARE = 0.05  # of the mean variance, below which no variant's is believed to lie


@dataclass(frozen=True, eq=False)
class Layout:
    """Which trainings a study has.

    Attributes:
        present: for every variant and seed, whether that training is there; every variant has at least one.
    """

    present: Bool[np.ndarray, "v s"]

    def __post_init__(self) -> None:
        if self.present.ndim != 2 or not self.present.any(axis=1).all():
            raise BenchError("every variant of a comparison needs a training: leave those without one out")

    @property
    def complete(self) -> bool:
        """Whether every variant has every seed."""
        return bool(self.present.all())

    @cached_property
    def variant(self) -> np.ndarray:
        """Of every training, its variant; trainings in the order of `scores[present]`."""
        return np.nonzero(self.present)[0]

    @cached_property
    def by_variant(self) -> Float[np.ndarray, "n v"]:
        """Indicator of each training's variant."""
        return np.eye(len(self.present))[self.variant]

    @cached_property
    def by_seed(self) -> Float[np.ndarray, "n s"]:
        """Indicator of each training's seed."""
        return np.eye(self.present.shape[1])[np.nonzero(self.present)[1]]

    @cached_property
    def counts(self) -> Float[np.ndarray, "v s"]:
        """1 for each training, else 0."""
        return self.present.astype(float)

    def information(self, gamma: float) -> Float[np.ndarray, "v v"]:
        """What the trainings tell of the variants' means, where the rest's variance is 1 and the seeds' gamma."""
        shares = gamma / (1 + gamma * self.counts.sum(axis=0))
        return np.diag(self.counts.sum(axis=1)) - (self.counts * shares) @ self.counts.T


@dataclass(frozen=True, eq=False)
class Weighting:
    """What trainings weigh in the means, and what their residuals tell of the variances, at one gamma.

    Attributes:
        means: the least-squares means of the variants as sums over trainings.
        residual: the matrix P of restricted likelihood.
        mixing: how much of each variant's variance is in each variant's sum of squared residuals.
        seeds: how much of the seeds' variance is in it.
        freedom: degrees of freedom of each variant's sum of squares.
    """

    means: Float[np.ndarray, "v n"]
    residual: Float[np.ndarray, "n n"]
    mixing: Float[np.ndarray, "v v"]
    seeds: Float[np.ndarray, " v"]
    freedom: Float[np.ndarray, " v"]

    @classmethod
    def of(cls, layout: Layout, gamma: float) -> "Weighting":
        """The weighting that is best where the seeds' variance is gamma times the rest's."""
        x, z = layout.by_variant, layout.by_seed
        inverse = np.eye(len(x)) - (z * (gamma / (1 + gamma * z.sum(axis=0)))) @ z.T
        means = np.linalg.solve(layout.information(gamma), x.T @ inverse)
        residual = inverse - inverse @ x @ means
        mixing = x.T @ residual**2 @ x
        return cls(means, residual, mixing, x.T @ ((residual @ z) ** 2).sum(axis=1), _freedom(residual, x))


def _freedom(residual: Float[np.ndarray, "n n"], x: Float[np.ndarray, "n v"]) -> Float[np.ndarray, " v"]:
    """Satterthwaite's degrees of freedom of each variant's sum of squares, made to add up to those of all residuals."""
    traces = x.T @ np.diag(residual)
    squares = np.diag(x.T @ residual**2 @ x)
    own = np.divide(traces**2, squares, out=np.zeros_like(traces), where=squares > 1e-9)
    total = traces.sum()
    return own * min(1.0, total / own.sum()) if own.sum() > 0 else own


@dataclass(frozen=True, eq=False)
class Fit:
    """The model of one study, fitted.

    Attributes:
        layout: which trainings there are.
        scores: of each training, as shares in 0..1, in the layout's order.
        weighting: what trainings weigh.
        residuals: each variant's mean square of the residuals: a mixture of the variants' variances.
        prior: posterior weight of every pair of `PRIOR_FREEDOM` and `scales`.
        scales: the values of s0 squared on the grid.
    """

    layout: Layout
    scores: Float[np.ndarray, " n"]
    weighting: Weighting
    residuals: Float[np.ndarray, " v"]
    prior: Float[np.ndarray, "d k"]
    scales: Float[np.ndarray, " k"]

    @property
    def means(self) -> Float[np.ndarray, " v"]:
        """Each variant's mean score; where all have the same seeds, the plain mean."""
        return self.weighting.means @ self.scores

    @cached_property
    def gammas(self) -> Float[np.ndarray, " g"]:
        """Posterior weight of each value of `GAMMA`; a single variant's seeds and rest are one and the same."""
        if len(self.layout.present) == 1:
            return (GAMMA == 0).astype(float)
        return _gamma_posterior(self.scores, self.layout)

    @property
    def gamma(self) -> float:
        """The seeds' variance relative to the rest's: its posterior mean."""
        return float(self.gammas @ GAMMA)

    @cached_property
    def variances(self) -> Float[np.ndarray, " v"]:
        """Each variant's variance of the rest, shrunk towards the study's."""
        d, s = PRIOR_FREEDOM[:, None, None], self.scales[:, None]
        freedom = self.weighting.freedom
        shrunk = (d * s + freedom * self.residuals) / (d + freedom)
        return self._unmixed(np.einsum("dk,dkv->v", self.prior, shrunk))

    def draw(self, draws: int, seed: int) -> Float[np.ndarray, "b v"]:
        """Variances of the rest of every variant, as likely as the data make them."""
        pairs = _systematic(self.prior.ravel(), draws)
        which = pairs // len(self.scales)
        d, scale = PRIOR_FREEDOM[which, None], self.scales[pairs % len(self.scales), None]
        freedom = self.weighting.freedom
        chances = _chi_squared(tuple(PRIOR_FREEDOM), len(freedom), draws, seed)[which, np.arange(draws)]
        chances = chances + _chi_squared(tuple(freedom), 1, draws, seed + 1)[..., 0].T
        return self._unmixed((d * scale + freedom * self.residuals) / chances)

    def _unmixed(self, mixed: Float[np.ndarray, "... v"]) -> Float[np.ndarray, "... v"]:
        """The variants' own variances from those of their residuals; none below a small share of the mean."""
        floor = LEAST_SHARE * mixed.mean(axis=-1, keepdims=True)
        return np.maximum(mixed @ self._unmixing.T, floor)

    @cached_property
    def _unmixing(self) -> Float[np.ndarray, "v v"]:
        mixing = self.weighting.mixing
        rows = mixing.sum(axis=1, keepdims=True)
        shares = np.where(rows > 1e-9, mixing / np.maximum(rows, 1e-9), np.eye(len(mixing)))
        return np.linalg.pinv(shares, rcond=1e-6)


def fit(scores: Float[np.ndarray, "v s"], layout: Layout) -> Fit:
    """Fit the model of a study.

    Args:
        scores: of every variant and seed, as shares in 0..1; what is not `present` is not read.
        layout: which trainings there are.

    Raises:
        BenchError: no variant has a second training, so that nothing tells chance from effect.
    """
    values = scores[layout.present]
    weighting, seeds = _weighting(layout, PAIRED if len(scores) > 1 else 0.0), 0.0
    if not layout.complete:
        gammas = _gamma_posterior(values, layout)
        weighting = _weighting(layout, float(GAMMA[int(np.searchsorted(np.cumsum(gammas), CAUTION))]))
        seeds = float(gammas @ GAMMA)
    if weighting.freedom.sum() < 0.5:
        raise BenchError("one training a variant tells nothing of chance: train at least 2 seeds")
    squares = layout.by_variant.T @ (weighting.residual @ values) ** 2
    expected = weighting.mixing.sum(axis=1) + seeds * weighting.seeds
    residuals = np.divide(squares, expected, out=np.zeros_like(squares), where=weighting.freedom > 1e-9)
    residuals = np.maximum(residuals, LEAST_VARIANCE)
    scales = SCALES * np.average(residuals, weights=weighting.freedom)
    prior = _prior_posterior(residuals, weighting.freedom, scales)
    return Fit(layout, values, weighting, residuals, prior, scales)


@lru_cache(maxsize=32)
def _weighting(layout: Layout, gamma: float) -> Weighting:
    return Weighting.of(layout, gamma)


def _gamma_posterior(values: Float[np.ndarray, " n"], layout: Layout) -> Float[np.ndarray, " g"]:
    """Restricted likelihood of the seeds' share, with a half-Cauchy prior on the ratio of the deviations."""
    values = values - values.mean()
    by_variant, by_seed = layout.by_variant.T @ values, layout.by_seed.T @ values
    sizes = layout.counts.sum(axis=0)
    shares = GAMMA[:, None] / (1 + GAMMA[:, None] * sizes)  # (g, s)
    information = np.stack([layout.information(gamma) for gamma in GAMMA])
    moment = by_variant - (shares * by_seed) @ layout.counts.T
    explained = (moment * np.linalg.solve(information, moment[..., None])[..., 0]).sum(axis=1)
    rest = np.maximum(values @ values - shares @ by_seed**2 - explained, LEAST_VARIANCE)
    determinant = np.log1p(GAMMA[:, None] * sizes).sum(axis=1) + np.linalg.slogdet(information)[1]
    freedom = len(values) - len(layout.present)
    prior = np.log(np.where(GAMMA > 0, np.sqrt(GAMMA) / (1 + GAMMA), ABSENT))
    return _normalised(prior - 0.5 * (determinant + freedom * np.log(rest)))


def _prior_posterior(
    residuals: Float[np.ndarray, " v"], freedom: Float[np.ndarray, " v"], scales: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "d k"]:
    """How likely each pair of d0 and s0 makes the residuals: residual / s0 squared has Fisher's F(freedom, d0)."""
    from scipy import special

    d, s = PRIOR_FREEDOM[:, None, None], scales[:, None]
    known = freedom > 1e-9
    n, u = freedom[known], residuals[known]
    constant = special.gammaln((n + d) / 2) - special.gammaln(d / 2) - special.gammaln(n / 2) + n / 2 * np.log(n / d)
    log = constant - n / 2 * np.log(s) - (n + d) / 2 * np.log1p(n * u / (d * s))
    return _normalised(log.sum(axis=-1) + np.log(PRIOR_WEIGHT)[:, None])


def _normalised(log: np.ndarray) -> np.ndarray:
    weights = np.exp(log - log.max())
    return weights / weights.sum()


def _systematic(weights: Float[np.ndarray, " k"], draws: int) -> np.ndarray:
    """Indices as often as their weights say, in order; no chance beyond rounding."""
    return np.searchsorted(np.cumsum(weights), (np.arange(draws) + 0.5) / draws * weights.sum())


@lru_cache(maxsize=16)
def _chi_squared(freedom: tuple[float, ...], columns: int, draws: int, seed: int) -> Float[np.ndarray, "f b c"]:
    """Chi squared draws for every degree of freedom; those of two add up to one of the sum of both."""
    shapes = np.array(freedom)[:, None, None] / 2
    return 2 * np.random.default_rng(seed).standard_gamma(shapes, (len(freedom), draws, columns))


@lru_cache(maxsize=16)
def _normal(draws: int, columns: int, seed: int) -> Float[np.ndarray, "b r"]:
    return np.random.default_rng(seed + 2).standard_normal((draws, columns))


@dataclass(frozen=True)
class Simultaneous:
    """Effects with intervals that all hold at once; as shares in 0..1.

    Attributes:
        effects: one a comparison.
        errors: their standard errors.
        critical: how many standard errors an interval reaches to either side.
    """

    effects: Float[np.ndarray, " c"]
    errors: Float[np.ndarray, " c"]
    critical: float

    @property
    def half_widths(self) -> Float[np.ndarray, " c"]:
        """Half of each interval's width."""
        return self.critical * self.errors


def simultaneous(
    contrasts: Float[np.ndarray, "c v"],
    trainings: Fit,
    scenes: Fit | None = None,
    *,
    scene_inflation: float = 1.0,
    level: float = ALPHA,
    draws: int = DRAWS,
    seed: int = 0,
) -> Simultaneous:
    """Effects, errors and the one critical value, that of the largest ratio of a study's errors.

    Args:
        contrasts: each comparison as weights of the variants' means.
        trainings: the model of the scores.
        scenes: the model of the scenes' pseudo-values, where intervals are to hold for other scenes too.
        scene_inflation: by which the variance of the scenes grows where training sets overlap.
        level: chance that any interval misses.
        draws: of the errors' joint distribution.
        seed: of the draws, so that the same records give the same answer.
    """
    variance, errors = _errors(contrasts, trainings, draws, 8 * seed)
    if scenes is not None:
        more, scene_errors = _errors(contrasts, scenes, draws, 8 * seed + 4)
        variance = variance + scene_inflation * more
        errors = errors + np.sqrt(scene_inflation) * scene_errors
    standard = np.sqrt(variance)
    largest = np.abs(errors / standard).max(axis=1)
    critical = float(np.quantile(largest, 1 - PRUDENCE * level))
    return Simultaneous(contrasts @ trainings.means, standard, critical)


def pointwise(
    contrasts: Float[np.ndarray, "c v"], trainings: Fit, *, level: float = ALPHA, draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, " c"]:
    """Half widths of intervals that hold one by one, as those of each variant's mean."""
    _, errors = _errors(contrasts, trainings, draws, 8 * seed)
    return np.quantile(np.abs(errors), 1 - level, axis=0)


def _errors(
    contrasts: Float[np.ndarray, "c v"], fitted: Fit, draws: int, seed: int
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, "b c"]]:
    """The variance of each comparison, and draws of all their errors together."""
    rows = tuple(map(tuple, contrasts.tolist()))
    factors, owners, by_seed = _factors(fitted.layout, fitted.weighting, rows)
    normal = _normal(draws, len(owners) + by_seed.shape[1], seed)
    variances = fitted.draw(draws, seed)
    errors = (np.sqrt(variances)[:, owners] * normal[:, : len(owners)]) @ factors
    variance = fitted.variances[owners] @ factors**2
    if np.abs(by_seed).max() > 1e-6:
        shares = GAMMA[np.random.default_rng(seed + 3).choice(len(GAMMA), draws, p=fitted.gammas)]
        errors += (np.sqrt(shares * variances.mean(axis=1))[:, None] * normal[:, len(owners) :]) @ by_seed.T
        variance = variance + fitted.gamma * fitted.variances.mean() * (by_seed**2).sum(axis=1)
    return variance, errors


@lru_cache(maxsize=64)
def _factors(
    layout: Layout, weighting: Weighting, contrasts: tuple[tuple[float, ...], ...]
) -> tuple[Float[np.ndarray, "r c"], np.ndarray, Float[np.ndarray, "c s"]]:
    """Few independent errors that move all comparisons as the trainings do and whose they are; and the seeds'."""
    weights = np.array(contrasts) @ weighting.means
    own = weights * layout.by_variant.T[:, None]  # (v, c, n)
    sizes, directions = np.linalg.eigh(own @ own.transpose(0, 2, 1))
    owners, kept = np.nonzero(sizes > 1e-12)
    factors = directions[owners, :, kept] * np.sqrt(sizes[owners, kept])[:, None]
    return factors, owners, weights @ layout.by_seed
