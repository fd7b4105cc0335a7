"""Folders of records of schema 1, carried over to schema 2: nothing that was measured is lost.

The old defaults stand here as they were, whatever those of the code are by now. A network gets a fingerprint only where
its function is known to be the same as when it was measured: our own families while their revision is 1 (golden outputs
hold that), a library's at the version that the record states. Every other record is kept aside.

Each step may be cut short and done again: first all new records are written, then the keys in other files are
replaced, then the old records go.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import archs
from archs import ArchConfig, ArchError
from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.records.canonical import SCHEMA, canonical_json
from bench.records.fingerprint import config_parts
from bench.records.identity import network_determinants, network_libraries, versions
from bench.records.record import Record, schema_of
from bench.records.storages import Changes, replace_in_database, replace_in_storage, storages_in

OLD = 1
ASIDE = ".schema-1"
"""Folder inside a store for records that cannot be carried over; no reader looks into it."""
TEXTS = frozenset({".json", ".csv", ".md", ".tex"})
_KEY = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{12})\b")
_RECORD = re.compile(r"[0-9a-f]{32}")

RECIPE = {
    "steps": 66840, "eval_every": 3342, "early_stop": 5, "batch": 24, "crop": None, "lr": 1e-3, "weight_decay": 0.01,
    "clip": 1.0, "loss": "dice", "schedule": "plateau", "warmup_steps": 0, "plateau_factor": 0.1, "plateau_patience": 3,
    "precision": "fp32", "channels_last": False, "flip_horizontal": 0.5, "flip_vertical": 0.5, "quarter_turn": 0.5,
    "brightness_contrast": 0.3, "brightness_limit": 0.2, "contrast_limit": 0.2,
}  # fmt: skip
PROTOCOL = {
    "batch": 1, "precision": "fp32", "memory_format": "contiguous", "runtime": "eager", "form": "trained",
    "threads": None, "calls": 5, "rounds": 10, "min_seconds": 1.0, "max_seconds": 30.0, "precision_goal": 0.05,
    "warmup_seconds": 5.0,
}  # fmt: skip


@dataclass
class Upgraded:
    """What became of a folder.

    Attributes:
        folder: that was given.
        backup: folder beside it that holds every file as it was.
        records: carried over.
        aside: kept aside, by reason.
        files: other files that changed.
        new: by old key or fingerprint, the new one.
    """

    folder: Path
    backup: Path
    records: int = 0
    aside: Counter[str] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)
    new: dict[str, str] = field(default_factory=dict)


class _Lost(Exception):
    """Why a record cannot be carried over."""


def upgrade_folder(
    folder: Path, fingerprints: Mapping[str, str], progress: Callable[[int, int], None] = lambda done, total: None
) -> Upgraded:
    """Carry over every record below `folder`, and its keys in manifests, tables, weights and search storages.

    Args:
        folder: of a study or of several; what is of schema 2 already stays as it is.
        fingerprints: of data sets: from that of schema 1 to today's. Trainings on others are kept aside.
        progress: told of records done and in all.

    Raises:
        BenchError: there is no such folder.
        OSError: it cannot be written.
    """
    if not folder.is_dir():
        raise BenchError(f"there is no folder {folder}; give one that holds records, as runs or results")
    done = Upgraded(folder, folder.with_name(f"{folder.name}-schema-{OLD}"), new=dict(fingerprints))
    done.new |= _carried_before(folder)
    old = list(_old_records(folder))
    for i, path in enumerate(old):
        _carry_over(path, done)
        progress(i + 1, len(old))
    replace_keys(done)
    for path in old:
        _put_away(path, done)
    return done


def _old_records(folder: Path) -> Iterator[Path]:
    """Record files of schema 1, those kept aside before included."""
    for path in sorted(folder.rglob("*.json")):
        if _RECORD.fullmatch(path.stem) and schema_of(_text(path)) == OLD:
            yield path


def _carried_before(folder: Path) -> dict[str, str]:
    """New keys by old ones, as the records tell that an earlier run carried over."""
    found = {}
    for path in folder.rglob("*.json"):
        if _RECORD.fullmatch(path.stem) and f"schema_{OLD}_key" in (text := _text(path)):
            found[json.loads(text)["about"][f"schema_{OLD}_key"]] = path.stem
    return found


def _carry_over(path: Path, done: Upgraded) -> None:
    """Write the new record of an old one beside it."""
    raw = json.loads(_text(path))
    try:
        record = upgraded_record(raw, done.new)
    except _Lost as reason:
        done.aside[str(reason)] += 1
        return
    done.new[path.stem] = record.key
    done.new |= _config_keys(raw["determinants"])
    done.records += 1
    place = _store(path) / record.kind / f"{record.key}.json"
    if not place.exists():
        write_atomically(place, record.to_text().encode())


def _put_away(path: Path, done: Upgraded) -> None:
    """Remove an old record that was carried over; move one that was not to where no reader looks."""
    keep_copy(path, done)
    if path.stem not in done.new and path.parent.parent.name != ASIDE:
        write_atomically(_store(path) / ASIDE / path.parent.name / path.name, path.read_bytes())
    if path.stem in done.new or path.parent.parent.name != ASIDE:
        path.unlink()


def _store(path: Path) -> Path:
    folder = path.parent.parent
    return folder.parent if folder.name == ASIDE else folder


def keep_copy(path: Path, done: Upgraded) -> None:
    """The file as it is, into the backup, unless that has an earlier form."""
    copy = done.backup / path.relative_to(done.folder)
    if not copy.exists():
        write_atomically(copy, path.read_bytes())


def replace_keys(done: Upgraded) -> None:
    """Old keys, fingerprints and names by the new ones: in texts, in the names of weights, in search storages."""
    for path in sorted(done.folder.rglob("*")):
        if not path.is_file() or (_RECORD.fullmatch(path.stem) and path.suffix == ".json"):
            continue
        if path.suffix == ".safetensors" and path.stem in done.new:
            path.rename(path.with_stem(done.new[path.stem]))
        elif path.suffix in TEXTS:
            _replace_in_text(path, done)
    for path, url in storages_in(done.folder):
        if replace_in_storage(path, url, partial(translated, new=done.new), partial(keep_copy, path, done)):
            done.files.append(path)


def replace_on_server(url: str, done: Upgraded) -> None:
    """The same in a server's database.

    Args:
        url: of SQLAlchemy, with the driver.
        done: what `upgrade_folder` made of the folder beside it.
    """

    def keep(changes: Changes) -> None:
        keep_texts(done, {f"{table} {row}": old for table, row, old, _ in changes})

    replace_in_database(url, partial(translated, new=done.new), keep)


def keep_texts(done: Upgraded, texts: Mapping[str, Any]) -> None:
    """Add what a server's database holds to `server.json` in the backup, unless that has an earlier form."""
    path = done.backup / "server.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_atomically(path, (json.dumps({**texts, **kept}, indent=1) + "\n").encode())


def _replace_in_text(path: Path, done: Upgraded) -> None:
    before = _text(path)
    after = translated(before, done.new)
    if after != before:
        keep_copy(path, done)
        write_atomically(path, after.encode())
        done.files.append(path)


def translated(text: str, new: Mapping[str, str]) -> str:
    """The text with every old key in it replaced."""
    return _KEY.sub(lambda match: new.get(match[0], match[0]), text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def upgraded_record(raw: Mapping[str, Any], new: Mapping[str, str]) -> Record:
    """The record of schema 2 that holds what one of schema 1 held.

    Raises:
        _Lost: it cannot be told what network or data it was made with.
    """
    given = dict(raw["determinants"])
    packages = raw["environment"].get("packages", {})
    upgrade = _KINDS.get(raw["kind"], lambda given, packages, new: (given, {}))
    determinants, about = upgrade(given, packages, new)
    kept = {name: raw[name] for name in ("environment", "seconds", "status", "reason", "cost")}
    about = {**about, f"schema_{OLD}_key": raw["key"]}
    return Record.of(raw["kind"], determinants, raw["result"], about=about, **kept)


def _counted(given: dict[str, Any], packages: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict, dict]:
    config = given.pop("config")
    classes, channels = given.pop("num_classes"), given.pop("in_channels")
    return {**_network(config, classes, channels, packages), **given}, {"config": config}


def _trained(given: dict[str, Any], packages: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict, dict]:
    config, data, recipe = given.pop("config"), given.pop("data"), given.pop("recipe")
    network = _network(config, given.pop("num_classes"), 3, packages)
    about = {"config": config, "recipe": recipe, "data": data["name"]}
    return {**network, **given, "data": _data(data, new), "recipe": _without(recipe, RECIPE)}, about


def _timed(given: dict[str, Any], packages: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict, dict]:
    configs, protocol, classes = given.pop("configs"), given.pop("protocol"), given.pop("num_classes")
    found = {label: _network(config, classes, 3, packages) for label, config in configs.items()}
    libraries = {package for config in configs.values() for package in network_libraries(_config(config))}
    determinants = {
        "configs": {label: network["config"] for label, network in found.items()},
        "networks": {label: network["network"] for label, network in found.items()},
        "num_classes": classes,
        "in_channels": 3,
        **given,
        "protocol": _without(protocol, PROTOCOL),
        "versions": given["versions"] | {package: packages[package] for package in sorted(libraries)},
    }
    return determinants, {"configs": configs, "protocol": protocol}


def _raced(given: dict[str, Any], packages: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict, dict]:
    entries, classes = given.pop("ways"), given.pop("num_classes")
    found = {
        label: {
            **_network(entry["config"], classes, 3, packages),
            "protocol": _without(entry["protocol"], PROTOCOL),
        }
        for label, entry in entries.items()
    }
    return {**given, "entries": found}, {"entries": entries}


def _contested(given: dict[str, Any], packages: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict, dict]:
    table, base = given.pop("land"), given.pop("base")
    table = {**table, "data": _data(table["data"], new), "recipe": _without(table["recipe"], RECIPE)}
    return {**given, "table": table, "base": archs.to_dict(_config(base), defaults=False)}, {"base": base}


_KINDS = {
    "static": _counted,
    "cost": _counted,
    "growth": _counted,
    "train": _trained,
    "speed": _timed,
    "latency": _timed,
    "race": _raced,
    "contest": _contested,
}


def _network(plain: Mapping[str, Any], classes: int, channels: int, packages: Mapping[str, str]) -> dict[str, Any]:
    """The network's determinants, where its function is known to be what it was."""
    config = _config(plain)
    for part in config_parts(config):
        if getattr(part, "revision", 1) != 1:
            raise _Lost(f"{part.family} has another revision than the one that was measured")
        if not type(part).__module__.startswith("archs."):
            raise _Lost(f"the code of the family {part.family} is not ours: it may have changed since")
    for package in network_libraries(config):
        if packages.get(package) != (here := versions(package)[package]):
            raise _Lost(f"measured with {package} {packages.get(package)}, and {here} is installed: install that one")
    return network_determinants(config, classes, channels)


def _config(plain: Mapping[str, Any]) -> ArchConfig:
    try:
        return archs.from_dict(dict(plain))
    except ArchError as error:
        raise _Lost(f"its config is not known here ({error})") from None


def _data(data: Mapping[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
    """The data's determinants, less the name."""
    found = new.get(data["fingerprint"])
    if found is None:
        raise _Lost(f"trained on the data set {data['name']}, whose new fingerprint is not known: give it by --data")
    return {**{key: value for key, value in data.items() if key != "name"}, "fingerprint": found}


def _without(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in defaults or value != defaults[key]}


def _config_keys(determinants: Any) -> dict[str, str]:
    """The twelve digits by which searches and tables call the configs in some determinants, old and new."""
    if isinstance(determinants, list):
        return {old: new for item in determinants for old, new in _config_keys(item).items()}
    if not isinstance(determinants, Mapping):
        return {}
    if "family" in determinants:
        sparse = archs.to_dict(_config(determinants), defaults=False)
        return {_short(determinants): _short(sparse)}
    return {old: new for item in determinants.values() for old, new in _config_keys(item).items()}


def _short(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:12]


assert SCHEMA == OLD + 1, "a later schema needs an upgrade of its own"
