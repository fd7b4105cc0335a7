"""What studies and their records know, read from the folders of results."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import archs
from bench.choose.known import (
    NOT_TRAINED,
    Known,
    KnownComparison,
    KnownNetwork,
    KnownSet,
    KnownSpeed,
    KnownStudy,
    Score,
)
from bench.errors import BenchError
from bench.records import Record, RecordStore
from bench.records.canonical import canonical_json
from bench.report.columns import is_missing
from bench.study import Results, load_results
from bench.study.layout import static_label, train_label
from bench.study.protocol import FILE, RECORDS
from bench.study.result import StudyResult, result_of

COSTS = ("params", "macs", "storage_bytes", "deployed_params", "deployed_macs", "deployed_file_bytes")


def gather(folders: Sequence[Path]) -> Known:
    """What the studies of variants below the folders know, and all speeds recorded beside them.

    Raises:
        BenchError: a folder holds no study, or a manifest cannot be read.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        inside = sorted(path.parent for path in folder.glob(f"**/{FILE}"))
        if not inside:
            raise BenchError(f"{folder} holds no study; give --records a folder that `lale-bench study` wrote")
        found |= dict.fromkeys(inside)
    results = [load_results(folder) for folder in found]
    studies = [study for one in results if one.manifest.declared and (study := known_study(one)) is not None]
    stores = dict.fromkeys(folder.parent / RECORDS for folder in found)
    speeds = [speed for store in stores for kind in ("race", "speed") for speed in _speeds(RecordStore(store), kind)]
    return Known(tuple(studies), tuple(speeds))


def counted(known: Known, data: KnownSet) -> Known:
    """The same with the costs of those networks of the data set whose study did not count them. A network whose
    architecture is not registered here stays without."""
    studies = [
        replace(study, networks=tuple(_counted(one, data) for one in study.networks))
        if study.data.fingerprint == data.fingerprint
        else study
        for study in known.studies
    ]
    return replace(known, studies=tuple(studies))


def _counted(network: KnownNetwork, data: KnownSet) -> KnownNetwork:
    from bench.counting.cells import static_figures

    if "params" in network.costs:
        return network
    try:
        config = archs.from_dict(dict(network.config))
        figures = static_figures(config, data.tile_size, data.num_classes, data.in_channels)
    except (archs.ArchError, BenchError):
        return network
    return replace(network, costs={key: figures[key] for key in COSTS if figures.get(key) is not None})


def speeds_of(record: Record) -> Iterator[KnownSpeed]:
    """The speeds in a record of kind "speed" or "race"."""
    told = record.determinants
    for label, speed in record.result.get("speeds", {}).items():
        network = told["entries"][label] if "entries" in told else {**told, "config": told["configs"][label]}
        protocol = speed["protocol"]
        yield KnownSpeed(
            config=network["config"],
            size=tuple(speed["size"]),
            num_classes=network["num_classes"],
            in_channels=network["in_channels"],
            **{key: protocol[key] for key in ("form", "runtime", "precision", "memory_format", "batch")},
            threads=speed["threads"],
            device=record.environment.get("device_kind", ""),
            throughput=speed["throughput"],
            low=speed["throughput_low"],
            high=speed["throughput_high"],
            joules=speed.get("joules_per_image"),
            other_cores=speed.get("other_cores"),
            cores=record.environment.get("usable_cores"),
        )


def _speeds(store: RecordStore, kind: str) -> Iterator[KnownSpeed]:
    for record in store.all(kind):
        if record.status == "ok":
            yield from speeds_of(record)


def known_study(results: Results) -> KnownStudy | None:
    """What a study of variants knows; None where nothing of it is recorded, so that not even its networks are known."""
    result = result_of(results)
    declared = result.manifest
    records = {row.label: _network_record(row.label, results) for row in declared.rows}
    first = next((record for record in records.values() if record is not None), None)
    if first is None:
        return None
    data = KnownSet(
        name=declared.data["name"],
        fingerprint=declared.data["fingerprint"],
        tile_size=tuple(declared.data["tile_size"]),
        num_classes=first.determinants["num_classes"],
        in_channels=first.determinants["in_channels"],
        gsd_m=declared.data.get("gsd_m"),
        scope=declared.data.get("scope", ""),
    )
    rows = {row["variant"]: row for row in result.frame.to_dict("records")}
    networks = {
        label: _network(rows[label], record.determinants["config"], result, _lower_precisions(record, results))
        for label, record in records.items()
        if record is not None
    }
    comparisons = tuple(_comparisons(rows, networks))
    return KnownStudy(declared.study, data, dict(declared.recipe), tuple(networks.values()), comparisons)


def _network_record(label: str, results: Results) -> Record | None:
    """A record that says which network a variant is."""
    training = train_label(label, 0)[:-1]
    own = (r for cell, r in results.records.items() if cell == static_label(label) or cell.startswith(training))
    return next((record for record in own if "config" in record.determinants), None)


def _lower_precisions(network: Record, results: Results) -> dict[str, Score]:
    """The study's scores of the network's kept weights in other precisions; one training tells nothing of chance."""
    return {
        f"{record.determinants['precision']} {record.determinants['runtime']}": Score(
            record.result["f1"], None, None, 1
        )
        for record in results.records.values()
        if record.kind == "accuracy"
        and record.status == "ok"
        and record.determinants["config"] == network.determinants["config"]
    }


def _network(
    row: Mapping[str, Any], config: Mapping[str, Any], result: StudyResult, lower: Mapping[str, Score]
) -> KnownNetwork:
    costs = {key: row[key] for key in COSTS if not is_missing(row[key])}
    name, precision = _name(row, config), result.manifest.recipe["precision"]
    if is_missing(row["f1"]):
        return KnownNetwork(name, config, costs, {}, row["reason"] or NOT_TRAINED)
    low, high = (None if is_missing(row[key]) else row[key] for key in ("f1_low", "f1_high"))
    return KnownNetwork(name, config, costs, {precision: Score(row["f1"], low, high, int(row["seeds"])), **lower})


def _name(row: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The registered one; a variant of a factor is called by what it changes, and by its base."""
    label = row["variant"]
    if label in _registered().values():
        return label
    own = f"{row['base']} ({label})" if row["factor"] and row["base"] else label
    return _registered().get(canonical_json(config), own)


@cache
def _registered() -> dict[str, str]:
    """Names of the registered networks by their configs."""
    return {canonical_json(archs.to_dict(archs.entry(name).config, defaults=False)): name for name in archs.names()}


def _comparisons(
    rows: Mapping[str, Mapping[str, Any]], networks: Mapping[str, KnownNetwork]
) -> Iterator[KnownComparison]:
    places = {label: place for place, label in enumerate(networks)}
    for label, row in rows.items():
        if row["base"] in places and label in places and not is_missing(row["verdict"]):
            scenes = "" if is_missing(row["scenes_verdict"]) else row["scenes_verdict"]
            yield KnownComparison(places[label], places[row["base"]], row["verdict"], scenes)
