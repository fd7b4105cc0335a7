"""The registry: names, what each stands for, and where it comes from.

A variant is a config (a frozen dataclass that builds a network); an entry is a named config with its provenance,
its input constraints and its check figures. Nothing elsewhere is special-cased by name.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
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
    """Make a config class known by its `family`, so that saved configs of it can be read. Usable as a decorator.

    Raises:
        ArchError: the family is one of ours, of which saved configs and weights would become other networks.
    """
    known = _FAMILIES.get(config_class.family)
    if known is not None and _is_ours(known) and not _is_ours(config_class):
        raise ArchError(
            f"{config_class.__name__} has the family {config_class.family!r} of {known.__name__}, whose saved networks "
            f"it would replace; give it one of its own, as family: ClassVar[str] = {config_class.__name__.lower()!r}"
        )
    _FAMILIES[config_class.family] = config_class
    return config_class


def _is_ours(config_class: type) -> bool:
    return config_class.__module__.partition(".")[0] == __name__.partition(".")[0]


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

    All changes are made at once, so that their order does not matter.

    Raises:
        ArchError: an unknown or ambiguous field, one that means nothing in this network, or a value that the config
            refuses.
    """
    owners = _owners(config)
    return _changed(config, {_path(config, owners, name): value for name, value in changes.items()})


def _path(config: ArchConfig, owners: Mapping[str, list[str]], name: str) -> str:
    """The dotted path of the one field that a name stands for."""
    paths = owners.get(name)
    if not paths:
        raise ArchError(f"{config.family} has no field {name!r}{nearest(name, owners)}; it has {_field_list(config)}")
    if len(paths) > 1:
        raise ArchError(f"the field {name!r} is ambiguous; say {' or '.join(paths)}")
    encoder, _, field = paths[0].rpartition(".")
    if encoder and field in getattr(getattr(config, encoder), "WITHOUT_PAIR", ()):
        raise ArchError(
            f"{name} of {family_of(config)} belongs to its own head, which this pair does not have; the fields of the "
            f"pair's decoder are {', '.join(path for path in owners if path.startswith('decoder.')) or 'none'}"
        )
    return paths[0]


def fit_image_size(config: ArchConfig, size: tuple[int, int]) -> ArchConfig:
    """A network whose weights are tied to a nominal input size (a field `image_size`), made for `size`."""
    owners = _owners(config).get("image_size", [])
    return _changed(config, {owners[0]: tuple(size)}) if owners else config


def _field_list(config: Any) -> str:
    return ", ".join(field.name for field in fields(config))


def _changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """The config with other values at these dotted paths, all at once."""
    own = {path: _native(value) for path, value in changes.items() if "." not in path}
    inside: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if rest:
            inside.setdefault(head, {})[rest] = value
    for field, value in own.items():
        _require_kind(config, field, value)
    own |= {field: _changed(own.get(field, getattr(config, field)), parts) for field, parts in inside.items()}
    try:
        return replace(config, **own)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:  # of a value that no check foresaw
        before = ", ".join(f"{field}={getattr(config, field)!r}" for field in own)
        told = ", ".join(f"{field}={value!r}" for field, value in own.items())
        raise ArchError(f"{config.family} cannot have {told} ({error}); now it has {before}") from None


def _require_kind(config: Any, field: str, value: Any) -> None:
    """Text for a number, a fraction for a count, a word for a switch: what a config would take without a word."""
    before = getattr(config, field)
    if is_dataclass(before) and not is_dataclass(value):
        raise ArchError(
            f"{field}={value!r} is not possible: it is a config; name another pair, as lwganet-l0+mlp, or change its "
            f"fields, as {field}.{fields(before)[0].name}"
        )
    if isinstance(before, bool) and not isinstance(value, bool):
        raise ArchError(f"{config.family} {field}={value!r} is not possible; give true or false")
    numbers = isinstance(before, int | float) and not isinstance(before, bool)
    if numbers and (isinstance(value, str) or (isinstance(before, int) and isinstance(value, float))):
        kind = "a whole number" if isinstance(before, int) else "a number"
        raise ArchError(f"{config.family} {field}={value!r} is not possible; give {kind}")


def _native(value: Any) -> Any:
    """Lists, also those in lists, as the tuples that a frozen config holds."""
    return tuple(_native(item) for item in value) if isinstance(value, list | tuple) else value
