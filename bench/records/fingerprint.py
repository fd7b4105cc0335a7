"""The fingerprint of a network: what its config builds, so that a record of yesterday's code is not today's.

It covers the tensors (names, shapes, types, which are tied), every layer of a library (class and plain attributes),
and for classes that are neither ours nor an installed distribution's their source. Networks of our own families count
by the `revision` of their configs instead: golden outputs in the tests hold that a change of function brings a new one.
What it cannot see is said in `docs/records.md`.
"""

import functools
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

import archs
from archs import ArchConfig
from bench.records.atomic import write_atomically
from bench.records.environment import user_cache
from bench.records.source import SourceReader, installed_version

DIGITS = 32
VERSION = 1
"""Of what is described here; another one makes every fingerprint another."""

_INTERNAL = frozenset(vars(nn.Module()))
_OURS = "archs"
_remembered: dict[str, str] = {}


def network_fingerprint(config: ArchConfig, num_classes: int, in_channels: int) -> str:
    """32 hex digits, equal for networks of equal structure and code; empty where the network cannot be built.

    It is built without values, on the meta device. Fingerprints of our families are remembered, in the process and in
    the user's cache; those of others are not, since nothing tells that their code is still the same.

    Args:
        config: what is built; pretrained weights are not fetched.
        num_classes: of the network.
        in_channels: of its input.
    """
    if not is_ours(config):
        return _fingerprint(config, num_classes, in_channels)
    key = _digest([archs.to_dict(config), num_classes, in_channels, _revisions(config), _code_of_ours()])
    if key not in _remembered:
        _remembered[key] = _cached(key) or _keep(key, _fingerprint(config, num_classes, in_channels))
    return _remembered[key]


def is_ours(config: ArchConfig) -> bool:
    """Whether the config and those inside it are of our own families."""
    return all(type(part).__module__.partition(".")[0] == _OURS for part in config_parts(config))


def config_parts(config: Any) -> Iterator[Any]:
    """A config and the configs inside it."""
    if hasattr(config, "family"):
        yield config
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from config_parts(value)


def _revisions(config: ArchConfig) -> list[list[Any]]:
    return [[part.family, getattr(part, "revision", 1)] for part in config_parts(config)]


def _fingerprint(config: ArchConfig, num_classes: int, in_channels: int) -> str:
    ours = is_ours(config)
    reader = SourceReader(trusted=("torch", *((_OURS,) if ours else ())))
    model = _bare(config, num_classes, in_channels)
    if model is None:
        return ""
    structure = list(_layers(model, reader, ours))
    if not ours:
        for part in config_parts(config):
            reader.read(type(part), methods_only=True)
    return _digest([VERSION, _revisions(config), structure, sorted(reader.texts), sorted(reader.libraries)])


def _bare(config: ArchConfig, num_classes: int, in_channels: int) -> nn.Module | None:
    """The network without values, where it can be built so; else with; None where it cannot be built at all."""
    config = _untrained(config)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for device in ("meta", "cpu"):  # some networks read a number from a tensor while they are built
            with suppress(Exception), torch.device(device):  # whatever a stranger's code raises
                return archs.build(config, num_classes, in_channels)
    return None


def _untrained(config: Any) -> Any:
    """The config without pretrained weights, which are values and need the network."""
    changes = {f.name: _untrained(v) for f in fields(config) if is_dataclass(v := getattr(config, f.name))}
    if getattr(config, "pretrained", False) is True:
        changes["pretrained"] = False
    return replace(config, **changes) if changes else config


def _layers(model: nn.Module, reader: SourceReader, ours: bool) -> Iterator[list[Any]]:
    """One entry a module: name, class, plain attributes, tensors. What stands under two names is told by the first."""
    first: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in first:
            yield [name, "same as", first[id(module)]]
            continue
        first[id(module)] = name
        yield [name, *_identity(module, reader, ours), _tensors(name, module, first)]


def _identity(module: nn.Module, reader: SourceReader, ours: bool) -> list[Any]:
    """Class and attributes; nothing of our own families' classes, which the revision stands for."""
    cls = type(module)
    top = cls.__module__.partition(".")[0]
    if ours and top == _OURS:
        return []
    if not ours:
        reader.read(cls)
    library = ours or top == "torch" or installed_version(cls.__module__)
    name = f"{top}:{cls.__qualname__}" if library else cls.__qualname__
    hidden = _INTERNAL | ({name for name in vars(module) if name.startswith("_")} if top == "torch" else set())
    return [name, {key: _value(value, reader) for key, value in sorted(vars(module).items()) if key not in hidden}]


def _value(value: Any, reader: SourceReader) -> Any:
    """An attribute as plain JSON: numbers and text by value, functions and classes by name and source."""
    if value is None or isinstance(value, bool | int | str):
        return str(value) if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(key): _value(item, reader) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item, reader) for item in value]
    if isinstance(value, Tensor):
        return _tensor(value)
    if is_dataclass(value) and not isinstance(value, type):
        return archs.to_dict(value, defaults=False) if hasattr(value, "family") else type(value).__qualname__
    if isinstance(value, FunctionType | type | functools.partial):
        reader.read(value)
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def _tensors(name: str, module: nn.Module, first: dict[int, str]) -> list[list[Any]]:
    """Parameters and buffers of the module itself."""
    found = []
    for kind, tensors in (("parameter", module._parameters), ("buffer", module._buffers)):
        for own, tensor in tensors.items():
            if tensor is not None:
                tied = first.setdefault(id(tensor), f"{name}.{own}")
                found.append([kind, own, *_tensor(tensor), tied if tied != f"{name}.{own}" else ""])
    return found


def _tensor(tensor: Tensor) -> list[Any]:
    return [list(tensor.shape), str(tensor.dtype)]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


@functools.cache
def _code_of_ours() -> str:
    """Digest of everything that a fingerprint of our families is made by: our code, and the libraries' versions."""
    from importlib.metadata import PackageNotFoundError, version

    found: list[Any] = []
    for folder in (Path(archs.__file__).parent, Path(__file__).parent):
        found += [[path.name, path.read_text(encoding="utf-8")] for path in sorted(folder.rglob("*.py"))]
    for package in ("torch", "timm", "segmentation-models-pytorch"):
        with suppress(PackageNotFoundError):
            found.append(version(package))
    return _digest(found)


def _place(key: str) -> Path:
    return user_cache() / "networks" / key


def _cached(key: str) -> str:
    with suppress(OSError, UnicodeDecodeError):
        text = _place(key).read_text(encoding="ascii")
        return text if len(text) == DIGITS else ""
    return ""


def _keep(key: str, fingerprint: str) -> str:
    """A cache that cannot be written costs time, nothing else."""
    with suppress(OSError):
        write_atomically(_place(key), fingerprint.encode())
    return fingerprint
