"""One plan, one run and one report for every study."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.engine import Cell, run_cells
from bench.errors import BenchError, DataWarning
from bench.records import Record, RecordStore
from bench.records.environment import environment
from bench.study.adoption import adopted, adoption_note
from bench.study.declare import VariantStudy
from bench.study.protocol import FILE, RECORDS, WEIGHTS, Manifest, Report, Results, Setting, Study, load_manifest
from bench.study.report import report_variants
from bench.training.curves import CURVES, curves_folder, write_history

Find = Callable[[str], Study]
"""Finds a study by its name in the suite or by the path of its file."""


@dataclass(frozen=True)
class StudyPlan:
    """The cells of a study under a setting, by label, and the manifest that names them."""

    labelled: Mapping[str, Cell]
    manifest: Manifest
    folder: Path
    store: RecordStore
    notes: tuple[str, ...] = ()
    """what to say before it is run, one sentence each"""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the order in which they are measured."""
        return tuple(self.labelled.values())

    @property
    def missing(self) -> int:
        """How many cells have no record."""
        return sum(cell.key not in self.store for cell in self.cells)

    def without_weights(self) -> list[str]:
        """Labels of trainings that are recorded already, so that their weights, if not there, will not be kept."""
        weights = self.store.folder.parent / WEIGHTS
        return [
            label
            for label, cell in self.labelled.items()
            if cell.kind == "train" and cell.key in self.store and not (weights / f"{cell.key}.safetensors").exists()
        ]

    def weight_notes(self, shared: bool) -> list[str]:
        """What to say before hours of training: which weights will not be there at the end, one sentence each."""
        notes = []
        if recorded := self.without_weights():
            notes.append(
                f"weights: {len(recorded)} trainings ({recorded[0]}, ...) are recorded already, without weights, and "
                "are not trained again; for their weights give another --out, or delete their records"
            )
        if shared:
            notes.append(
                "weights: every host keeps those of its own trainings, in the folder `weights` of its own --out; copy "
                "them together at the end"
            )
        return notes


def plan_study(study: Study, setting: Setting, source: str = "", adopt: bool = True) -> StudyPlan:
    """Lay out the cells of a study; nothing is measured.

    Args:
        study: any.
        setting: under which it is run.
        source: where its code is, see `Manifest`; a `VariantStudy` needs none.
        adopt: whether trainings that another machine recorded stand for those of this one. Hosts that share a study
            are alike, and need the same cells.

    Raises:
        BenchError: the study cannot be run under this setting, as when the data cannot be opened.
    """
    layout = study.layout(setting)
    folder, store = setting.out / study.name, RecordStore(setting.out / RECORDS)
    cells = adopted(layout.cells, store, _reported(folder)) if adopt else dict(layout.cells)
    manifest = Manifest(
        study=study.name,
        question=study.question,
        source="" if isinstance(study, VariantStudy) else source,
        setting=setting.to_dict(study.uses),
        cells={label: cell.key for label, cell in cells.items()},
        skipped=layout.skipped,
        details={**layout.details, **_deltas(folder, setting, study)},
    )
    note = adoption_note(list(layout.cells.values()), list(cells.values()))
    return StudyPlan(cells, manifest, folder, store, (note,) if note else ())


def _reported(folder: Path) -> Mapping[str, str]:
    """Keys by label of the study's last manifest; none if it cannot be read."""
    try:
        return load_manifest(folder).cells
    except BenchError:
        return {}


def _deltas(folder: Path, setting: Setting, study: Study) -> dict[str, list[float]]:
    """The deltas under which trainings of this study were recorded before, so that a change is told."""
    if "delta" not in study.uses or not (folder / FILE).is_file():
        return {}
    try:
        earlier = load_manifest(folder)
    except BenchError:  # it is written anew
        return {}
    store = RecordStore(folder.parent / RECORDS)
    before = [*earlier.details.get("deltas", [])]
    trained = any(label.startswith("train") and store.get(key) for label, key in earlier.cells.items())
    last = earlier.setting.get("delta")
    if trained and last is not None and last != setting.delta and last not in before:
        before.append(last)
    return {"deltas": before} if before else {}


def plan_from_manifest(document: Mapping[str, Any], data: str, device: str, out: Path, find: Find | None) -> StudyPlan:
    """The plan that a manifest stands for, made again on this host, so that it can share the cells.

    The caller compares the keys: they differ where this host has other data, another device or another torch.

    Args:
        document: `Manifest.to_dict`.
        data: where the study's data lie here.
        device, out: of this host.
        find: how a study is found by its source.

    Raises:
        BenchError: the manifest is of another version, or its study is not to be found here.
    """
    manifest = Manifest.from_dict(document)
    study = _study_of(manifest, find)
    setting = Setting.from_dict({**manifest.setting, "device": device}, data, out)
    return plan_study(study, setting, manifest.source, adopt=False)


def save_manifest(plan: StudyPlan) -> None:
    """Write the plan's manifest into its folder.

    Raises:
        BenchError: the study there is settled look by look. Without its looks, its intervals would be those of a single
            look, and the error that all looks share would be spent anew.
    """
    if "looks" not in plan.manifest.details and _looks(plan.folder):
        raise BenchError(
            f"{plan.folder} holds a study that was settled look by look: go on with --settle and the options that it "
            "was begun with, or give another --name"
        )
    plan.manifest.save(plan.folder)


def _looks(folder: Path) -> Sequence[Mapping[str, Any]]:
    """Those of the study's last manifest; none if it cannot be read."""
    try:
        return load_manifest(folder).details.get("looks", ())
    except BenchError:
        return ()


def log_recorded(plan: StudyPlan) -> Path:
    """Write the curves of the trainings that are recorded already, from their histories; the folder of all curves."""
    curves = plan.store.folder.parent / CURVES
    for cell in plan.cells:
        record = plan.store.get(cell.key) if cell.kind == "train" else None
        if record is not None:
            write_history(curves_folder(curves, cell.label, cell.key), record.result.get("history", []))
    return curves


def run_study(plan: StudyPlan, *, console: Console | None = None, retry_failed: bool = False) -> None:
    """Measure what is missing; the manifest is saved first, so that a part of a study can be looked at.

    Raises:
        BenchError: the disk is full, a record is damaged, or the study was settled look by look and this plan is not.
        StudyInterrupted: Ctrl-C; the same study goes on from there.
    """
    save_manifest(plan)
    where = environment(plan.manifest.device)
    run_cells(plan.cells, plan.store, environment=where, console=console, retry_failed=retry_failed)


def load_results(folder: Path, data: str | None = None) -> Results:
    """A study's manifest, and those of its records that are there.

    Raises:
        BenchError: the folder holds no study.
    """
    manifest = load_manifest(folder)
    store = RecordStore(folder.parent / RECORDS)
    found = {label: _readable(store, key) for label, key in manifest.cells.items()}
    records = {label: record for label, record in found.items() if record is not None}
    return Results(manifest, records, folder, data)


def _readable(store: RecordStore, key: str) -> Record | None:
    """The record; None, with a warning, of a damaged file: it must not cost the others their place in a report."""
    try:
        return store.get(key)
    except BenchError as error:
        warnings.warn(str(error), DataWarning, stacklevel=3)
        return None


def write_report(
    folder: Path,
    data: str | None = None,
    *,
    study: Study | None = None,
    find: Find | None = None,
    into: Path | None = None,
) -> Report:
    """Make a study's tables and figures from its manifest and records.

    Args:
        folder: the study's.
        data: its data, for pictures of tiles; without it they are left out.
        study: whose report is made; without it, the study that the manifest names.
        find: how a study is found by its source; a `VariantStudy` needs none.
        into: another folder for tables and figures.

    Raises:
        BenchError: the folder holds no study, its code is not to be found, or the data are not those of the study.
    """
    results = replace(load_results(folder, data), folder=into or folder)
    if study is None and results.manifest.declared:
        return report_variants(results)  # without building the variants, whose code may be elsewhere
    return (study or _study_of(results.manifest, find)).report(results)


def _study_of(manifest: Manifest, find: Find | None) -> Study:
    if manifest.declared:
        return VariantStudy.from_details(manifest.study, manifest.question, manifest.details)
    if find is None or not manifest.source:
        raise BenchError(
            f"the study {manifest.study} has code of its own, which its manifest does not name; give the study itself"
        )
    return find(manifest.source)
