"""In words: how a searched config differs from the one that it is held against, and what that costs and brings."""

from dataclasses import fields, is_dataclass
from typing import Any

import pandas as pd

from bench.report.columns import is_missing

NEARLY = 0.005  # costs within half a percent count as equal


def difference(base: Any, config: Any) -> str:
    """Each changed field, as "depths 1, 1, 4, 1 (was 1, 2, 3, 1); norm layernorm (was rmsnorm)"."""
    if type(base) is not type(config):
        return f"another family: {config.family} (was {base.family})"
    changed = [
        _field(field.name, getattr(base, field.name), getattr(config, field.name))
        for field in fields(config)
        if getattr(base, field.name) != getattr(config, field.name)
    ]
    return "; ".join(changed) or "the same network"


def _field(name: str, before: Any, after: Any) -> str:
    said = name.replace("_", " ")
    if is_dataclass(after) and type(before) is type(after):
        return f"{said}: {difference(before, after)}"
    if isinstance(after, bool):
        return f"{said} {'on' if after else 'off'}"
    return f"{said} {_value(after)} (was {_value(before)})"


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def change(before: float, after: float, what: str) -> str:
    """ "31 % fewer parameters", "2.1 times the MACs", "as many parameters"."""
    times = after / before
    if abs(times - 1) < NEARLY:
        return f"as many {what}"
    if times >= 2:
        return f"{times:.1f} times the {what}"
    return f"{abs(times - 1):.0%} {'more' if times > 1 else 'fewer'} {what}".replace("%", " %")


def effect(row: pd.Series) -> str:
    """The paired difference of macro F1 on test tiles and what the statistics make of it."""
    if row.get("status") == "failed":
        return f"its trainings for the test tiles failed: {row['reason']}"
    if is_missing(row.get("effect")):
        return "not yet compared on test tiles"
    points = f"{100 * row['effect']:+.1f}"
    if not is_missing(row.get("effect_low")):
        points += f" [{100 * row['effect_low']:+.1f}, {100 * row['effect_high']:+.1f}]"
    return f"{points} points of F1 on these test images: {row['verdict']}".replace("-", "−")


def member(base: Any, config: Any, base_row: pd.Series, row: pd.Series) -> str:
    """A member of a front against the base, in one sentence: what it costs, what it brings, how it is built."""
    if config == base:
        return "the base itself"
    costs = [
        change(base_row[key], row[key], what)
        for key, what in (("params", "parameters"), ("macs", "MACs"))
        if not is_missing(base_row.get(key)) and not is_missing(row.get(key))
    ]
    return f"{', '.join(costs)}; {effect(row)}. Built with {difference(base, config)}."
