"""Small arrays inside JSON: confusion matrices of every test image take a few kilobytes this way."""

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.errors import BenchError

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
