"""How an exception in a cell becomes a failed record, or stops the run."""

import errno
import gc
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.engine.cells import CellFailed
from bench.errors import BenchError
from bench.records import Record, anonymised

TAIL = 4  # frames of a traceback that a record keeps
NO_MEMORY = "out of memory"
# As torch reports it of a GPU and of the CPU, cuBLAS, and cuDNN.
_NO_MEMORY_TEXT = (NO_MEMORY, "can't allocate memory", "alloc_failed", "allocation_failed")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = ("No space left on device", "Disk quota exceeded")  # as libraries in Rust and C++ report it


@dataclass(frozen=True)
class Failure:
    """Why a cell failed, in one line, and what there is of its result."""

    reason: str
    result: Mapping[str, Any]


def describe(error: Exception) -> Failure:
    """The failure that an exception stands for; sentences meant for people are kept as they are.

    Absolute paths are cut to their last name, since records are shared.
    """
    if isinstance(error, CellFailed):
        return Failure(_one_line(error.reason), error.result)
    if _is_sentence(error):
        return Failure(_one_line(str(error)), {})
    name = NO_MEMORY if _is_out_of_memory(error) else type(error).__name__
    said = str(error).strip()
    return Failure(_one_line(f"{name}: {said}" if said else name), {"traceback": _tail(error)})


def found_no_memory(record: Record) -> bool:
    """Whether the cell failed for want of memory, which may be there once nothing else runs."""
    return record.status == "failed" and record.reason.startswith(NO_MEMORY)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether the disk had no room: that is no property of the cell, so the run stops and nothing is recorded."""
    return any(
        (isinstance(one, OSError) and one.errno in _FULL) or any(text in str(one) for text in _FULL_TEXT)
        for one in chain(error)
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came of: the first need not tell, since libraries wrap what they meet."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def free_memory() -> None:
    """Gives back what the last cell held, on the device too, so that a cell does not fail for its predecessor."""
    gc.collect()
    torch = sys.modules.get("torch")  # a study without torch stays without it
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _is_sentence(error: Exception) -> bool:
    """Errors of this project's packages are written for people; `archs` is not imported for its class."""
    return isinstance(error, BenchError) or any(t.__name__ == "ArchError" for t in type(error).__mro__)


def _is_out_of_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(text in said for text in _NO_MEMORY_TEXT)


def _one_line(text: str) -> str:
    """The first line that says something, without absolute paths."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return anonymised(lines[0])[:500] if lines else "no reason given"


def _tail(error: Exception) -> list[str]:
    """The innermost frames as "file:line in function", files by name only."""
    frames = traceback.extract_tb(error.__traceback__)[-TAIL:]
    return [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
