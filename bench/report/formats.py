"""In which files a report is written: CSV, Markdown and PNG by default; LaTeX, SVG, PDF and timm's CSV on demand."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from bench.errors import BenchError

TABLES, FIGURES, TIMM = ("csv", "md", "tex"), ("png", "svg", "pdf"), ("timm",)
DEFAULT = ("csv", "md", "png")
_chosen: ContextVar[tuple[str, ...]] = ContextVar("formats", default=DEFAULT)


@contextmanager
def also_writing(formats: Iterable[str]) -> Iterator[None]:
    """Write these formats too while the block lasts.

    Raises:
        BenchError: a format that is not known.
    """
    asked = tuple(formats)
    for name in asked:
        if name not in TABLES + FIGURES + TIMM:
            raise BenchError(f"Format {name!r} is not known; there are: {', '.join(TABLES + FIGURES + TIMM)}.")
    token = _chosen.set(tuple(dict.fromkeys((*_chosen.get(), *asked))))
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen(kinds: Sequence[str]) -> list[str]:
    """Those of `kinds` (`TABLES`, `FIGURES` or `TIMM`) that are to be written."""
    return [kind for kind in kinds if kind in _chosen.get()]
