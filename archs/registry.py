"""The registry: names, what each stands for, and where it comes from.

A variant is a config (a frozen dataclass that builds a network); an entry is a named config with its provenance,
its input constraints and its check figures. Nothing elsewhere is special-cased by name.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from archs.errors import ArchError


@runtime_checkable
class ArchConfig(Protocol):
    """What every architecture is: a frozen dataclass with a family name, which builds the network."""

    family: ClassVar[str]

    def build(self, num_classes: int, in_channels: int) -> nn.Module: ...


@dataclass(frozen=True)
class Provenance:
    """Where an architecture comes from. `reconstruction`: made from figures and text, since no code is public."""

    paper: str
    year: int
    source: str
    licence: str
    reconstruction: bool = False
    note: str = ""


@dataclass(frozen=True)
class InputRule:
    """The sides of an image that a network can take, in pixels, and the smallest batch that it can train on."""

    multiple_of: int = 1
    minimum: int = 1
    fixed: tuple[int, int] | None = None
    min_train_batch: int = 1
    note: str = ""

    def check(self, height: int, width: int) -> None:
        """Raise `ArchError` with the constraint unless a `height` x `width` image fits."""
        if self.fixed is not None and (height, width) != self.fixed:
            raise ArchError(f"a {height}x{width} image does not fit: this network takes {self} only")
        sides = (height, width)
        if min(sides) < self.minimum or any(side % self.multiple_of for side in sides):
            raise ArchError(f"a {height}x{width} image does not fit: this network takes {self}")

    def __str__(self) -> str:
        if self.fixed is not None:
            return f"{self.fixed[0]}x{self.fixed[1]}"
        size = "any size" if self.minimum == 1 else f"sides from {self.minimum}"
        return size if self.multiple_of == 1 else f"{size}, multiples of {self.multiple_of}"


@dataclass(frozen=True)
class Check:
    """One figure that the built network must reproduce.

    `quantity`: "params", "macs" (exact, plain), "fvcore_macs" (the papers' rule), "thop_macs" or "paper_mib".
    `size`: height and width of the input where that matters. `tolerance`: absolute, 0 is exact.
    """

    quantity: str
    value: int | float
    source: str
    size: tuple[int, int] = (256, 256)
    num_classes: int = 7
    tolerance: int | float = 0


@dataclass(frozen=True)
class Entry:
    """A named architecture."""

    name: str
    config: ArchConfig
    provenance: Provenance
    inputs: InputRule = InputRule()
    checks: tuple[Check, ...] = ()

    @property
    def family(self) -> str:
        """The family of the network; of a pair, that of its encoder."""
        return family_of(self.config)


_ENTRIES: dict[str, Entry] = {}
_FAMILIES: dict[str, type] = {}
_RESOLVERS: list[Callable[[str], Entry | None]] = []


def register_family(config_class: Any) -> Any:
    """Make a config class known by its `family`, so that saved configs of it can be read. Usable as a decorator."""
    _FAMILIES[config_class.family] = config_class
    return config_class


def register(
    name: str,
    config: ArchConfig,
    provenance: Provenance,
    inputs: InputRule = InputRule(),
    checks: Iterable[Check] = (),
) -> Entry:
    """Enter a named architecture.

    Raises:
        ArchError: the name is taken, or the config is no frozen dataclass with `family` and `build`.
    """
    if name in _ENTRIES:
        raise ArchError(f"the name {name!r} is registered already; choose another")
    if not (is_dataclass(config) and config.__dataclass_params__.frozen and hasattr(config, "build")):
        raise ArchError(f"the config of {name!r} must be a frozen dataclass instance with a build method")
    register_family(type(config))
    _ENTRIES[name] = Entry(name, config, provenance, inputs, tuple(checks))
    return _ENTRIES[name]


def register_resolver(resolve: Callable[[str], Entry | None]) -> None:
    """Add a rule that makes entries of systematic names (such as `<encoder>+<decoder>`) when they are asked for."""
    _RESOLVERS.append(resolve)


def natural_key(name: str) -> list[int | str]:
    """Sorts `x2` before `x10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def names(pattern: str = "*") -> list[str]:
    """The registered names that match a shell pattern (`lale-s*`), in natural order."""
    return sorted((name for name in _ENTRIES if fnmatchcase(name, pattern)), key=natural_key)


def entry(name: str) -> Entry:
    """The entry called `name`, registered or systematic.

    Raises:
        ArchError: no such name; the sentence offers the nearest ones.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    for resolve in _RESOLVERS:
        found = resolve(name)
        if found is not None:
            return found
    raise ArchError(f"there is no architecture {name!r}{nearest(name, _ENTRIES)}; `lale-bench list` shows them all")


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean a or b?"`, for a sentence about an unknown name; empty where nothing known is near it."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def family_of(config: ArchConfig) -> str:
    """The family of a config; of a pair, that of its encoder."""
    return getattr(config, "encoder", config).family


def _owners(config: Any) -> dict[str, list[str]]:
    """The fields that an override may name, and the dotted paths that each stands for.

    Fields of a nested config are reached as `decoder.width`, or as `width` where that is unambiguous.
    """
    owners: dict[str, list[str]] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        owners.setdefault(field.name, []).append(field.name)
        if is_dataclass(value):
            for inner in fields(value):
                path = f"{field.name}.{inner.name}"
                owners.setdefault(path, []).append(path)
                owners.setdefault(inner.name, []).append(path)
    return owners


def override(config: ArchConfig, **changes: Any) -> ArchConfig:
    """`dataclasses.replace` that reaches into a pair's encoder and decoder and answers wrong names with near ones.

    Raises:
        ArchError: an unknown or ambiguous field, or a value that the config refuses.
    """
    owners = _owners(config)
    for name, value in changes.items():
        paths = owners.get(name)
        if not paths:
            near = nearest(name, owners)
            raise ArchError(f"{config.family} has no field {name!r}{near}; it has {_field_list(config)}")
        if len(paths) > 1:
            raise ArchError(f"the field {name!r} is ambiguous; say {' or '.join(paths)}")
        config = _replace(config, paths[0], value)
    return config


def fit_image_size(config: ArchConfig, size: tuple[int, int]) -> ArchConfig:
    """A network whose weights are tied to a nominal input size (a field `image_size`), made for `size`."""
    owners = _owners(config).get("image_size", [])
    return _replace(config, owners[0], tuple(size)) if owners else config


def _field_list(config: Any) -> str:
    return ", ".join(field.name for field in fields(config))


def _replace(config: Any, path: str, value: Any) -> Any:
    head, _, rest = path.partition(".")
    if rest:
        value = _replace(getattr(config, head), rest, value)
    elif isinstance(value, list):
        value = tuple(value)
    return replace(config, **{head: value})
