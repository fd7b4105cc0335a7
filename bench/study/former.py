"""Manifests of former formats carried over to today's: one of variants ("study 1"), one of a survey ("survey 1")."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.records.upgrade import Upgraded, keep_copy
from bench.study.layout import speed_label, static_label, train_label
from bench.study.protocol import FILE, Manifest, Setting

SURVEY_FILE = "survey.json"


def upgrade_manifests(done: Upgraded) -> None:
    """Write today's manifest in place of each former one below the folder; those stay in its backup.

    Args:
        done: what `upgrade_folder` made of the folder; the changed files, and those that are damaged, are added.

    Raises:
        OSError: a file cannot be written.
    """
    for path in sorted([*done.folder.rglob(FILE), *done.folder.rglob(SURVEY_FILE)]):
        try:
            manifest = _todays(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError):
            done.aside[f"{path} is no manifest that can be read; run the study again"] += 1
            continue
        if manifest is not None:
            _replace(path, manifest, done)


def _replace(path: Path, manifest: Manifest, done: Upgraded) -> None:
    keep_copy(path, done)
    if path.name == FILE or not path.with_name(FILE).exists():
        manifest.save(path.parent)
    if path.name != FILE:
        path.unlink()
    done.files.append(path)


def _todays(document: Mapping[str, Any]) -> Manifest | None:
    """The manifest that a document of a former format stands for; None for any other format."""
    convert = _FORMATS.get(document.get("format", ""))
    return convert(document) if convert else None


def _of_survey(old: Mapping[str, Any]) -> Manifest:
    name = old["survey"]
    return Manifest(name, old["question"], name, {"device": old["device"]}, old["cells"])


def _of_variants(old: Mapping[str, Any]) -> Manifest:
    rows, speeds = old["rows"], old["speeds"]
    setting = {
        **{key: old[key] for key in ("recipe", "seeds", "device", "size")},
        "batches": sorted(map(int, speeds)) or list(Setting.batches),
        "keep_weights": False,
    }
    cells = {static_label(row["label"]): row["static"] for row in rows if row["static"]}
    cells |= {speed_label(int(batch)): key for batch, key in speeds.items()}
    cells |= {
        train_label(row["label"], seed): row["trains"][i]
        for i, seed in enumerate(old["seeds"])
        for row in rows
        if i < len(row["trains"])
    }
    skipped = {row["label"]: row["skipped"] for row in rows if row["skipped"]}
    return Manifest(old["study"], old["question"], "", setting, cells, skipped, _details(old))


def _details(old: Mapping[str, Any]) -> dict[str, Any]:
    rows = old["rows"]
    used = {
        "static": any(row["static"] for row in rows),
        "speed": old["speeds"],
        "train": any(r["trained"] for r in rows),
    }
    return {
        "base": old["base"],
        "figures": old["figures"],
        "instruments": [name for name, there in used.items() if there],
        "variants": [
            {
                **{key: row[key] for key in ("label", "family", "factor", "trained")},
                "base": None if row["base"] == old["base"] else row["base"],
            }
            for row in rows
        ],
        "data": old["data"],
    }


_FORMATS = {"lale-bench study 1": _of_variants, "lale-bench survey 1": _of_survey}
