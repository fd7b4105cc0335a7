"""The search spaces of the families: between which values each field may move, and the rules between fields.

To search a family of your own, add a row to `SPACES`, or build a `Space` yourself and hand it to the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from archs.layers import ACTIVATIONS, NORMS
from bench.errors import BenchError
from bench.search.space import Dimension, Fields, Space, fields_of


@dataclass(frozen=True)
class FamilySpace:
    """What may change in the configs of one family.

    `values`: by field, the values in ascending order; for a field that is a tuple, one such row an element.
    `free`: the fields that a search frees if the user names none. `settle`: see `Space`.
    """

    values: dict[str, Sequence[Any]]
    free: tuple[str, ...]
    settle: Callable[[Fields, Space], Fields]


def settle_lale(fields: Fields, space: Space) -> Fields:
    """LALE's rules: widths never fall from stage to stage; attention stages are multiples of the head width.

    Fields without effect (the ConvMixer's where no stage is one, and so on) return to the base's values, so that
    one network is one point.
    """
    fields = dict(fields)
    if "widths" in space.free:
        fields["widths"] = _growing_widths(fields, space.values("widths"))
    if not _heads_fit(fields, fields["head_width"]) and "head_width" in space.free:
        fields["head_width"] = _fitting_head(fields, space.values("head_width")[0])
    if not _heads_fit(fields, fields["head_width"]) and "conv_stages" in space.free:
        later = [split for split in space.values("conv_stages")[0] if split > fields["conv_stages"]]
        fields["conv_stages"] = next(
            (s for s in later if _heads_fit({**fields, "conv_stages": s}, fields["head_width"])), later[-1]
        )
    base = fields_of(space.base)
    return {name: base[name] if name in _without_effect(fields) else fields[name] for name in fields}


def _growing_widths(fields: Fields, grids: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    widths: list[int] = []
    for stage, (wanted, grid) in enumerate(zip(fields["widths"], grids, strict=True)):
        unit = fields["head_width"] if stage >= fields["conv_stages"] else 1
        floor = max([wanted, *widths[-1:]])
        allowed = [width for width in grid if width % unit == 0] or list(grid)
        widths.append(next((width for width in allowed if width >= floor), allowed[-1]))
    return tuple(widths)


def _heads_fit(fields: Fields, head: int) -> bool:
    return all(width % head == 0 for width in fields["widths"][fields["conv_stages"] :])


def _fitting_head(fields: Fields, heads: Iterable[int]) -> int:
    """The nearest head width that divides all attention stages; the given one if there is none."""
    fitting = [head for head in heads if _heads_fit(fields, head)]
    return min(fitting, key=lambda head: abs(head - fields["head_width"]), default=fields["head_width"])


def _without_effect(fields: Fields) -> set[str]:
    idle = set() if fields["stem"] == "conv3x3" else {"stem_width"}
    if fields["conv_stages"] == 0:
        idle |= {"mixer_kernel", "mixer_expansion", "mixer_mlp"}
    if fields["conv_stages"] == len(fields["widths"]):
        idle |= {"mlp_kernel", "mlp_expansion", "head_width"}
    return idle


SPACES: dict[str, FamilySpace] = {
    "lale": FamilySpace(
        values={
            # every row ends in a multiple of 64, so that each head width fits every stage
            "widths": (range(16, 65, 8), range(32, 129, 16), range(64, 257, 32), range(64, 385, 64)),
            "depths": (range(1, 5),) * 4,
            "conv_stages": range(5),
            "stem": ("conv3x3", "conv7x7", "patchify"),
            "stem_width": range(8, 33, 8),
            "norm": tuple(NORMS),
            "act": tuple(ACTIVATIONS),
            "mixer_kernel": (3, 5, 7),
            "mixer_expansion": range(1, 7),
            "mixer_mlp": (False, True),
            "mlp_kernel": (3, 5, 7),
            "mlp_expansion": range(1, 7),
            "head_width": (16, 32, 64),
            "decoder_width": range(32, 193, 16),
            "fusion": ("concat", "sum"),
            "decoder_norm": tuple(NORMS),
            "decoder_act": tuple(ACTIVATIONS),
            "dropout": (0.0, 0.1, 0.2),
            "drop_path": (0.0, 0.05, 0.1),
        },
        free=(
            "widths", "depths", "conv_stages", "mixer_kernel", "mixer_expansion", "mlp_expansion", "decoder_width",
            "fusion",
        ),
        settle=settle_lale,
    ),
}  # fmt: skip


def space_of(base: Any, free: Sequence[str] = ()) -> Space:
    """The space around a config in which the fields named in `free` may change (the family's choice if none is).

    A value of the base outside its field's row joins the row: the base is always a point of its space, unless it
    breaks a rule of the family.
    """
    family = SPACES.get(base.family)
    if family is None:
        raise BenchError(
            f"family {base.family!r} has no search space; those that have one: {', '.join(sorted(SPACES))}. "
            "Add it to bench/search/spaces.py or give a Space"
        )
    for name in free:
        if name not in family.values:
            raise BenchError(f"--free {name}: no such field to search; possible: {', '.join(family.values)}")
    names = [name for name in family.values if name in (free or family.free)]
    dimensions = [dimension for name in names for dimension in _dimensions(name, family.values[name], base)]
    return Space(base, tuple(dimensions), family.settle)


def _dimensions(name: str, values: Sequence[Any], base: Any) -> list[Dimension]:
    own = getattr(base, name)
    if isinstance(own, tuple):
        return [Dimension(name, _with(row, one), i) for i, (row, one) in enumerate(zip(values, own, strict=True))]
    return [Dimension(name, _with(values, own))]


def _with(values: Sequence[Any], own: Any) -> tuple[Any, ...]:
    if own in values:
        return tuple(values)
    return tuple(sorted([*values, own])) if not isinstance(own, str) else (*values, own)
