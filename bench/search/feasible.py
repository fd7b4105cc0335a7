"""The part of a space that keeps a budget, and the way from any proposal into it.

Nothing infeasible is ever proposed, so no trial is refused: a refused trial teaches a sampler nothing, and asking
again may never end. What a sampler draws outside the budget is moved to a feasible point close to it.
"""

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.search.budget import Budget, Latency, StaticCost, impossible
from bench.search.space import Dimension, Params, Space

BISECTIONS = 6


@dataclass(frozen=True)
class FeasibleSpace:
    """The points of a space whose configs keep a budget.

    Attributes:
        space: all points.
        budget: the limits.
        price: the static cost of a config, exact.
        latency: milliseconds of a config, measured; only asked if the budget limits it, and only of configs that
            keep the other limits.
    """

    space: Space
    budget: Budget
    price: Callable[[Any], StaticCost]
    latency: Latency | None = None

    def fits(self, config: Any) -> bool:
        """Whether a config keeps the budget; what cannot be built or counted keeps none."""
        cost = self._cost(config)
        if cost is None or self.budget.broken(cost):
            return False
        return self.budget.max_latency_ms is None or not self.budget.broken(*self._measured(config))

    def _cost(self, config: Any) -> StaticCost | None:
        """None where there is no network of these fields: which go together, a file with a space does not say."""
        with suppress(Exception):  # a network of anyone's, as it is built, may raise anything
            return self.price(config)
        return None

    def _measured(self, config: Any) -> tuple[StaticCost, float | None]:
        latency = self.latency(config) if self.latency and self.budget.max_latency_ms is not None else None
        return self.price(config), latency

    @cached_property
    def anchor(self) -> Params:
        """A small feasible point, towards which infeasible ones are moved.

        Raises:
            BenchError: there is none; the sentence names the smallest config's cost and the limits it breaks.
            Exception: of what the smallest one raises where it cannot be built.
        """
        smallest = self._descend(self.space.settled(self._lowest()))
        for params in (smallest, self._base_point()):
            if params is not None and self.fits(self.space.config(params)):
                return params
        config = self.space.config(smallest)
        raise impossible(self.budget, config, *self._measured(config))

    def _lowest(self) -> Params:
        return {dimension.name: dimension.encode(dimension.values[0]) for dimension in self.space.dimensions}

    def _base_point(self) -> Params | None:
        return self.space.params(self.space.base) if self.space.base in self.space else None

    def _descend(self, params: Params) -> Params:
        """From the lowest point to where no single value brings the most used limit further down.

        Most fields cost more the higher they are, but not all do: attention at a high resolution, say, may cost more
        than convolution, so that the lowest split point is not the cheapest.
        """
        best = self._strain(params)
        for dimension in self.space.dimensions:
            for value in dimension.values:
                if best == (1, 0):
                    return params
                other = self.space.settled({**params, dimension.name: dimension.encode(value)})
                if self._strain(other) < best:
                    return self._descend(other)
        return params

    def _strain(self, params: Params) -> tuple[float, int]:
        """How far the most used static limit is broken; then, if time is limited, the MACs, which take time."""
        cost = self._cost(self.space.config(params))
        if cost is None:
            return float("inf"), 0
        most = max(self.budget.excess(cost).values(), default=0.0)
        return max(most, 1), 0 if self.budget.max_latency_ms is None else cost.macs

    def project(self, params: Mapping[str, int]) -> Params:
        """A feasible point close to `params`; a feasible point stays as it is.

        On the line to the anchor the last infeasible point is passed by bisection; then every dimension, in an order
        that depends on the point alone, goes back to where it came from if the budget allows, until none can.
        """
        wanted = self.space.settled(params)
        if self.fits(self.space.config(wanted)):
            return wanted
        found = self._bisect(wanted, self._nearest_anchor(wanted))
        return found if self.budget.max_latency_ms is not None else self._restore(found, wanted)

    def _nearest_anchor(self, wanted: Params) -> Params:
        """The anchor with the names and switches of `wanted`, if that is feasible too."""
        named = {d.name: wanted[d.name] for d in self.space.dimensions if d.step is None}
        kept = self.space.settled({**self.anchor, **named})
        return kept if self.fits(self.space.config(kept)) else self.anchor

    def _bisect(self, wanted: Params, anchor: Params) -> Params:
        low, high, found = 0.0, 1.0, anchor
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            params = self.space.settled(
                {d.name: _between(d, wanted[d.name], anchor[d.name], middle) for d in self.space.dimensions}
            )
            if self.fits(self.space.config(params)):
                high, found = middle, params
            else:
                low = middle
        return found

    def _restore(self, found: Params, wanted: Params) -> Params:
        order = np.random.default_rng(zlib.crc32(repr(sorted(wanted.items())).encode()))
        names = [self.space.dimensions[i].name for i in order.permutation(len(self.space.dimensions))]
        for _ in names:  # one that goes back may make room for another that could not before
            before = found
            for name in names:
                found = self._put_back(name, found, wanted)
            if found == before:
                break
        return found

    def _put_back(self, name: str, found: Params, wanted: Params) -> Params:
        """`found` with one dimension as wanted, if the budget allows and no other moves away for it."""
        if found[name] == wanted[name]:
            return found
        back = self.space.settled({**found, name: wanted[name]})
        nearer = all(back[other] in (found[other], wanted[other]) for other in wanted)
        return back if nearer and self.fits(self.space.config(back)) else found

    def neighbour(self, params: Params, rng: np.random.Generator) -> Params:
        """A feasible point one value away in one dimension, projected where it is not; perhaps the point itself."""
        dimension = self.space.dimensions[rng.integers(len(self.space.dimensions))]
        values = list(dimension.values)
        at = values.index(dimension.decode(params[dimension.name]))
        others = [i for i in (at - 1, at + 1) if 0 <= i < len(values)] if dimension.step else list(range(len(values)))
        code = dimension.encode(values[rng.choice(others)])
        return self.project({**params, dimension.name: code})


def _between(dimension: Dimension, start: int, end: int, share: float) -> int:
    """The value a share of the way from start to end; names and switches do not go half way and take the end's."""
    if dimension.step is None:
        return end
    steps = round((end - start) / dimension.step * share)
    return start + steps * dimension.step
