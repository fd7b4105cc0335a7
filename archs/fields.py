"""What the fields of configs may hold. Each check raises `ArchError`: the field, its value, and what is possible."""

from collections.abc import Collection
from typing import Any

from archs.errors import ArchError

ImageSize = int | tuple[int, int] | None


def require(holds: bool, config: Any, field: str, possible: str) -> None:
    """Refuse the value of a field unless the rule for it holds."""
    if not holds:
        raise ArchError(f"{config.family} {field}={getattr(config, field)!r} is not possible; give {possible}")


def require_choice(config: Any, field: str, choices: Collection[str]) -> None:
    """The name of one of several possibilities."""
    value = getattr(config, field)
    if value not in choices:
        named = ", ".join(choices)
        raise ArchError(f"{config.family} {field}={value!r} is not possible; choose one of {named}")


def require_positive(config: Any, *fields: str) -> None:
    """Counts and widths."""
    for field in fields:
        require(getattr(config, field) >= 1, config, field, "at least 1")


def require_rates(config: Any, *fields: str) -> None:
    """Of dropout and drop path."""
    for field in fields:
        require(0.0 <= getattr(config, field) < 1.0, config, field, "a rate from 0 up to, not including, 1")


def require_stages(config: Any, count: int, *fields: str) -> None:
    """Counts and widths of each stage."""
    for field in fields:
        values = getattr(config, field)
        holds = len(values) == count and min(values) >= 1
        require(holds, config, field, f"{count} numbers of at least 1, one a stage")


def sides(image_size: ImageSize, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a config's `image_size`, which may be one side, both, or None for `otherwise`."""
    if image_size is None:
        return otherwise
    given: Any = image_size
    return (given, given) if isinstance(given, int) else tuple(given)


def require_image_size(config: Any) -> None:
    """The field `image_size`, where it is not None."""
    found = sides(config.image_size, (1, 1))
    require(len(found) == 2 and min(found) >= 1, config, "image_size", "a side in pixels, or (height, width)")
