"""`predict` beside its network alone: what reading, blending and writing leave of the throughput."""

import itertools
import timeit
from pathlib import Path

import pytest

from bench.scenes.mapping import Mapping, map_scene
from bench.scenes.predict import WindowNetwork
from bench.scenes.source import sample_scene
from bench.training.trained import committed, open_trained

ROUNDS, CALLS = 5, 10


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("name", committed())
def test_share_of_the_bare_network(benchmark, tmp_path, name, runtime):
    """The sample scene; the share, over processed pixels, is in the benchmark's `extra_info` (aim: 80 %)."""
    pytest.importorskip("rasterio")
    pytest.importorskip("torch" if runtime == "eager" else runtime)
    trained, how, found = open_trained(name), Mapping(runtime=runtime), []
    paths = (tmp_path / f"{n}.tif" for n in itertools.count())
    benchmark.pedantic(lambda: found.append(map_scene(trained, Path("sample"), next(paths), how)), rounds=ROUNDS)
    mapped = max(one.timing.processed / one.timing.seconds for one in found)
    tiling = how.tiling(sample_scene("sample"), trained)
    network = WindowNetwork(trained, tiling.side, how.protocol(tiling), "cpu")
    seconds = min(timeit.repeat(network.run, number=CALLS, repeat=ROUNDS)) / CALLS
    bare = network.batch * tiling.side[0] * tiling.side[1] / seconds
    benchmark.extra_info |= {"px/s of the network alone": bare, "share over processed pixels": mapped / bare}
    print(f"\n{name}, {runtime}: {mapped / bare:.0%} of the bare network's throughput")
