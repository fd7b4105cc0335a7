"""What was measured, one JSON file a cell: named by a hash of what determines it, written whole or not at all."""

from bench.records.canonical import SCHEMA, pack_array, plain_json, record_key, unpack_array
from bench.records.privacy import anonymised, private_parts
from bench.records.record import Record
from bench.records.store import RecordStore

__all__ = [
    "SCHEMA",
    "Record",
    "RecordStore",
    "anonymised",
    "pack_array",
    "plain_json",
    "private_parts",
    "record_key",
    "unpack_array",
]
