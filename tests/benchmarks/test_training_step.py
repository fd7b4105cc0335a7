"""Training: the step of LALE-S1 with and without what feeds it, and the trainings of a study by the hour.

The first must show that data are never the bottleneck; the second what one training a core, each on one thread, brings
against one after another on all cores, on an idle machine and beside a busy neighbour.
"""

import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

import archs
from bench.data import open_data
from bench.data.dataset import Split
from bench.engine import helpers, run_cells
from bench.records import RecordStore
from bench.records.environment import environment, usable_cores
from bench.training.cells import train_cell
from bench.training.loop import descend, make_loss, training_batch
from bench.training.recipe import RECIPES
from bench.training.tiles import place_tiles

RECIPE = replace(RECIPES["standard"], batch=8)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def tiles():
    """Random tiles of 256 px: what a crop of 128 px is cut from."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(32, 256, 256, 3), dtype=np.uint8)
    masks = rng.integers(7, size=(32, 256, 256), dtype=np.uint8)
    return place_tiles(Split("train", images, masks, tuple(map(str, range(32))), "random"), DEVICE)


def synchronised(action):
    """Run, then wait for the device: a queued step is no step done."""
    action()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize("part", ["batch alone", "step on one batch", "batch and step"])
def test_training_step(benchmark, tiles, part):
    model = archs.create("lale-s1").to(DEVICE, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    loss = make_loss(RECIPE, 255)
    fixed = training_batch(tiles, RECIPE, 0, 0)
    parts = {
        "batch alone": lambda: training_batch(tiles, RECIPE, 0, 1),
        "step on one batch": lambda: descend(model, optimiser, loss, RECIPE, *fixed),
        "batch and step": lambda: descend(model, optimiser, loss, RECIPE, *training_batch(tiles, RECIPE, 0, 1)),
    }
    benchmark.pedantic(synchronised, args=(parts[part],), rounds=5, warmup_rounds=1)


ONE_A_CORE, IN_TURN = "one a core", "one after another"
NEIGHBOURS = {
    "none": "",
    "a busy loop": "while True: pass",
    "PyTorch on all cores": (
        f"import torch; torch.set_num_threads({usable_cores()}); a = torch.rand(999, 999)\nwhile True: a @ a"
    ),
}


@contextlib.contextmanager
def beside(program):
    neighbour = subprocess.Popen([sys.executable, "-c", program or "input()"], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.communicate()


def train_all(way, cells, folder, monkeypatch):
    """Seconds that the trainings take, the start of processes included: which is little of a real training."""
    monkeypatch.setattr(helpers, "usable_cores", usable_cores if way == ONE_A_CORE else lambda: 1)
    began = time.perf_counter()
    outcomes = run_cells(cells, RecordStore(folder), environment=environment("cpu"), console=Console(quiet=True))
    assert {outcome.record.environment["threads"] for outcome in outcomes} == {
        1 if way == ONE_A_CORE else usable_cores()
    }
    return time.perf_counter() - began


@pytest.mark.skipif(usable_cores() < 2, reason="one core trains one network at a time either way")
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_trainings_of_a_study_by_the_hour(benchmark, tmp_path, monkeypatch, capsys, neighbour):
    """Interleaved rounds of two short trainings a core; the ratio is what to read."""
    recipe = replace(RECIPES["standard"], steps=16, eval_every=16, warmup_steps=0)
    data, count = open_data("world"), 2 * usable_cores()
    cells = [train_cell(archs.config("lale-s1"), "lale-s1", data, recipe, seed, "cpu") for seed in range(count)]
    seconds = {ONE_A_CORE: [], IN_TURN: []}

    def both():
        for way, taken in seconds.items():
            taken.append(train_all(way, cells, tmp_path / f"{way} {len(taken)}", monkeypatch))

    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    try:
        with beside(NEIGHBOURS[neighbour]):
            benchmark.pedantic(both, rounds=2)
    finally:
        torch.set_num_threads(before)
    hourly = {way: 3600 * count / statistics.median(taken) for way, taken in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    benchmark.extra_info |= {"trainings an hour": hourly, "ratio": ratio}
    with capsys.disabled():
        rates = ", ".join(f"{way} {rate:.0f}" for way, rate in hourly.items())
        print(f"\nneighbour: {neighbour}; trainings of {recipe.steps} steps an hour: {rates}; ratio {ratio:.2f}")
