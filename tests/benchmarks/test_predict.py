"""`predict` beside its network alone: what reading, blending and writing leave of the throughput."""

import itertools
import timeit

import numpy as np
import pytest

from bench.scenes.mapping import Mapping, map_scene
from bench.scenes.predict import WindowNetwork
from bench.scenes.source import open_scene, sample_scene
from bench.training.trained import committed, open_trained

ROUNDS, CALLS = 3, 10
REPEATS = 3, 3  # of the sample scene, down and across


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """A GeoTIFF as they are delivered, tiled and compressed: the sample scene, every second copy mirrored."""
    rasterio = pytest.importorskip("rasterio")
    scene = sample_scene("sample")
    one = scene.read(0, 0, scene.height, scene.width)
    row = np.concatenate([one[:, :, :: (-1) ** n] for n in range(REPEATS[1])], axis=2)
    pixels = np.concatenate([row[:, :: (-1) ** n] for n in range(REPEATS[0])], axis=1)
    path = tmp_path_factory.mktemp("scene") / "mosaic.tif"
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": "uint8"}
    place = {"crs": scene.place.crs, "transform": scene.place.transform}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, compress="deflate", **shape, **place) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("name", committed())
def test_share_of_the_bare_network(benchmark, mosaic, tmp_path, name, runtime):
    """7.1 million pixels; the share, over processed pixels, is in the benchmark's `extra_info` (aim: 80 %)."""
    pytest.importorskip("torch" if runtime == "eager" else runtime)
    trained, how, found = open_trained(name), Mapping(runtime=runtime), []
    paths = (tmp_path / f"{n}.tif" for n in itertools.count())
    benchmark.pedantic(lambda: found.append(map_scene(trained, mosaic, next(paths), how)), rounds=ROUNDS)
    mapped = max(one.timing.processed / one.timing.seconds for one in found)
    with open_scene(mosaic) as scene:
        tiling = how.tiling(scene, trained)
    network = WindowNetwork(trained, tiling.side, how.protocol(tiling), "cpu")
    seconds = min(timeit.repeat(network.run, number=CALLS, repeat=ROUNDS)) / CALLS
    bare = network.batch * tiling.side[0] * tiling.side[1] / seconds
    benchmark.extra_info |= {"px/s of the network alone": bare, "share over processed pixels": mapped / bare}
    print(f"\n{name}, {runtime}: {mapped / bare:.0%} of the bare network's throughput")
