"""The study of forms and runtimes: its cells, and its table and sentences from records."""

import copy
import os
import time
from dataclasses import replace
from pathlib import Path

import archs
from bench.engine import run_cells
from bench.records import Record, RecordStore
from bench.records.environment import environment
from bench.speed.comparison import RunConfig, comparison_cell, quickest, recorded_ratio
from bench.speed.machine import CpuLoad
from bench.speed.protocol import SpeedProtocol
from bench.study import Manifest, Results, Setting
from studies import deployment
from studies.deployment import NETWORK, REFERENCE, RUNS, STUDY, Run

TRAINED = (NETWORK, *(f"{name}@world" for name in deployment.SEARCHED))
TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
BRIEF = SpeedProtocol(calls=1, rounds=6, min_seconds=0, max_seconds=0.1, warmup_seconds=0.05, threads=1)


def test_every_run_of_the_study_can_be_asked_for():
    cells = STUDY.layout(Setting()).cells
    lower = [(name, run.network) for name, run in RUNS.items() if run.precision != "fp32"]
    scored = [f"accuracy: {name}" for name, network in lower if network in TRAINED]
    assert list(cells) == ["batch 1", "batch 8", *scored] and len(scored) == 3 + 2 * len(deployment.SEARCHED)
    for label, batch in (("batch 1", 1), ("batch 8", 8)):
        runs = cells[label].determinants["entries"]
        assert list(runs) == list(RUNS)
        assert {run["protocol"].get("batch", 1) for run in runs.values()} == {batch}
        assert {run["protocol"]["threads"] for run in runs.values()} == {2}
    told = cells["batch 8"].about["entries"][REFERENCE]["protocol"]
    assert (told["form"], told["memory_format"]) == ("trained", "contiguous")
    assert cells["batch 1"].key == STUDY.layout(Setting()).cells["batch 1"].key != cells["batch 8"].key


def test_a_race_is_recorded_and_reported(tmp_path, monkeypatch):
    runs = {
        REFERENCE: Run("lale-s1", "trained", "eager"),
        "lale-s1 deployed": Run("lale-s1", "deployed", "eager", "fp32", "channels_last"),
        "linknet": Run(deployment.BASELINE, "trained", "eager"),
        "graphs": Run("lale-s1", "trained", "cudagraphs"),
    }
    monkeypatch.setattr(deployment, "RUNS", runs)
    protocols = {label: replace(BRIEF, form=run.form, runtime=run.runtime) for label, run in runs.items()}
    networks = {REFERENCE: TINY, "linknet": replace(TINY, depths=(2, 2, 2, 2))}
    asked = {label: RunConfig(networks.get(label, TINY), protocols[label]) for label in runs}
    cell = comparison_cell(asked, "race at batch 1", (32, 32), 3, "cpu")
    store = RecordStore(tmp_path / "records")
    run_cells([cell], store, environment=environment("cpu"))
    record = store.get(cell.key)
    assert record.status == "ok", record.reason
    assert set(record.result["speeds"]) == set(runs) - {"graphs"}
    assert "NVIDIA" in record.result["missing"]["graphs"]

    manifest = Manifest("deployment", "?", "deployment", {"device": "cpu"}, {"batch 1": cell.key})
    found = STUDY.report(Results(manifest, {"batch 1": record}, tmp_path / "deployment"))
    rows = found.frame.set_index("variant")
    assert rows.loc[REFERENCE, "speedup"] == 1
    assert rows.loc["graphs", "status"] == "skipped"
    speeds = record.result["speeds"]
    assert rows.loc["lale-s1 deployed", "speedup"] == recorded_ratio(speeds, "lale-s1 deployed", REFERENCE).value
    assert quickest(speeds, ["graphs"]) is None
    best = quickest(speeds, [REFERENCE, "lale-s1 deployed"])
    quiet, shared, busy = (_findings_with(record, cores, others) for cores, others in ((1, 0.0), (2, 0.7), (1, 0.7)))
    assert shared == quiet  # one thread of two cores has its own
    assert any(f"{best} has" in sentence and "linknet; target 2.5×: " in sentence for sentence in quiet)
    assert "other processes used 0.7 of 1 cores beside 1 threads" in busy[0]
    assert not any(sentence.endswith(("met.", "missed.", "undecided.")) for sentence in busy)
    assert any("target 2.5×: no verdict" in sentence for sentence in busy)
    assert {path.name for path in found.files} == {"table.csv", "table.md"}


def test_a_lower_precision_counts_only_where_it_is_as_accurate(tmp_path):
    names = [name for name, run in RUNS.items() if (run.network, run.precision == "fp32") == (NETWORK, False)]
    accurate, lost, _ = names
    scored = {accurate: {"fp32_f1": 0.562, "f1": 0.565}, lost: {"fp32_f1": 0.562, "f1": 0.551}}
    records = {
        f"accuracy: {name}": Record(
            key=name, kind="accuracy", status="ok", determinants={}, result=result, environment={}, seconds=0
        )
        for name, result in scored.items()
    }
    cells = {"batch 1": "a", **{f"accuracy: {name}": name for name in names}}
    manifest = Manifest("deployment", "?", "deployment", {"device": "cpu", "delta": 0.01}, cells)
    found = deployment._accuracy(Results(manifest, records, tmp_path))
    assert [found[name]["precision_verdict"] for name in names] == ["equivalent", "worse", "not scored yet"]
    assert found["linknet deployed, OpenVINO int8"]["precision_verdict"] == "no trained weights"
    assert [deployment._counts(name, found) for name in (REFERENCE, *names)] == [True, True, False, False]

    speeds = {name: _speed(1.0) for name in RUNS} | {lost: _speed(0.01), accurate: _speed(0.1)}
    timed = Record(
        key="a",
        kind="race",
        status="ok",
        determinants={"entries": dict.fromkeys(RUNS)},
        result={"speeds": speeds, "missing": {}},
        environment={"usable_cores": 8},
        seconds=0,
    )
    sentences = deployment._findings("batch 1", timed, found)
    assert (
        f"batch 1: {accurate} has 10.00 [10.00, 10.00] times the throughput of {REFERENCE}; target 5×: met."
        in sentences
    )
    for network in deployment.SEARCHED:
        targets = [sentence for sentence in sentences if network in sentence and "target" in sentence]
        assert [REFERENCE in sentence for sentence in targets] == [True, False]
        assert targets[1].endswith("target 2.5×: missed.")  # as quick as linknet here
    assert not any(lost in sentence and "target" in sentence for sentence in sentences)
    assert any(lost in sentence and "macro F1 55.1 % against 56.2 %: worse" in sentence for sentence in sentences)
    assert any("linknet" in sentence and "accuracy: no trained weights" in sentence for sentence in sentences)
    rows = {row["variant"]: row for row in deployment._rows("batch 1", timed, found)}
    assert rows[accurate]["precision_f1"] == 0.565
    assert all(row["precision_verdict"] for name, row in rows.items() if RUNS[name].precision != "fp32")


def _speed(seconds: float) -> dict:
    blocks = [seconds * 1e3] * 8
    return {"protocol": {"batch": 1}, "block_rounds_ms": blocks, "threads": 1, "throughput": 1 / seconds}


def _findings_with(record: Record, cores: int, other_cores: float) -> list[str]:
    result = copy.deepcopy(record.result)
    for speed in result["speeds"].values():
        speed["other_cores"] = other_cores
    environment = {**record.environment, "usable_cores": cores}
    return deployment._findings("batch 1", replace(record, result=result, environment=environment), {})


def test_cores_of_others_are_what_is_busy_without_us(tmp_path):
    stat, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")

    def write(busy: float) -> None:
        stat.write_text(f"cpu  {round(busy * ticks)} 0 0 12345 67 0 0 0 0 0\ncpu0 1 2 3\n")

    write(100)
    watch, start, own = CpuLoad(stat), time.monotonic(), sum(os.times()[:2])
    time.sleep(0.2)
    write(103)
    found = watch.other_cores()
    wall = time.monotonic() - start
    assert abs(found - (3 - (sum(os.times()[:2]) - own)) / wall) < 1
    assert CpuLoad(Path("/nowhere")).other_cores() is None
