"""The training step of LALE-S1 with and without what feeds it: the data must never be the bottleneck.

Run with `pytest -o addopts= tests/benchmarks/test_training_step.py`.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import archs
from bench.data.dataset import Split
from bench.training.loop import descend, training_batch
from bench.training.loss import make_loss
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
