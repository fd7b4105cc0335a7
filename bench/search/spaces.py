"""The search spaces of the families: between which values each field may move, and the rules between fields.

Any config of the registry can be searched: what its fields may be is said in a small file (`read_values`), or in a
row of `SPACES` if there are rules between the fields to keep, or by a `Space` of your own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archs import ArchError
from archs.layers import ACTIVATIONS, NORMS
from archs.registry import nearest
from bench.errors import BenchError
from bench.search.space import Dimension, Fields, Space, fields_of, with_fields


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


def settle_valid(fields: Fields, space: Space) -> Fields:
    """The rules of a family that has none written down: what its config refuses goes back to the base's values.

    One free field alone if that is enough, else one after the other.
    """
    if _is_valid(fields, space):
        return fields
    base = fields_of(space.base)
    for name in space.free:
        if _is_valid(alone := {**fields, name: base[name]}, space):
            return alone
    for name in space.free:
        fields = {**fields, name: base[name]}
        if _is_valid(fields, space):
            break
    return fields


def _is_valid(fields: Fields, space: Space) -> bool:
    try:
        with_fields(space.base, fields)
    except (ArchError, ValueError):
        return False
    return True


def space_of(base: Any, free: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Space:
    """The space around a config in which the fields named in `free` may change (the family's choice if none is).

    A value of the base outside its field's row joins the row: the base is always a point of its space, unless it
    breaks a rule of the family.

    Args:
        base: any config of the registry; a field of a config inside it is called `decoder.width`.
        free: names of fields.
        values: by field, what it may be, for what the family does not say or says otherwise (see `read_values`); its
            fields are free if none are named.

    Raises:
        BenchError: an unknown field, values that do not suit it, or a family without rows and no values.
    """
    family = SPACES.get(base.family)
    rows = {**(family.values if family else {}), **_rows(base, values or {})}
    if not rows:
        raise BenchError(
            f"family {base.family!r} has no search space; those that have one: {', '.join(sorted(SPACES))}. "
            "Say what may change in a file and give it as --space"
        )
    for name in free:
        if name not in rows:
            raise BenchError(f"--free {name}: no such field to search; possible: {', '.join(rows)}")
    chosen = free or tuple(_rows(base, values or {})) or (family.free if family else ())
    dimensions = [one for name in rows if name in chosen for one in _dimensions(name, rows[name], base)]
    return Space(base, tuple(dimensions), family.settle if family else settle_valid)


def read_values(path: Path | str) -> dict[str, Any]:
    """What may change, from a TOML file: a line a field, as

        norm = ["rmsnorm", "layernorm"]
        decoder_width = {from = 32, to = 128, step = 16}
        depths = [1, 2, 3]                                  # each of the four stages
        widths = [[16, 32], [32, 64], [64, 128], [128, 256]]  # a row a stage

    Raises:
        BenchError: the file cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path} is no search space that can be read ({error}); write one field = [values] a line"
        ) from None


def _rows(base: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the full name of their field, each a row, or a row an element."""
    known, rows = fields_of(base), {}
    for name, given in values.items():
        paths = [path for path in known if name in (path, path.rpartition(".")[2])]
        if len(paths) != 1:
            said = f"is ambiguous; say {' or '.join(paths)}" if paths else f"does not exist{nearest(name, known)}"
            raise BenchError(f"the search space names the field {name}, which {said}")
        rows[paths[0]] = _row(paths[0], known[paths[0]], given)
    return rows


def _row(name: str, own: Any, given: Any) -> Any:
    row = _tuples(_counted(name, given))
    if not isinstance(own, tuple):
        _check_row(name, own, row)
        return row
    rows = row if _nesting(row) > _nesting(own) else (row,) * len(own)
    if len(rows) != len(own):
        raise BenchError(
            f"the search space gives {name} {len(rows)} rows; it has {len(own)} elements: give as many, or one"
        )
    for one, each in zip(rows, own, strict=True):
        _check_row(name, each, one)
    return rows


def _counted(name: str, given: Any) -> Any:
    """`{from = 16, to = 64, step = 8}` written out."""
    if not isinstance(given, dict):
        return given
    try:
        return list(range(given["from"], given["to"] + 1, given.get("step", 1)))
    except (KeyError, TypeError, ValueError):
        raise BenchError(f"the search space counts {name} by {given}; write {{from = 16, to = 64, step = 8}}") from None


def _check_row(name: str, own: Any, row: Any) -> None:
    if not isinstance(row, tuple) or not row:
        raise BenchError(f"the search space gives {name} no list of values; write {name} = [{own!r}, ...]")
    kinds = (int, float) if type(own) in (int, float) else type(own)
    for value in row:
        if own is not None and not (isinstance(value, kinds) and isinstance(value, bool) == isinstance(own, bool)):
            raise BenchError(f"the search space gives {name} the value {value!r}, which is not like its {own!r}")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _nesting(value: Any) -> int:
    return 1 + max((_nesting(one) for one in value), default=0) if isinstance(value, tuple) else 0


def _dimensions(name: str, values: Sequence[Any], base: Any) -> list[Dimension]:
    own = fields_of(base)[name]
    if isinstance(own, tuple):
        return [Dimension(name, _with(row, one), i) for i, (row, one) in enumerate(zip(values, own, strict=True))]
    return [Dimension(name, _with(values, own))]


def _with(values: Sequence[Any], own: Any) -> tuple[Any, ...]:
    """The values, ascending where they can be ordered, and the base's own among them."""
    row = tuple(dict.fromkeys([*values, *([] if own in values else [own])]))
    return tuple(sorted(row)) if all(type(value) in (int, float) for value in row) else row
