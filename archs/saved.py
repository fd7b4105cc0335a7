"""Configs as plain data, and as the files that a search exports and `create` accepts."""

import json
import uuid
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from archs.errors import ArchError
from archs.registry import _FAMILIES, ArchConfig, nearest

FORMAT = "lale-bench config 1"


def to_dict(config: Any, *, defaults: bool = True) -> dict[str, Any]:
    """`{"family": ..., field: value, ...}` with JSON values only: the canonical form.

    Without `defaults`, fields that have their default are left out: the form that is hashed, so that a field that is
    added later, with a default, changes the identity of no config that there was before.
    """
    plain: dict[str, Any] = {"family": config.family}
    for field in fields(config):
        value = getattr(config, field.name)
        if defaults or not has_default(field, value):
            plain[field.name] = _plain(value, defaults)
    return plain


def has_default(field: Field, value: Any) -> bool:
    """Whether `value` is the default of a dataclass's field; a field without a default has none."""
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return field.default is not MISSING and bool(value == field.default)


def _plain(value: Any, defaults: bool) -> Any:
    if is_dataclass(value):
        return to_dict(value, defaults=defaults)
    return [_plain(item, defaults) for item in value] if isinstance(value, list | tuple) else value


def from_dict(plain: Any) -> ArchConfig:
    """The config of which `plain` is the `to_dict`; fields left out keep their defaults.

    Raises:
        ArchError: an unknown family or field, or a value that the config refuses.
    """
    if not isinstance(plain, dict):
        raise ArchError(f'a config is written as {{"family": ..., field: value, ...}}, not as {plain!r}')
    rest = dict(plain)
    family = rest.pop("family", None)
    if not isinstance(family, str) or family not in _FAMILIES:
        raise ArchError(f"there is no architecture family {family!r}; known are {', '.join(sorted(_FAMILIES))}")
    config_class = _FAMILIES[family]
    known = [field.name for field in fields(config_class)]
    for name in rest:
        if name not in known:
            raise ArchError(f"{family} has no field {name!r}{nearest(name, known)}; it has {', '.join(known)}")
    try:
        return config_class(**{name: _native(value) for name, value in rest.items()})
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ArchError(f"the fields of this {family} config do not fit: {error}") from None


def _native(value: Any) -> Any:
    if isinstance(value, dict):
        return from_dict(value)
    return tuple(_native(item) for item in value) if isinstance(value, list) else value


def save_config(config: ArchConfig, path: str | Path, **meta: Any) -> Path:
    """Write a config as JSON, with whatever else is to be remembered about it, whole or not at all."""
    path = Path(path)
    document = {"format": FORMAT, "config": to_dict(config), **meta}
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # process ids collide between containers
    try:
        draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def load_config(path: str | Path) -> ArchConfig:
    """Read what `save_config` wrote.

    Raises:
        ArchError: the file is missing, no JSON, or no config of ours.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchError(f"the config {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ArchError(f"{path} is no JSON; give a config that a search or `archs.save_config` wrote") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArchError(f"{path} is no saved config; its 'format' should read {FORMAT!r}")
    config = from_dict(document.get("config"))
    if not hasattr(config, "build"):
        raise ArchError(f"{path} holds a part of a network, {config.family!r}; give the config of a pair or a network")
    return config
