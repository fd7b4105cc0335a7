"""From nothing to tiles: drawing land, opening it from the cache, scoring predictions."""

import numpy as np
import pytest

from bench.data import open_data
from bench.training.metrics import confusion, scores

TILES = "terrain:seed=1,size=128,train=16,val=4,test=4"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path))
    return tmp_path


def test_drawing_land(benchmark, cache):
    """24 tiles of 128 px, other ones in each round."""
    seeds = iter(range(100))
    benchmark.pedantic(lambda: open_data(TILES.replace("seed=1", f"seed={next(seeds)}")), rounds=3)


def test_opening_land(benchmark, cache):
    open_data(TILES)
    benchmark.pedantic(lambda: open_data(TILES), rounds=10)


def test_scoring(benchmark):
    """16 predictions of 256 px."""
    random = np.random.default_rng(0)
    truth, found = random.integers(7, size=(2, 16, 256, 256), dtype=np.uint8)
    benchmark.pedantic(lambda: scores(confusion(found, truth, 7, 255).sum(axis=0)), rounds=10, warmup_rounds=1)
