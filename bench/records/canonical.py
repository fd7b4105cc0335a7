"""Plain JSON values, and the key of a record: the hash of one canonical spelling of what determines it.

Small arrays are packed: confusion matrices of every test image take a few kilobytes this way."""

import base64
import binascii
import hashlib
import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.errors import BenchError

SCHEMA = 2
"""Version of the record layout and of what keys are made of. Records of an earlier one are carried over by
`lale-bench records upgrade`; CHANGELOG.md tells what each version changed."""

KEY_DIGITS = 32  # 128 bits: no two cells of any study will ever share a key by chance
_KIND = re.compile(r"[a-z0-9][a-z0-9_-]*")


def record_key(kind: str, determinants: Mapping[str, Any]) -> str:
    """32 hex digits that name the cell: equal for equal kind, record schema and determinants, whatever their order.

    Tuples count as lists. The integer 1, the float 1.0 and True are three different determinants.

    Raises:
        BenchError: the kind is no plain lower-case name, or a determinant is not plain JSON.
    """
    check_kind(kind)
    whole = {"kind": kind, "schema": SCHEMA, "determinants": plain_json(determinants, "determinants")}
    return hashlib.sha256(canonical_json(whole).encode("ascii")).hexdigest()[:KEY_DIGITS]


def check_kind(kind: str) -> None:
    """Refuses a kind that could not be the name of a folder.

    Raises:
        BenchError: it is not lower-case letters, digits, `-` and `_`.
    """
    if not _KIND.fullmatch(kind):
        raise BenchError(f"a record's kind is lower-case letters, digits, - and _ (as in 'train'): given {kind!r}")


def canonical_json(value: Any) -> str:
    """The one ASCII spelling of a plain JSON value: keys sorted, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain_json(value: Any, where: str, *, non_finite: str = "refuse") -> Any:
    """A value as plain JSON: mappings to dicts, tuples to lists, NumPy scalars to Python's own.

    Args:
        value: what is to be stored.
        where: the field's dotted name, for the error.
        non_finite: "refuse" for what names a cell; "null" for results, where NaN and infinity become null,
            since JSON knows neither.

    Raises:
        BenchError: something in it is not JSON; the sentence names the field.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # enums of text become their text
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(value, where, non_finite)
    if isinstance(value, Mapping):
        return {
            _name(key, where): plain_json(item, f"{where}.{key}", non_finite=non_finite) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{i}]", non_finite=non_finite) for i, item in enumerate(value)]
    raise BenchError(
        f"{where} is of type {type(value).__name__}, which is not JSON: give numbers, text, lists or mappings"
        " (arrays through pack_array)"
    )


def _number(value: float, where: str, non_finite: str) -> float | None:
    if math.isfinite(value):
        return float(value)
    if non_finite == "null":
        return None
    raise BenchError(f"{where} is {value}, which is not JSON: give a finite number or None")


def _name(key: Any, where: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise BenchError(f"{where} has the key {key!r} of type {type(key).__name__}: JSON's keys are text")


FIELDS = frozenset({"shape", "dtype", "zlib64"})


def pack_array(array: np.ndarray) -> dict[str, Any]:
    """An array of numbers or booleans as a JSON object of its shape, its dtype and its zlib-compressed bytes.

    The bytes are little-endian, so that a record reads the same on every machine.

    Raises:
        BenchError: the array holds objects or text.
    """
    if array.dtype.kind not in "biuf":
        raise BenchError(f"an array of {array.dtype} cannot be packed into a record: give numbers or booleans")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    packed = base64.b64encode(zlib.compress(little.tobytes(), level=9)).decode("ascii")
    return {"shape": list(array.shape), "dtype": little.dtype.str, "zlib64": packed}


def unpack_array(packed: Mapping[str, Any]) -> np.ndarray:
    """The array that `pack_array` packed, writable and in the machine's own byte order.

    Raises:
        BenchError: the object is not a packed array, or its bytes do not match its shape.
    """
    if not is_packed(packed):
        raise BenchError(f"a packed array has the fields {sorted(FIELDS)}: found {sorted(packed)}")
    try:
        dtype = np.dtype(packed["dtype"])
        raw = zlib.decompress(base64.b64decode(packed["zlib64"], validate=True))
        return np.frombuffer(raw, dtype=dtype).reshape(packed["shape"]).astype(dtype.newbyteorder("="))
    except (ValueError, TypeError, zlib.error, binascii.Error) as error:
        raise BenchError(f"a packed array in a record is damaged ({error}): delete the record") from None


def is_packed(value: object) -> bool:
    """Whether a JSON value is what `pack_array` writes."""
    return isinstance(value, Mapping) and value.keys() == FIELDS
