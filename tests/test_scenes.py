"""Whole scenes to maps: windows, blends, resuming, coordinates, memory."""

import json
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import archs
from bench.cli.app import run
from bench.data import open_data
from bench.data.bands import scaled
from bench.errors import BenchError
from bench.scenes import output
from bench.scenes.evaluation import evaluate_trained, require_bands
from bench.scenes.exported import export_apart
from bench.scenes.mapping import Mapping, find_scenes, map_scene, refuse_shared_maps
from bench.scenes.output import NO_DATA, Draft, Layer
from bench.scenes.predict import WindowNetwork, highest, sample_windows
from bench.scenes.source import Georeference, open_scene
from bench.scenes.windows import STRIDE, grid, spans, tiling
from bench.speed.protocol import SpeedProtocol
from bench.speed.quantise import calibration_batches, calibration_images
from bench.speed.roofline import MARGIN
from bench.training.checkpoint import save_weights
from bench.training.trained import committed, open_trained

CLASSES = [{"name": f"c{k}", "rgb": [40 * k, 10, 200 - 40 * k]} for k in range(4)]
SMALL = Mapping(window=64, overlap=32, blend=16)
PROBABLE = replace(SMALL, probabilities=True)


@dataclass(frozen=True)
class NearConfig:
    """Two convolutions: a pixel's class depends on what is at most two pixels away."""

    family: ClassVar[str] = "near"
    width: int = 8

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.width, num_classes, 3, padding=1),
        )


archs.register_family(NearConfig)


def trained_folder(folder: Path, bands: int = 3) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_weights(archs.build(NearConfig(), 4, bands), folder / "weights.safetensors")
    described = [{"name": f"b{i}", "mean": 0.5, "deviation": 0.2, "low": 0, "high": 255} for i in range(bands)]
    archs.save_config(NearConfig(), folder / "config.json", num_classes=4, classes=CLASSES, bands=described)
    return folder


def picture(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def raster(path: Path, pixels: np.ndarray, **profile: object) -> None:
    rasterio = pytest.importorskip("rasterio")
    from rasterio.transform import from_origin

    bands, height, width = pixels.shape
    profile = {"crs": "EPSG:32640", "transform": from_origin(500_000, 2_780_000, 0.5, 0.5), **profile}
    with rasterio.open(path, "w", "GTiff", width, height, bands, dtype=pixels.dtype, **profile) as file:
        file.write(pixels)


@contextmanager
def unplaced():
    """A picture's map has no coordinates, and rasterio says so."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def whole(trained, pixels: np.ndarray) -> np.ndarray:
    """Class map of the whole image at once."""
    with torch.inference_mode():
        return trained.build()(trained.scaled(pixels[None])).argmax(1)[0].numpy()


@given(length=st.integers(1, 3000), sides=st.integers(2, 20), overlap=st.integers(0, 320), blend=st.integers(0, 320))
def test_windows_cover_an_axis_and_their_weights_add_up_to_one(length, sides, overlap, blend):
    side = min(sides * STRIDE, -(-length // STRIDE) * STRIDE)
    overlap, blend = min(overlap, side // 2), min(blend, overlap, side // 2)
    found = spans(length, side, overlap, blend)
    total = np.zeros(length)
    for span in found:
        assert span.origin % STRIDE == 0
        assert span.origin <= span.low < span.high <= min(length, span.origin + side)
        total[span.low : span.high] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert found[-1].origin + side - length < STRIDE


@given(classes=st.integers(1, 255), seed=st.integers(0, 1000))
def test_the_class_of_a_pixel_is_that_of_its_largest_logit_the_first_of_equals(classes, seed):
    logits = np.random.default_rng(seed).integers(-3, 4, (classes, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(highest(logits), logits.argmax(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_make_no_map(value):
    logits = np.zeros((4, 5, 7), np.float32)
    logits[2, 3, 4] = value
    with pytest.raises(BenchError, match="not finite"):
        highest(logits)


def test_a_grid_that_cannot_be_is_refused_in_a_sentence():
    for window, overlap, blend in ((100, 32, 16), (64, 40, 16), (64, 16, 32)):
        with pytest.raises(BenchError, match="give"):
            grid(500, 500, window, overlap, blend)


@pytest.mark.parametrize("height, width", [(32, 32), (192, 256), (320, 96)])
def test_where_context_is_bounded_the_map_is_that_of_the_whole_image(tmp_path, height, width):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    pixels = picture(tmp_path / "scene.png", height, width)
    found = map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL)
    drawn = np.asarray(Image.open(found.path))
    np.testing.assert_array_equal(drawn, whole(trained, pixels.transpose(2, 0, 1)))
    assert found.timing.useful == height * width


def test_a_side_that_the_stride_does_not_divide_differs_at_its_edge_alone(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    pixels = picture(tmp_path / "scene.png", 101, 157)
    found = map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL)
    drawn = np.asarray(Image.open(found.path))
    assert drawn.shape == (101, 157)
    np.testing.assert_array_equal(drawn[:-2, :-2], whole(trained, pixels.transpose(2, 0, 1))[:-2, :-2])


def test_a_geotiff_keeps_its_place_its_holes_and_gets_colours(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    pixels = np.random.default_rng(1).integers(1, 256, (3, 224, 320), np.uint8)
    pixels[:, 50:90, 100:220] = 0
    raster(tmp_path / "scene.tif", pixels, nodata=0)
    found = map_scene(trained, tmp_path / "scene.tif", tmp_path / "map.tif", SMALL)
    with rasterio.open(tmp_path / "scene.tif") as scene, rasterio.open(found.path) as drawn:
        assert (drawn.crs, drawn.transform, drawn.shape) == (scene.crs, scene.transform, scene.shape)
        assert drawn.nodata == NO_DATA
        assert drawn.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert drawn.colormap(1)[2] == (80, 10, 120, 255)
        classes = drawn.read(1)
    np.testing.assert_array_equal(classes == NO_DATA, (pixels == 0).all(0))
    inside = classes != NO_DATA
    np.testing.assert_array_equal(classes[inside], whole(trained, pixels)[inside])
    assert found.pixel_area == pytest.approx(0.25)


def test_probabilities_are_bytes_that_add_up_and_agree_with_the_classes(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 130, 140)
    map_scene(trained, tmp_path / "scene.png", tmp_path / "map.tif", PROBABLE)
    with unplaced(), rasterio.open(tmp_path / "map-probabilities.tif") as file:
        shares, names = file.read().astype(int), file.descriptions
    with unplaced(), rasterio.open(tmp_path / "map.tif") as file:
        classes = file.read(1)
    assert names == ("c0", "c1", "c2", "c3")
    assert np.abs(shares.sum(0) - 255).max() <= 2  # each is rounded
    best = np.take_along_axis(shares, classes[None].astype(int), 0)[0]
    assert (best >= shares.max(0)).all()


def test_windows_are_as_large_as_the_tiles_of_the_training(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 700, 900)
    with open_scene(tmp_path / "scene.png") as scene:
        assert Mapping().tiling(scene, trained).side == (512, 512)  # nothing is said
        assert Mapping().tiling(scene, replace(trained, tile_size=(128, 128))).side == (128, 128)
        assert Mapping().tiling(scene, replace(trained, tile_size=(50, 50))).side == (64, 64)
        assert Mapping(window=256).tiling(scene, replace(trained, tile_size=(128, 128))).side == (256, 256)


@pytest.mark.parametrize("stop", [1, 9, 20])
def test_a_map_that_was_interrupted_goes_on_and_is_the_same(tmp_path, stop):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 230, 300)
    straight = map_scene(trained, tmp_path / "scene.png", tmp_path / "straight.png", SMALL)
    windows = []

    def interrupt(done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    def count(done: int, total: int) -> None:
        windows.append(done)

    with pytest.raises(KeyboardInterrupt):
        map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL, on_window=interrupt)
    assert not (tmp_path / "map.png").exists()
    again = map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL, on_window=count)
    np.testing.assert_array_equal(np.asarray(Image.open(again.path)), np.asarray(Image.open(straight.path)))
    if stop == 20:  # rows that were done are not made again
        assert len(windows) < windows[-1]
        assert again.timing.useful < straight.timing.useful
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_finished_map_is_not_made_again_nor_overwritten_by_another(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 64, 64)
    map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL)
    assert map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL).timing is None
    other = Mapping(window=64, overlap=16, blend=16)
    with pytest.raises(BenchError, match="--overwrite"):
        map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", other)
    assert map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", other, overwrite=True).timing is not None


def test_a_map_never_replaces_its_own_scene(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 64, 64)
    before = (tmp_path / "scene.png").read_bytes()
    for out in (tmp_path, tmp_path / "scene.png"):
        with pytest.raises(BenchError, match="replace its own scene"):
            map_scene(trained, tmp_path / "scene.png", out, SMALL, overwrite=True)
    assert (tmp_path / "scene.png").read_bytes() == before


def test_a_network_of_8_bit_pictures_refuses_numbers_of_another_kind(tmp_path):
    pytest.importorskip("rasterio")
    trained = open_trained("lale-fast@world")
    raster(tmp_path / "scene.tif", np.full((3, 64, 64), 900, np.uint16))
    with pytest.raises(BenchError, match=r"scene.tif holds uint16 and .* was trained on 8-bit RGB"):
        map_scene(trained, tmp_path / "scene.tif", tmp_path / "map.tif", SMALL)


def read(path: Path) -> np.ndarray:
    import rasterio

    with unplaced(), rasterio.open(path) as file:
        return file.read()


def test_probabilities_can_be_added_to_a_map_that_is_there(tmp_path):
    pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 130, 140)
    map_scene(trained, tmp_path / "scene.png", tmp_path / "straight.tif", PROBABLE)
    map_scene(trained, tmp_path / "scene.png", tmp_path / "map.tif", SMALL)
    before = (tmp_path / "map.tif").stat().st_mtime_ns
    assert map_scene(trained, tmp_path / "scene.png", tmp_path / "map.tif", PROBABLE).timing is not None
    assert (tmp_path / "map.tif").stat().st_mtime_ns == before  # it is as wanted already
    for ending in (".tif", "-probabilities.tif"):
        np.testing.assert_array_equal(read(tmp_path / f"map{ending}"), read(tmp_path / f"straight{ending}"))


@pytest.mark.parametrize("killed", ["_write_cog", "remove"])
def test_a_run_killed_while_its_maps_are_finished_only_finishes_them(tmp_path, monkeypatch, killed):
    pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 130, 140)
    map_scene(trained, tmp_path / "scene.png", tmp_path / "straight.tif", PROBABLE)
    place = Draft if killed == "remove" else output
    real, calls = getattr(place, killed), []

    def second_is_killed(*given: object) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*given)

    def never(done: int, total: int) -> None:
        raise AssertionError("all rows were there")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(place, killed, second_is_killed)
        map_scene(trained, tmp_path / "scene.png", tmp_path / "map.tif", PROBABLE)
    assert (tmp_path / "map-probabilities.tif").exists() == (killed == "remove")
    map_scene(trained, tmp_path / "scene.png", tmp_path / "map.tif", PROBABLE, on_window=never)
    for ending in (".tif", "-probabilities.tif"):
        np.testing.assert_array_equal(read(tmp_path / f"map{ending}"), read(tmp_path / f"straight{ending}"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_goes_on_past_scenes_that_cannot_be_mapped(tmp_path, capsys):
    folder = trained_folder(tmp_path / "net")
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "a [1].png", 64, 96)
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "in" / "c.png")
    picture(tmp_path / "in" / "d.png", 64, 64)
    (tmp_path / "in" / "Thumbs.db").write_bytes(b"")
    code = run(["predict", str(folder), str(tmp_path / "in"), str(tmp_path / "out"), "--json", "--window", "64",
                "--overlap", "32", "--blend", "16"])  # fmt: skip
    said = capsys.readouterr()
    reports = {report["scene"]: report for report in json.loads(said.out)}
    assert code == 1
    assert "damaged" in reports["b.png"]["problem"]
    assert "1 bands" in reports["c.png"]["problem"] and "takes 3" in reports["c.png"]["problem"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a [1].png", "d.png"]
    assert "a [1].png" in said.err
    assert reports["d.png"]["pixels_per_s"] > 0
    assert 0 < reports["d.png"]["peak_mib"] < 1 << 20 or not Path("/proc/self/status").exists()


def test_scenes_that_would_share_a_map_are_refused_before_any_work(tmp_path, capsys):
    folder, out = trained_folder(tmp_path / "net"), tmp_path / "out"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "scene.png", 64, 64)
    assert run(["predict", str(folder), str(tmp_path / "?" / "scene.png"), str(out)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a/scene.png and" in said and "b/scene.png would share one map" in said and not out.exists()
    (tmp_path / "a" / "scene.tif").write_bytes(b"")  # a picture beside a GeoTIFF has a map of its own
    refuse_shared_maps(find_scenes(str(tmp_path / "a")))


def test_two_scenes_without_coordinates_share_a_map_whatever_their_format(tmp_path):
    picture(tmp_path / "scene.png", 64, 64)
    Image.fromarray(picture(tmp_path / "other.png", 64, 64)).save(tmp_path / "scene.tif")
    with unplaced(), pytest.raises(BenchError, match="would share one map"):
        refuse_shared_maps(find_scenes(str(tmp_path)))


def test_a_map_is_made_again_where_what_lies_behind_the_scene_or_the_network_changed(tmp_path):
    """A virtual raster keeps its size and date while its source is exchanged."""
    pytest.importorskip("rasterio")
    from rasterio.shutil import copy

    folder = trained_folder(tmp_path / "net")
    trained, pixels = open_trained(str(folder)), np.random.default_rng(1).integers(0, 256, (3, 64, 96), np.uint8)
    raster(tmp_path / "source.tif", pixels)
    copy(tmp_path / "source.tif", tmp_path / "scene.vrt", driver="VRT")
    map_scene(trained, tmp_path / "scene.vrt", tmp_path / "map.tif", SMALL)
    assert map_scene(trained, tmp_path / "scene.vrt", tmp_path / "map.tif", SMALL).timing is None
    raster(tmp_path / "source.tif", 255 - pixels, compress="deflate")
    with pytest.raises(BenchError, match="made otherwise"):
        map_scene(trained, tmp_path / "scene.vrt", tmp_path / "map.tif", SMALL)
    assert map_scene(trained, tmp_path / "scene.vrt", tmp_path / "map.tif", SMALL, overwrite=True).timing is not None
    other = replace(trained, bands=tuple(replace(band, nodata=7) for band in trained.bands))
    with pytest.raises(BenchError, match="made otherwise"):
        map_scene(other, tmp_path / "scene.vrt", tmp_path / "map.tif", SMALL)


def test_a_map_is_made_by_one_process_at_a_time(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    picture(tmp_path / "scene.png", 64, 96)
    layer = Layer(tmp_path / "map.png", 1, ("class",), trained.colours)
    other = Draft(layer, 64, 96, {})
    other.begin()
    with pytest.raises(BenchError, match=r"map\.png is being made by another process: wait"):
        map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL)
    other.close()
    assert map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", SMALL).timing is not None


def test_the_note_of_another_draft_does_not_vouch_for_rows_that_are_written_over(tmp_path):
    layer = Layer(tmp_path / "map.png", 1, ("class",), ((0, 0, 0),))
    first = Draft(layer, 8, 4, {"settings": "A"})
    first.write(np.zeros((6, 1, 4), np.uint8))
    first.save()
    first.close()
    assert Draft(layer, 8, 4, {"settings": "A"}).rows == 6
    second = Draft(layer, 8, 4, {"settings": "B"})
    second.write(np.ones((2, 1, 4), np.uint8))  # killed before it could note anything
    second.close()
    assert Draft(layer, 8, 4, {"settings": "A"}).rows == 0


def test_coordinates_without_a_crs_and_control_points_are_kept(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.control import GroundControlPoint
    from rasterio.transform import IDENTITY, from_origin

    trained = open_trained(str(trained_folder(tmp_path / "net")))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 96), np.uint8)
    with unplaced():
        raster(tmp_path / "bare.tif", pixels, crs=None, transform=from_origin(5, 9, 0.2, 0.2))
        found = map_scene(trained, tmp_path / "bare.tif", tmp_path / "out", SMALL)
        with rasterio.open(found.path) as drawn:
            assert found.path.suffix == ".tif" and drawn.crs is None
            assert drawn.transform.almost_equals(from_origin(5, 9, 0.2, 0.2))
        raster(tmp_path / "points.tif", pixels, crs=None, transform=IDENTITY)
        points = [GroundControlPoint(r, c, 30 + c / 1e3, 40 - r / 1e3) for r, c in ((0, 0), (0, 96), (64, 0), (64, 96))]
        with rasterio.open(tmp_path / "points.tif", "r+") as file:
            file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
        found = map_scene(trained, tmp_path / "points.tif", tmp_path / "out", SMALL)
        with rasterio.open(found.path) as drawn:
            kept, crs = drawn.gcps
    assert [(p.row, p.col, p.x, p.y) for p in kept] == [(p.row, p.col, p.x, p.y) for p in points] and crs == "EPSG:4326"


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_hole_in_one_band_of_signed_numbers_is_no_data(tmp_path, kind):
    """-9999 would be seen as the darkest of pixels, and reach the windows' other pixels by norms and attention."""
    rasterio = pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net", bands=4)))
    pixels = np.random.default_rng(1).uniform(1, 255, (4, 64, 96)).astype(kind)
    pixels[0, 10:20, 10:20] = -9999
    raster(tmp_path / "scene.tif", pixels, nodata=-9999)
    found = map_scene(trained, tmp_path / "scene.tif", tmp_path / "map.tif", SMALL)
    with rasterio.open(found.path) as drawn:
        assert ((drawn.read(1) == NO_DATA) == (pixels[0] == -9999)).all()


def test_transparent_colours_of_pictures_are_no_data_and_deep_ones_are_refused(tmp_path):
    grey = np.full((40, 40), 9, np.uint8)
    grey[:10] = 3
    palette = Image.fromarray(grey)
    palette.putpalette([value for value in range(256) for _ in range(3)])
    palette.save(tmp_path / "palette.png", transparency=3)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "rgb.png", transparency=(3, 3, 3))
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(grey * (grey > 3))]).save(tmp_path / "la.png")
    for name in ("palette.png", "rgb.png", "la.png"):
        with open_scene(tmp_path / name) as scene:
            assert scene.bands == 3 and (scene.valid(0, 0, 40, 40) == (grey > 3)).all()
    header = (tmp_path / "rgb.png").read_bytes()
    (tmp_path / "deep.png").write_bytes(header[:24] + b"\x10" + header[25:])
    with pytest.raises(BenchError, match=r"deep\.png"), open_scene(tmp_path / "deep.png"):
        pass


def test_int8_is_calibrated_where_there_is_data_however_little(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net", bands=4)))
    pixels = np.full((4, 640, 640), np.nan, np.float32)
    pixels[:, 40:60, 90:110] = 100
    raster(tmp_path / "scene.tif", pixels)
    with open_scene(tmp_path / "scene.tif") as scene:
        images = sample_windows(scene, trained, SMALL.tiling(scene, trained))
    assert len(images) and images.isfinite().all()


def test_small_windows_have_overlaps_that_fit(tmp_path):
    assert grid(100, 100, 32, 0, 0).side == (32, 32)
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    pixels = picture(tmp_path / "scene.png", 70, 100)
    with unplaced():
        found = map_scene(trained, tmp_path / "scene.png", tmp_path / "map.png", Mapping(window=32))
    with Image.open(found.path) as drawn:
        agree = np.asarray(drawn) == whole(trained, pixels.transpose(2, 0, 1))
    assert agree.mean() > 0.8
    with pytest.raises(BenchError, match="lie closer than 32 px"):
        grid(100, 100, 32, 16, 0)
    assert tiling(300, 300, None, (96, 96)).side == (96, 96)
    assert tiling(40, 300, (256, 256), minimum=97).side == (128, 256)


def test_a_folder_called_sample_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").mkdir()
    picture(tmp_path / "sample" / "mine.png", 40, 40)
    assert [path.name for path in find_scenes("sample")] == ["mine.png"]


def test_the_input_of_a_runtime_is_read_whatever_layout_was_asked_for(tmp_path):
    """A copy in another layout would be scored for every batch after the first."""
    pytest.importorskip("onnxruntime")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    protocol = SpeedProtocol(batch=1, runtime="onnxruntime", memory_format="channels_last")
    network = WindowNetwork(trained, (64, 64), protocol, "cpu")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    answers = [network(image[None]).clone() for image in images]
    with torch.inference_mode():
        torch.testing.assert_close(torch.cat(answers), trained.build()(images), rtol=1e-3, atol=1e-3)


def test_tiles_of_other_numbers_or_order_are_not_scored(tmp_path):
    data = open_data("terrain:size=64,train=2,val=2,test=2")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    bands = [b.name for b in data.bands]
    split = replace(data["test"], images=data["test"].images.astype(np.uint16))
    rgb = replace(trained, bands=data.bands)
    with pytest.raises(BenchError, match="holds uint16 and net was trained on 8-bit RGB"):
        require_bands(rgb, replace(data, splits={"test": split}))
    with pytest.raises(BenchError, match=f"has the bands {', '.join(bands)} and net takes {', '.join(bands[::-1])}"):
        require_bands(replace(trained, bands=data.bands[::-1]), data)
    require_bands(rgb, data)


def test_a_config_that_tells_no_classes_is_refused_in_a_sentence(tmp_path):
    folder = trained_folder(tmp_path / "net")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "classes": [{"name": "a"}]}))
    with pytest.raises(BenchError, match="describes its training otherwise than `train` does"):
        open_trained(str(folder))


def test_a_scene_with_twelve_bands_of_16_bits_is_mapped(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net", bands=12)))
    pixels = np.random.default_rng(1).integers(0, 10_000, (12, 96, 128), np.uint16)
    raster(tmp_path / "scene.tif", pixels)
    found = map_scene(trained, tmp_path / "scene.tif", tmp_path / "map.tif", SMALL)
    with rasterio.open(found.path) as drawn:
        np.testing.assert_array_equal(drawn.read(1), whole(trained, pixels))


@pytest.mark.parametrize("nodata", [None, 0])
def test_a_fourth_band_is_alpha_only_for_networks_of_three(tmp_path, nodata):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(1).integers(1, 256, (4, 64, 96), np.uint8)
    pixels[3, :10] = 0  # no mask for a network that takes it
    pixels[:, :5, :5] = 0
    raster(tmp_path / "scene.tif", pixels, nodata=nodata)
    for bands, empty in ((3, pixels[3] == 0), (4, (pixels == (0 if nodata == 0 else 256)).all(0))):
        trained = open_trained(str(trained_folder(tmp_path / f"net{bands}", bands)))
        found = map_scene(trained, tmp_path / "scene.tif", tmp_path / f"map{bands}.tif", SMALL)
        with rasterio.open(found.path) as drawn:
            classes = drawn.read(1)
        np.testing.assert_array_equal(classes == NO_DATA, empty)
        np.testing.assert_array_equal(classes[~empty], whole(trained, pixels[:bands])[~empty])


@pytest.mark.parametrize(("crs", "north", "area"), [("EPSG:3857", 8_399_737.9, 0.25), ("EPSG:32640", 6_650_000, 1)])
def test_the_metres_of_web_mercator_are_not_those_of_the_ground(tmp_path, crs, north, area):
    """At 60 degrees north a side of one metre is half a metre long."""
    pytest.importorskip("rasterio")
    from rasterio.transform import from_origin

    raster(tmp_path / "scene.tif", np.zeros((3, 20, 10), np.uint8), crs=crs, transform=from_origin(0, north + 10, 1, 1))
    with open_scene(tmp_path / "scene.tif") as scene:
        assert scene.place.pixel_area(20, 10) == pytest.approx(area, rel=1e-6)


def declared(folder: Path, nodata: float) -> Path:
    """The network of a folder, trained on bands of which the class table names the no-data value."""
    about = json.loads((folder / "config.json").read_text())
    about["bands"] = [band | {"nodata": nodata} for band in about["bands"]]
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("dtype", "hole", "tag"),
    [
        ("float32", np.nan, None),
        ("float32", np.inf, None),
        ("float64", 1e300, None),  # infinite in float32, in which networks count
        ("float32", -9999.9, None),
        ("int16", -9999, None),
        ("uint16", 9, None),
        ("float32", -7, -7),
    ],
)
def test_where_a_scene_holds_no_data_the_network_sees_the_mean_of_the_rest(tmp_path, dtype, hole, tag):
    rasterio = pytest.importorskip("rasterio")
    folder = trained_folder(tmp_path / "net")
    trained = open_trained(str(declared(folder, hole) if np.isfinite(hole) and tag is None else folder))
    pixels = np.random.default_rng(1).integers(20, 256, (3, 64, 64)).astype(dtype)
    pixels[:, 10:30, 20:50] = hole
    raster(tmp_path / "scene.tif", pixels, nodata=tag)
    map_scene(trained, tmp_path / "scene.tif", tmp_path / "map.tif", SMALL)
    with rasterio.open(tmp_path / "map.tif") as drawn:
        classes = drawn.read(1)
    empty = np.zeros((64, 64), bool)
    empty[10:30, 20:50] = True
    np.testing.assert_array_equal(classes == NO_DATA, empty)
    shown = pixels if dtype == "uint16" else np.where(empty, 0, pixels).astype(np.float32)
    shown[:, empty] = pixels[:, ~empty].mean(1, dtype=np.float64)[:, None]
    np.testing.assert_array_equal(classes[~empty], whole(trained, shown)[~empty])


def test_one_band_without_data_is_enough_in_floats_and_not_in_whole_numbers(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    trained = open_trained(str(declared(trained_folder(tmp_path / "net"), 0)))
    pixels = np.random.default_rng(1).integers(1, 256, (3, 64, 96), np.uint8)
    pixels[1, 5, 7] = 0
    for dtype, empty in (("uint8", 0), ("float32", 1)):
        raster(tmp_path / f"{dtype}.tif", pixels.astype(dtype))
        found = map_scene(trained, tmp_path / f"{dtype}.tif", tmp_path / f"map-{dtype}.tif", SMALL)
        with rasterio.open(found.path) as drawn:
            assert (drawn.read(1) == NO_DATA).sum() == empty


def test_windows_for_calibration_are_finite_and_none_is_empty(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 64, 256)).astype(np.float32)
    pixels[:, :, :130] = np.nan
    raster(tmp_path / "scene.tif", pixels)
    with open_scene(tmp_path / "scene.tif") as scene:
        tiling = SMALL.tiling(scene, trained)
        images = sample_windows(scene, trained, tiling)
    assert len(images) < len(tiling) and images.isfinite().all()
    raster(tmp_path / "empty.tif", np.full((3, 64, 256), np.nan, np.float32))
    with open_scene(tmp_path / "empty.tif") as scene, pytest.raises(BenchError, match="no data to calibrate int8 on"):
        sample_windows(scene, trained, tiling)


def test_a_map_is_no_jpeg(tmp_path, capsys):
    picture(tmp_path / "scene.png", 40, 40)
    assert run(["predict", str(trained_folder(tmp_path / "net")), str(tmp_path / "scene.png"), "map.jpg"]) == 1
    assert "a map is a .tif or a .png file, and map.jpg is neither" in capsys.readouterr().err


def test_exif_turns_are_made_and_transparency_is_no_data(tmp_path):
    turned = Image.fromarray(np.zeros((20, 40, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    with open_scene(tmp_path / "turned.jpg") as scene:
        assert (scene.height, scene.width, scene.bands) == (40, 20, 3)
    clear = np.zeros((20, 40, 4), np.uint8)
    clear[:, 10:, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    with open_scene(tmp_path / "clear.png") as scene:
        assert scene.bands == 3
        np.testing.assert_array_equal(scene.valid(0, 0, 20, 40), clear[:, :, 3] > 0)
    with open_scene(tmp_path / "clear.png", bands=4) as scene:
        assert scene.bands == 4 and scene.valid(0, 0, 20, 40).all()


@pytest.mark.parametrize("classes", [2, 4, 16, 17, 255])
def test_a_png_map_reads_255_and_is_transparent_where_there_is_no_data(tmp_path, classes):
    colours = tuple((k, 10, 20) for k in range(classes))
    draft = Draft(Layer(tmp_path / "map.png", 1, ("class",), colours), 2, 3, {})
    drawn = np.array([[0, classes - 1, NO_DATA], [NO_DATA, 0, 1]], np.uint8)
    draft.write(drawn[:, None])
    draft.save()
    draft.finish(Georeference())
    draft.close()
    with Image.open(tmp_path / "map.png") as image:
        np.testing.assert_array_equal(np.asarray(image), drawn)
        seen = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(seen[..., 3] == 0, drawn == NO_DATA)
    assert tuple(seen[0, 1, :3]) == colours[-1]


def test_what_is_no_scene_or_no_network_is_said_in_a_sentence(tmp_path):
    with pytest.raises(BenchError, match="there is no scene"):
        find_scenes(str(tmp_path / "nothing*.tif"))
    with pytest.raises(BenchError, match="no trained network"):
        open_trained(str(tmp_path))
    folder = trained_folder(tmp_path / "net")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BenchError, match="no weights"):
        open_trained(str(folder))


def test_the_sample_scene_has_its_place(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    found = map_scene(trained, Path("sample"), tmp_path / "map.tif", Mapping(window=256))
    with rasterio.open(found.path) as drawn:
        row, column = drawn.index(12.5, 41.9)  # Rome
        assert 0 <= row < drawn.height and 0 <= column < drawn.width
        assert drawn.crs.to_epsg() == 4326


def label_by_fp32(trained, split: Path) -> None:
    """Make the truth what the network itself says of each tile."""
    for path in sorted((split / "images").iterdir()):
        pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)
        Image.fromarray(whole(trained, pixels).astype(np.uint8)).save(split / "masks" / path.name)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_calibrated_and_scored_beside_fp32(runtime, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("nncf") if runtime == "openvino" else None
    folder, tiles = trained_folder(tmp_path / "net"), tiles_folder(tmp_path / "tiles", ["c0", "c1", "c2", "c3"])
    label_by_fp32(open_trained(str(folder)), tiles / "test")
    asked = ["evaluate", str(folder), "--data", str(tiles), "--runtime", runtime, "--precision", "int8", "--batch", "2"]
    assert run([*asked, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["macro_f1"] > 0.8  # of what fp32 says of the same images
    assert report["points_against_fp32"] == pytest.approx(100 * (report["macro_f1"] - 1), abs=1e-6)
    assert (report["verdict_against_fp32"] == "equivalent") == (abs(report["points_against_fp32"]) <= 1)
    picture(tmp_path / "scene.png", 96, 96)
    how = Mapping(window=64, overlap=32, blend=16, runtime=runtime, precision="int8")
    trained = open_trained(str(folder))
    exact = map_scene(trained, tmp_path / "scene.png", tmp_path / "fp32.png", SMALL)
    rough = map_scene(trained, tmp_path / "scene.png", tmp_path / "int8.png", how)
    same = np.asarray(Image.open(exact.path)) == np.asarray(Image.open(rough.path))
    assert 0.8 < same.mean() < 1


def tiles_folder(root: Path, names: list[str]) -> Path:
    rng = np.random.default_rng(3)
    for split in ("train", "val", "test"):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / split / "images" / f"{i}.png")
            mask = rng.integers(0, len(names), (64, 64), np.uint8)
            mask[:8] = 255
            Image.fromarray(mask).save(root / split / "masks" / f"{i}.png")
    rows = [{"index": k, "name": name, "rgb": [40 * k, 0, 0]} for k, name in enumerate(names)]
    (root / "classes.json").write_text(json.dumps({"dataset": "tiny", "ignore_index": 255, "classes": rows}))
    return root


def test_evaluation_counts_the_pixels_that_the_network_sees(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    data = open_data(tiles_folder(tmp_path / "tiles", ["c0", "c1", "c2", "c3"]))
    found = evaluate_trained(trained, data, SpeedProtocol(batch=3))
    images, masks = data["test"].images.transpose(0, 3, 1, 2), data["test"].masks
    with torch.inference_mode():
        shares = trained.build()(trained.scaled(images)).softmax(1).double()
    drawn, valid = shares.argmax(1).numpy(), masks != 255
    wanted = np.zeros((4, 4, 4), np.int64)
    np.add.at(wanted, (np.nonzero(valid)[0], masks[valid], drawn[valid]), 1)
    np.testing.assert_array_equal(found.confusions, wanted)
    confidence, right = shares.max(1).values.numpy()[valid], (drawn == masks)[valid]
    inside = [np.floor(np.minimum(confidence * 15, 14)) == b for b in range(15)]
    error = sum(abs(confidence[b].sum() - right[b].sum()) for b in inside) / valid.sum()
    assert found.reliability.error == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_gpu_rounds_products_to_tf32_only_where_that_is_asked_for(precision, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default, for convolutions alone
    monkeypatch.setattr("bench.speed.runtimes.refuse_missing", lambda protocol, device: None)  # that it is no GPU
    trained, seen = open_trained(str(trained_folder(tmp_path / "net"))), []

    def note(module, images):
        seen.append({torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32})

    model = trained.build()
    model.register_forward_pre_hook(note)
    network = WindowNetwork(trained, (32, 32), SpeedProtocol(batch=2, precision=precision), "cpu", model=model)
    network(torch.zeros(2, 3, 32, 32))
    assert seen == [{False}, {precision == "tf32"}, {precision == "tf32"}]  # the measure, the check, the batch
    assert torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_evaluation_maps_classes_and_refuses_what_does_not_fit(tmp_path):
    trained = open_trained(str(trained_folder(tmp_path / "net")))
    data = open_data(tiles_folder(tmp_path / "tiles", ["other", "c1"]))
    with pytest.raises(BenchError, match="--map"):
        evaluate_trained(trained, data, SpeedProtocol(batch=4))
    with pytest.raises(BenchError, match="no class 'c9'"):
        evaluate_trained(trained, data, SpeedProtocol(batch=4), renamed={"c9": "c1"})
    names = {"c0": "other", "c2": "other", "c3": "other"}
    found = evaluate_trained(trained, data, SpeedProtocol(batch=4), renamed=names)
    assert found.confusions.shape == (4, 2, 2)
    wide = open_trained(str(trained_folder(tmp_path / "wide", bands=4)))
    with pytest.raises(BenchError, match="3 bands"):
        evaluate_trained(wide, data, SpeedProtocol(batch=4))


def test_evaluate_says_what_it_found(tmp_path, capsys):
    folder, tiles = trained_folder(tmp_path / "net"), tiles_folder(tmp_path / "tiles", ["c0", "c1", "c2", "c3"])
    assert run(["evaluate", str(folder), "--data", str(tiles), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 < report["macro_f1_interval"][0] < report["macro_f1"] < report["macro_f1_interval"][1] < 1
    assert not report["scenes_known"]
    assert run(["evaluate", str(folder), "--data", str(tiles)]) == 0
    assert "whose scenes are not known" in capsys.readouterr().out


def measured(capsys, *options: str) -> dict[str, dict]:
    command = ["measure", *options, "--size", "32", "--batch", "1", "--threads", "1", "--device", "cpu", "--json"]
    assert run(command) == 0
    return {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


def test_measure_shows_accuracy_beside_a_lower_precision(tmp_path, capsys):
    folder, tiles = str(trained_folder(tmp_path / "net")), str(tiles_folder(tmp_path / "t", ["c0", "c1", "c2", "c3"]))
    label_by_fp32(open_trained(folder), tmp_path / "t" / "test")
    bare = str(archs.save_config(NearConfig(), tmp_path / "bare.json"))
    rows = measured(capsys, folder, bare, "--data", tiles, "--precision", "bf16", "--delta", "5")
    assert rows[folder]["fp32_f1"] == 1
    assert 0.9 < rows[folder]["precision_f1"] < 1
    assert rows[folder]["precision_verdict"] == "equivalent"
    assert rows["bare"]["precision_verdict"] == "no trained weights"
    assert rows["bare"]["throughput"] > 0
    strange = str(tiles_folder(tmp_path / "strange", ["x", "y"]))
    rows = measured(capsys, folder, "--data", strange, "--precision", "bf16")
    assert rows[folder]["precision_verdict"].startswith(f"not scored: {open_data(strange).name} has no class 'c0'")
    assert "precision_verdict" not in measured(capsys, folder)[folder]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_measure_times_int8_against_a_roofline_of_bytes(runtime, tmp_path, capsys):
    pytest.importorskip("nncf")
    folder, tiles = str(trained_folder(tmp_path / "net")), str(tiles_folder(tmp_path / "t", ["c0", "c1", "c2", "c3"]))
    label_by_fp32(open_trained(folder), tmp_path / "t" / "test")
    row = measured(capsys, folder, "--data", tiles, "--precision", "int8", "--runtime", runtime)[folder]
    assert 0.8 < row["precision_f1"] < 1 == row["fp32_f1"]
    assert row["precision_verdict"] == ("equivalent" if row["precision_f1"] >= 0.99 else "worse")
    speed = row["speed_batch_1"]
    assert 0 < speed["ceiling_share_low"] <= MARGIN
    assert any("of bytes" in kernel for kernel in speed["ceilings"]["macs_per_second"]["int8"])
    assert speed["compulsory_bytes"] == row["params"] + 32 * 32 * (3 + 4)


def test_calibration_images_are_training_tiles_put_together_and_cut(tmp_path):
    data = open_data(tiles_folder(tmp_path, ["c0", "c1"]))
    tiles = torch.from_numpy(scaled(data["train"].images.transpose(0, 3, 1, 2), data.bands))
    torch.testing.assert_close(calibration_images(data, data.bands), tiles, rtol=0, atol=0)
    (wide,) = calibration_images(data, data.bands, (100, 128))
    torch.testing.assert_close(wide[:, :64, :64], tiles[0], rtol=0, atol=0)
    torch.testing.assert_close(wide[:, 64:, 64:], tiles[3][:, :36], rtol=0, atol=0)
    assert calibration_images(data, data.bands, (32, 48)).shape == (4, 3, 32, 48)
    assert [len(batch) for batch in calibration_batches(tiles, 6)] == [6]
    with pytest.raises(BenchError, match="the network takes 2"):
        calibration_images(data, data.bands[:2])
    with pytest.raises(BenchError, match="none were given"):
        calibration_batches(None, 1)


def test_a_published_network_loads_as_its_card_says(tmp_path, monkeypatch):
    folder, tiles = trained_folder(tmp_path / "net"), tiles_folder(tmp_path / "tiles", ["c0", "c1", "c2", "c3"])
    wanted_state = open_trained(str(folder)).build().state_dict()
    assert run(["publish", str(folder), str(tmp_path / "near@tiny"), "--data", str(tiles)]) == 0
    assert run(["publish", str(folder), str(folder), "--data", str(tiles)]) == 1  # its own weights would be halved
    torch.testing.assert_close(open_trained(str(folder)).build().state_dict(), wanted_state)
    card = (tmp_path / "near@tiny" / "README.md").read_text(encoding="utf-8")
    assert "macro F1" in card and "| c3 |" in card and "Not good at" in card
    assert "Licence of the weights: not named" in card
    monkeypatch.chdir(tmp_path)
    found: dict = {"image": torch.zeros(1, 3, 32, 32)}
    exec(compile(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], "card", "exec"), found)
    with torch.inference_mode():
        wanted = open_trained(str(folder)).build()(found["image"])
    torch.testing.assert_close(found["logits"], wanted, atol=2e-3, rtol=0)  # half precision of the weights


def test_what_cannot_be_scored_is_not_published(tmp_path, capsys):
    folder, strange = trained_folder(tmp_path / "net"), tiles_folder(tmp_path / "tiles", ["x", "y"])
    assert run(["publish", str(folder), str(tmp_path / "out"), "--data", str(strange)]) == 1
    assert run(["publish", str(folder), str(tmp_path / "out")]) == 1
    assert "give --data" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_card_names_the_licence_and_the_code_that_a_network_needs(tmp_path, monkeypatch):
    folder, tiles = trained_folder(tmp_path / "net"), tiles_folder(tmp_path / "tiles", ["c0", "c1", "c2", "c3"])
    command = ["publish", str(folder), str(tmp_path / "out"), "--data", str(tiles), "--license", "CC BY 4.0"]
    assert run(command) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Licence of the weights: CC BY 4.0" in card
    assert "Needs the Python file that registers the family near," in card
    monkeypatch.setattr("bench.scenes.card.is_ours", lambda config: True)
    assert run(command) == 0
    assert "Needs the Python file" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


MEASURED = """
import re, sys
from pathlib import Path
from bench.scenes.mapping import Mapping, map_scene
from bench.training.trained import committed, open_trained
map_scene(open_trained(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Mapping(runtime=sys.argv[4]))
status = Path("/proc/self/status").read_text()  # getrusage would tell the peak of the process that started this one
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("runtime", ["eager", "openvino"])
def test_a_scene_20000_px_wide_is_mapped_within_a_gib_torch_included(runtime, tmp_path):
    pytest.importorskip("openvino") if runtime == "openvino" else None
    rasterio = pytest.importorskip("rasterio")
    config, folder = archs.config("lale-s1"), tmp_path / "net"
    folder.mkdir()
    save_weights(archs.build(config, 7, 3), folder / "weights.safetensors")
    archs.save_config(config, folder / "config.json", num_classes=7)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 100, 20_000), np.uint8)
    raster(tmp_path / "scene.tif", np.repeat(pixels, 12, axis=1))
    code = [sys.executable, "-c", MEASURED, str(folder), str(tmp_path / "scene.tif")]
    done = subprocess.run([*code, str(tmp_path / "map.tif"), runtime], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000
    with rasterio.open(tmp_path / "map.tif") as drawn:
        assert drawn.shape == (1200, 20_000)


@pytest.mark.slow
def test_what_stands_in_the_way_of_an_export_in_another_process_is_said(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "net"
    folder.mkdir()
    config = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
    save_weights(archs.build(config, 4, 3), folder / "weights.safetensors")
    archs.save_config(config, folder / "config.json", num_classes=5)
    with pytest.raises(BenchError, match=r"weights\.safetensors"):
        export_apart(open_trained(str(folder)), "deployed", (32, 32), 1)


@pytest.mark.parametrize("name", committed())
def test_what_is_committed_maps_the_sample_scene_and_has_its_card(name, tmp_path):
    trained, folder = open_trained(name), committed()[name]
    assert trained.weights.stat().st_size < 4 << 20
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"# {name}" in card and f"trained on {trained.trained_on}" in card
    pytest.importorskip("rasterio")
    found = map_scene(trained, Path("sample"), tmp_path / "map.tif", Mapping())
    assert found.size == (768, 1024)
