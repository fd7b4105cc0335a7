"""A search space: which fields of a config may change, and between which values.

A point of the space is a mapping from parameter name to integer, which is what Optuna samples; a config is what is
built and trained. `Space.config` and `Space.params` take one to the other and back. Rules between fields
(divisibility, order) hold by construction: the space's `settle` moves the free fields to the nearest valid
combination, so that every point is a valid config and none has to be rejected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import archs
from archs.searchable import Fields, Rows, Settle
from bench.errors import BenchError
from bench.records.canonical import canonical_json

if TYPE_CHECKING:
    import optuna

Params = dict[str, int]
CONFIG_KEY, POINT = "config_key", "point"
"""Names of a trial's notes: the key of its config, and the point that the sampler proposed, before it is drawn."""


@dataclass(frozen=True)
class Dimension:
    """One number of the search: a field of the config, or one element of a field that is a tuple.

    Integers at even distances are sampled as themselves, so that a dashboard shows widths and not indices; everything
    else (names, switches, uneven numbers) as the position in `values`. All are integers to the sampler: a categorical
    parameter would push Optuna's choice of method off the Gaussian process.
    """

    field: str
    values: tuple[Any, ...]
    element: int | None = None  # position in a tuple-valued field

    @property
    def name(self) -> str:
        """`depths.1` is the first element of `depths`, as stages are numbered in papers: from 1."""
        return self.field if self.element is None else f"{self.field}.{self.element + 1}"

    @cached_property
    def step(self) -> int | None:
        """The even distance of whole numbers; None where positions are sampled instead."""
        if any(type(value) is not int for value in self.values):
            return None
        gaps = {after - before for before, after in zip(self.values, self.values[1:], strict=False)}
        return gaps.pop() if len(gaps) == 1 and min(gaps) > 0 else None

    def encode(self, value: Any) -> int:
        """The integer that stands for `value`."""
        return value if self.step else self.values.index(value)

    def decode(self, code: int) -> Any:
        """The value for which the integer stands."""
        return code if self.step else self.values[code]

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """The integers that stand for the values, in order."""
        return tuple(self.encode(value) for value in self.values)

    def place(self, code: int) -> float:
        """Where a value stands between the first and the last, 0 to 1."""
        return self.codes.index(code) / max(len(self.codes) - 1, 1)

    def distribution(self) -> optuna.distributions.IntDistribution:
        """What Optuna samples."""
        from optuna.distributions import IntDistribution

        if self.step:
            return IntDistribution(self.values[0], self.values[-1], step=self.step)
        return IntDistribution(0, len(self.values) - 1)

    def of(self, fields: Mapping[str, Any]) -> Any:
        """This dimension's value in a config's fields."""
        return fields[self.field] if self.element is None else fields[self.field][self.element]


def _unchanged(fields: Fields, rows: Rows, base: Fields) -> Fields:
    return fields


@dataclass(frozen=True)
class Space:
    """The free dimensions around a base config; every field that is not free keeps the base's value.

    `settle` holds the family's rules between fields, see `archs.searchable`.
    """

    base: Any
    dimensions: tuple[Dimension, ...]
    settle: Settle = field(default=_unchanged, repr=False)

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise BenchError("the search has nothing to change: free at least one field with two values or more")

    @cached_property
    def free(self) -> tuple[str, ...]:
        """Names of the free fields."""
        return tuple(dict.fromkeys(dimension.field for dimension in self.dimensions))

    @property
    def size(self) -> int:
        """How many points there are, before rules make some of them equal."""
        return math.prod(len(dimension.values) for dimension in self.dimensions)

    @cached_property
    def rows(self) -> Rows:
        """By free field its values, one tuple an element (one tuple in all for a field that is no tuple)."""
        return {name: tuple(one.values for one in self.dimensions if one.field == name) for name in self.free}

    @cached_property
    def base_fields(self) -> Fields:
        """The fields of the base."""
        return fields_of(self.base)

    def config(self, params: Mapping[str, int]) -> Any:
        """The valid config of a point."""
        fields = dict(self.base_fields)
        for dimension in self.dimensions:
            value = dimension.decode(params[dimension.name])
            if dimension.element is not None:
                changed = list(fields[dimension.field])
                changed[dimension.element] = value
                value = tuple(changed)
            fields[dimension.field] = value
        return with_fields(self.base, self.settle(fields, self.rows, self.base_fields))

    def params(self, config: Any) -> Params:
        """The point of a config; raises BenchError if the config is not in the space."""
        fields, base = fields_of(config), self.base_fields
        if type(config) is not type(self.base):
            raise BenchError(f"a {type(config).__name__} is no point of a space of {type(self.base).__name__}")
        if fields.keys() != base.keys():
            raise BenchError(f"it has other parts than the base of the space, {type(self.base).__name__}")
        for name in fields.keys() - set(self.free):
            if fields[name] != base[name]:
                raise BenchError(f"{name}={fields[name]!r} is not in the space, which holds it at {base[name]!r}")
        for dimension in self.dimensions:
            if dimension.of(fields) not in dimension.values:
                raise BenchError(f"{dimension.name}={dimension.of(fields)!r} is none of {list(dimension.values)}")
        params = {dimension.name: dimension.encode(dimension.of(fields)) for dimension in self.dimensions}
        if self.config(params) != config:
            raise BenchError(f"the rules of the space turn {config} into {self.config(params)}")
        return params

    def __contains__(self, config: Any) -> bool:
        try:
            self.params(config)
        except BenchError:
            return False
        return True

    def settled(self, params: Mapping[str, int]) -> Params:
        """The one point that stands for all points with the same config."""
        fields = fields_of(self.config(params))
        return {dimension.name: dimension.encode(dimension.of(fields)) for dimension in self.dimensions}

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """What Optuna samples, by parameter name."""
        return {dimension.name: dimension.distribution() for dimension in self.dimensions}

    def suggest(self, trial: optuna.Trial) -> Any:
        """The config that a trial proposes."""
        params = {}
        for dimension in self.dimensions:
            spread = dimension.distribution()
            params[dimension.name] = trial.suggest_int(dimension.name, spread.low, spread.high, step=spread.step)
        return self.config(params)


def fields_of(config: Any) -> Fields:
    """The fields of a config dataclass by name; those of a config inside it as `decoder.width`."""
    found: Fields = {}
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{one.name}.{name}": inner for name, inner in fields_of(value).items()}
        else:
            found[one.name] = value
    return found


def with_fields(config: Any, fields: Mapping[str, Any]) -> Any:
    """A config with fields changed that are named as in `fields_of`."""
    changes: Fields = {}
    inner: dict[str, Fields] = {}
    for name, value in fields.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    changes |= {head: with_fields(getattr(config, head), values) for head, values in inner.items()}
    return dataclasses.replace(config, **changes)


def config_key(config: Any) -> str:
    """Twelve hexadecimal digits that name a config: equal for equal configs."""
    return hashlib.sha256(canonical_json(archs.to_dict(config, defaults=False)).encode()).hexdigest()[:12]
