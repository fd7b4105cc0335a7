"""A study that is killed at random points, again and again, ends with the same table, and measures nothing twice."""

import dataclasses
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bench.records import Record, RecordStore

CELLS, FAILING = 20, 7
STUDY = """
import os, sys, time
from pathlib import Path
import numpy as np
from bench.engine import Cell, run_cells
from bench.records import RecordStore, pack_array, record_key

folder, cells, failing = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def note(*words):  # one write of one line to a file opened for appending is whole, whoever else writes
    descriptor = os.open(folder / "measured.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, words)) + chr(10)).encode())
    os.close(descriptor)

def determinants(seed):
    return {"seed": seed, "config": {"widths": (seed, 2 * seed)}}

def measure(seed):
    file = folder / "records" / "demo" / (record_key("demo", determinants(seed)) + ".json")
    def run(context):
        marks = context.scratch / "steps"  # as a training's checkpoint: the steps that are behind it
        behind = len(marks.read_text()) if marks.exists() else 0
        note("begin", seed, behind, "recorded" if file.exists() else "missing")
        for step in range(behind, 3):
            time.sleep(0.01)
            with marks.open("a") as steps:
                steps.write("x")
            context.progress(step + 1, 3, "")
        note("end", seed)
        if seed == failing:
            raise ValueError("this one always fails")
        matrix = np.random.default_rng(seed).integers(0, 99, (3, 3))
        return {"f1": float(matrix.trace() / matrix.sum()), "matrix": pack_array(matrix)}
    return run

study = [Cell("demo", f"cell {i}", determinants(i), measure(i)) for i in range(cells)]
run_cells(study, RecordStore(folder / "records"), environment={"cpu": "any"})
"""


class Site:
    """A folder in which the study runs, in processes of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "measured.log"

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-c", STUDY, str(self.folder), str(CELLS), str(FAILING)]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    def begun(self) -> list[list[str]]:
        """Of each measurement begun: the cell's seed, steps taken before, and whether it had a record already."""
        return [line[1:] for line in self._lines() if line[0] == "begin"]

    def ended(self) -> Counter[int]:
        """How often each cell was measured to its end."""
        return Counter(int(line[1]) for line in self._lines() if line[0] == "end")

    def table(self) -> list[Record]:
        """The study's records but for the time each took, which no two runs share."""
        store = RecordStore(self.folder / "records")
        found = [dataclasses.replace(record, seconds=0.0) for record in store.all()]
        assert store.warnings() == []
        return found

    def wait_for_begun(self, count: int) -> None:
        """Waits until so many measurements are begun, so that a kill falls into the study and not into imports."""
        deadline = time.monotonic() + 30
        while len(self.begun()) < count:
            assert time.monotonic() < deadline, "the study does not get on"
            time.sleep(0.002)

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []


def finish(process: subprocess.Popen) -> None:
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()


def kill(process: subprocess.Popen) -> None:
    assert process.poll() is None, "it was done before it could be killed"
    process.kill()
    process.communicate()


def assert_whole(site: Site) -> None:
    assert set(site.ended()) == set(range(CELLS)), "a cell is lost"
    assert {recorded for *_, recorded in site.begun()} == {"missing"}, "a cell was measured after it had a record"
    assert not list((site.folder / "records" / ".scratch").iterdir())


def test_a_killed_study_ends_like_one_that_was_left_alone(tmp_path):
    whole, killed, chance = Site(tmp_path / "whole"), Site(tmp_path / "killed"), random.Random(0)
    finish(whole.start())
    for _ in range(5):
        before, process = len(killed.begun()), killed.start()
        killed.wait_for_begun(before + chance.choice((1, 2)))
        time.sleep(chance.uniform(0, 0.04))
        kill(process)
    finish(killed.start())
    assert killed.table() == whole.table()
    assert len(killed.table()) == CELLS
    assert [record.status for record in killed.table()].count("failed") == 1
    assert whole.ended() == Counter(range(CELLS))
    assert_whole(killed)
    assert any(int(behind) for _, behind, _ in killed.begun()), "no cell went on from its scratch folder"


def test_processes_share_a_study_and_none_waits_for_a_killed_one(tmp_path):
    site = Site(tmp_path / "shared")
    doomed, other = site.start(), site.start()
    site.wait_for_begun(5)
    kill(doomed)
    finish(other)
    assert len(site.table()) == CELLS
    assert_whole(site)
    assert sum(site.ended().values()) <= CELLS + 1  # the kill may fall between a cell's end and its record


def test_two_processes_measure_nothing_twice(tmp_path):
    site = Site(tmp_path / "shared")
    first, second = site.start(), site.start()
    finish(first)
    finish(second)
    assert site.ended() == Counter(range(CELLS))
    assert len(site.begun()) == CELLS
    assert_whole(site)
