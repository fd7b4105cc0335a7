"""What is asked for: so much land at a pixel size, and limits."""

import re
from dataclasses import dataclass

from bench.errors import BenchError

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
ALIKE = 0.05
"""Share by which two pixel sizes may differ and count as one."""


@dataclass(frozen=True)
class Wish:
    """How much land, and what must hold; a limit that is None does not.

    Attributes:
        land_km2: square kilometres.
        gsd_m: side of a pixel on the ground, metres.
        within: seconds.
        f1: least macro F1, a share.
        max_mib: of the saved weights, MiB.
        max_params: parameters.
        max_memory: peak of the tensors in PyTorch, MiB.

    Raises:
        BenchError: a figure that nothing can meet.
    """

    land_km2: float
    gsd_m: float
    within: float | None = None
    f1: float | None = None
    max_mib: float | None = None
    max_params: float | None = None
    max_memory: float | None = None

    def __post_init__(self) -> None:
        for option in ("land_km2", "within", "max_mib", "max_params", "max_memory"):
            value = getattr(self, option)
            if value is not None and not 0 < value < float("inf"):
                raise BenchError(f"--{option.replace('_', '-')} {value:g} is no amount; give a number above 0")
        if self.f1 is not None and not 0 <= self.f1 <= 1:
            raise BenchError(f"--f1 {self.f1:g} is no share; give a number from 0 to 1, as 0.6 for 60 %")

    @property
    def pixels(self) -> float:
        """Of the land."""
        return self.land_km2 * 1e6 / self.gsd_m**2


def parse_duration(text: str | None) -> float | None:
    """Seconds of "90s", "30min", "2h" or "1.5d"; None of nothing.

    Raises:
        BenchError: it is none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*", text)
    if found is None:
        raise BenchError(f"--within {text!r} is no duration; write it as 90s, 30min, 2h or 1.5d")
    return float(found[1]) * UNITS[found[2]]


def agreed_gsd(given: float | None, known: float | None, name: str) -> tuple[float, str]:
    """The pixel size at which F1 holds, and a sentence about it.

    Args:
        given: that of the land, metres.
        known: that of the data set; None where it does not say.
        name: of the data set.

    Raises:
        BenchError: they differ, none is known, or that of the land is no size.
    """
    if given is not None and not 0 < given < float("inf"):
        raise BenchError(f"--gsd {given:g} is no size of a pixel; give metres, as 0.3")
    if given is None and known is None:
        raise BenchError(f"the pixel size of {name} is not recorded; give that of your land in metres, as --gsd 0.3")
    if known is None:
        assert given is not None, "said above"
        return given, (
            f"The pixel size of {name} is not recorded. Its F1 holds for this land only if its pixels too are of about "
            f"{given:g} m, which is assumed here."
        )
    if given is not None and abs(given / known - 1) > ALIKE:
        raise BenchError(
            f"F1 on {name} was measured with pixels of {known:g} m and --gsd says {given:g} m: F1 belongs to a pixel "
            f"size and is not carried over; bring the land to {known:g} m, or train on tiles of {given:g} m"
        )
    return known if given is None else given, f"Pixels of {name}: {known:g} m."
