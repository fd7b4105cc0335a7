"""The answer of somebody else's counter, with what it did not see."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ForeignCount:
    """A count as the named tool gives it, under its own rules.

    `by_operator` uses the tool's own names (fvcore: operators; thop: classes of modules) and sums to `macs`.
    `unsupported` holds what it met and counted as nothing, with the number of times.
    """

    counter: str
    macs: int
    by_operator: dict[str, int]
    unsupported: dict[str, int]
