"""What a config class may offer to a search, in two optional methods; neither is needed to be an architecture.

`search_space()` says what may change in the family's configs, `closed_form_cost(size, num_classes, in_channels)` what
a config costs without being built. A family without the first is searched by a space file, one without the second is
counted on the meta device.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Fields = dict[str, Any]
Rows = Mapping[str, tuple[tuple[Any, ...], ...]]
"""By free field, its values: one tuple an element, or one in all for a field that is no tuple."""
Settle = Callable[[Fields, Rows, Fields], Fields]
"""settle(fields, rows, base): the nearest fields that keep the family's rules, changing free fields only.

It leaves its own answer as it is, and `base` holds the fields of the config around which is searched.
"""


@dataclass(frozen=True)
class SearchSpace:
    """What may change in the configs of a family.

    Attributes:
        values: by field, the values in ascending order; for a field that is a tuple, one such row an element.
        free: the fields that a search frees if the user names none.
        settle: the rules between fields.
    """

    values: Mapping[str, Sequence[Any]]
    free: tuple[str, ...]
    settle: Settle


class ClosedFormCost(NamedTuple):
    """Exact figures of a config for one image: trainable parameters, plain MACs, plain MACs of the deployed form."""

    params: int
    macs: int
    deployed_macs: int
