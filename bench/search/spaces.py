"""From a config to the space around it: what its family offers, or what a file says may change.

Any config of the registry can be searched: its class may offer a space with rules between the fields (see
`archs.searchable`); for every other the values stand in a small file (`read_values`).
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from archs import ArchError
from archs.registry import nearest
from archs.searchable import Fields, Rows
from bench.errors import BenchError
from bench.search.space import Dimension, Space, fields_of, with_fields


def _keep_valid(base: Any, fields: Fields, rows: Rows, base_fields: Fields) -> Fields:
    """The rules of a family that offers none: what its config refuses goes back to the base's values.

    One free field alone if that is enough, else one after the other.
    """
    if _is_valid(base, fields):
        return fields
    for name in rows:
        if _is_valid(base, alone := {**fields, name: base_fields[name]}):
            return alone
    for name in rows:
        fields = {**fields, name: base_fields[name]}
        if _is_valid(base, fields):
            break
    return fields


def _is_valid(base: Any, fields: Fields) -> bool:
    try:
        with_fields(base, fields)
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
    family = base.search_space() if hasattr(base, "search_space") else None
    given = _rows(base, values or {})
    rows = {**(family.values if family else {}), **given}
    if not rows:
        raise BenchError(
            f"the family {base.family!r} has no search space of its own: list what may change in a TOML file, a line "
            f"a field, as {_example(base)}, and give it as --space FILE"
        )
    for name in free:
        if name not in rows:
            raise BenchError(f"--free {name}: there is no such field to search; possible: {', '.join(rows)}")
    chosen = free or tuple(given) or (family.free if family else ())
    dimensions = [one for name in rows if name in chosen for one in _dimensions(name, rows[name], base)]
    space = Space(base, tuple(dimensions), family.settle if family else partial(_keep_valid, base))
    for dimension in space.dimensions:
        for value in dimension.values:
            _refuse_impossible(space, dimension, value)
    return space


def _refuse_impossible(space: Space, dimension: Dimension, value: Any) -> None:
    """A misspelled word of a field, say: it would end the search at the first trial that proposes it."""
    start = {one.name: one.encode(one.of(space.base_fields)) for one in space.dimensions}
    try:
        space.config({**start, dimension.name: dimension.encode(value)})
    except ArchError as error:
        raise BenchError(f"the search space gives {dimension.name} the value {value!r}: {error}") from None


def _example(base: Any) -> str:
    name, value = next((name, value) for name, value in fields_of(base).items() if value is not None)
    return f"{name} = [{json.dumps(value)}, ...]"


def read_values(path: Path | str) -> dict[str, Any]:
    """What may change, from a TOML file: a line a field, as

        norm = ["rmsnorm", "layernorm"]
        decoder_width = {from = 32, to = 128, step = 16}
        depths = [1, 2, 3]                                  # each of the four stages
        widths = [[16, 32], [32, 64], [64, 128], [128, 256]]  # a row a stage
        decoder.width = [64, 128]                             # a field of a config inside the config

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
    for name, given in _unnested(values, known):
        paths = [path for path in known if name in (path, path.rpartition(".")[2])]
        if len(paths) != 1:
            said = f"is ambiguous; say {' or '.join(paths)}" if paths else f"does not exist{nearest(name, known)}"
            raise BenchError(f"the search space names the field {name}, which {said}")
        rows[paths[0]] = _row(paths[0], known[paths[0]], given)
    return rows


def _unnested(values: Mapping[str, Any], known: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """TOML reads `decoder.width = [...]` as a table `decoder`: its lines, by their dotted names."""
    for name, given in values.items():
        path = prefix + name
        if isinstance(given, Mapping) and any(field.startswith(f"{path}.") for field in known):
            yield from _unnested(given, known, f"{path}.")
        else:
            yield path, given


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
        if unknown := given.keys() - {"from", "to", "step"}:
            raise KeyError(unknown)
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
