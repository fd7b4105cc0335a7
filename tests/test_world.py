"""`world`: the embedded map, cut into scenes of which each is in one split, every class spread over the splits."""

import re

import numpy as np
import pytest
from PIL import Image

from bench.data import open_data
from bench.data.dataset import SPLITS
from bench.data.world import world_scenes
from bench.data.world.blocks import FOLDER, SCENE, SIDES
from bench.errors import BenchError


@pytest.fixture(scope="module")
def data():
    return open_data("world")


@pytest.fixture(scope="module")
def scene_pixels():
    """The class indices of a whole scene, read from the file without the code under test."""
    with Image.open(FOLDER / "labels.png") as file:
        labels = np.asarray(file)

    def pixels(scene):
        x, y = map(int, re.findall(r"\d+", scene.name))
        return labels[y : y + SCENE, x : x + SCENE]

    return pixels


class TestCut:
    def test_there_are_82_scenes_and_287_tiles(self, data):
        scenes = world_scenes()
        assert len(scenes) == 82 and sum(len(scene.tiles) for scene in scenes) == 287
        assert sum(len(split) for split in data.splits.values()) == 287

    def test_scenes_hold_land_and_do_not_overlap(self, scene_pixels):
        corners = {tuple(map(int, re.findall(r"\d+", scene.name))) for scene in world_scenes()}
        assert all((x - 12) % SCENE == 0 and y % SCENE == 0 and 12 <= x < 5400 - SCENE for x, y in corners)
        assert len(corners) == 82 and max(y for _, y in corners) < 2304
        assert all(np.mean(scene_pixels(scene) != 0) >= 0.15 for scene in world_scenes())

    def test_rare_classes_stand_in_as_many_scenes_as_was_counted(self, scene_pixels):
        held = np.array([np.bincount(scene_pixels(scene).ravel(), minlength=10) >= 100 for scene in world_scenes()])
        wetland, urban, snow = held.sum(0)[[5, 7, 8]]
        assert (wetland, urban, snow) == (39, 30, 20)

    def test_a_tile_is_a_window_of_the_map(self, data):
        with Image.open(FOLDER / "image.jpg") as image, Image.open(FOLDER / "labels.png") as labels:
            for split in data.splits.values():
                left, top = map(int, re.findall(r"\d+", split.tiles[3]))
                window = left, top, left + 128, top + 128
                np.testing.assert_array_equal(split.images[3], np.asarray(image.crop(window)))
                np.testing.assert_array_equal(split.masks[3], np.asarray(labels.crop(window)))

    def test_tiles_know_their_scene_and_captions_the_credit(self, data):
        told = {scene.name: set(scene.tiles) for scene in world_scenes()}
        for split in data.splits.values():
            for tile, scene in zip(split.tiles, split.scenes, strict=True):
                assert tuple(map(int, re.findall(r"\d+", tile))) in told[scene]
        assert data.scenes_known and data.scope.endswith("other blocks of this map.")
        assert "NASA Earth Observatory" in data.credit and "MCD12C1" in data.credit

    def test_a_pixel_is_a_fifteenth_of_a_degree(self, data):
        assert data.gsd_m * 15 * 360 == pytest.approx(40_030e3, rel=1e-3)
        scenes = [set(split.scenes) for split in data.splits.values()]
        assert not (scenes[0] & scenes[1] or scenes[0] & scenes[2] or scenes[1] & scenes[2])

    def test_every_tile_has_land_and_known_classes(self, data):
        masks = np.concatenate([split.masks for split in data.splits.values()])
        assert (np.mean(masks != 0, axis=(1, 2)) >= 0.05).all() and masks.max() < data.classes.num_classes == 10

    @pytest.mark.parametrize("side", SIDES)
    def test_any_side_that_divides_a_scene_leaves_each_scene_in_its_split(self, side):
        opened = open_data(f"world:tile={side}")
        assert opened.tile_size == (side, side)
        assert [(s.name, s.split) for s in world_scenes(side)] == [(s.name, s.split) for s in world_scenes()]

    def test_only_the_splits_asked_for_are_read_and_they_are_the_same(self, data):
        alone = open_data("world", splits=("test",))
        assert list(alone.splits) == ["test"] and alone["test"].digest == data["test"].digest

    def test_it_is_the_default_and_the_same_on_every_call(self, data):
        from bench.cli.options import DEFAULT_DATA

        assert open_data(DEFAULT_DATA).fingerprint == data.fingerprint

    @pytest.mark.parametrize("source", ["world:size=64", "world:tile=100", "world:tile=x", "world:tile=64,seed=1"])
    def test_other_options_are_refused_in_a_sentence(self, source):
        with pytest.raises(BenchError, match=source) as caught:
            open_data(source)
        assert "\n" not in str(caught.value)

    def test_another_split_is_refused(self):
        with pytest.raises(BenchError, match="no split synth; it has train, val and test"):
            open_data("world", ("train", "synth"))


class TestSplit:
    def test_scenes_are_shared_out_as_60_20_20(self):
        splits = [scene.split for scene in world_scenes()]
        assert [splits.count(split) for split in SPLITS] == pytest.approx([49.2, 16.4, 16.4], abs=2)

    def test_every_class_is_spread_within_a_tenth_of_its_share(self, scene_pixels):
        scenes = world_scenes()
        amounts = np.array([np.bincount(scene_pixels(scene).ravel(), minlength=10) for scene in scenes])
        for split, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
            mine = amounts[[scene.split == split for scene in scenes]].sum(0) / amounts.sum(0)
            np.testing.assert_allclose(mine, share, rtol=0.1)

    def test_every_class_can_be_scored_in_every_split(self, data):
        for split in data.splits.values():
            assert (np.bincount(split.masks.ravel(), minlength=10) >= 100).all()

    def test_the_split_is_the_published_one(self):
        """Scores on `world` can only be compared while its test scenes stay the same."""
        test = [scene.name for scene in world_scenes() if scene.split == "test"]
        assert " ".join(test) == (
            "x2316_y0000 x1804_y0256 x3852_y0256 x4364_y0256 x3084_y0512 x3596_y0512 x4108_y0512 x4620_y0512 "
            "x0780_y0768 x1036_y0768 x2316_y0768 x3084_y0768 x2828_y1280 x4108_y1280 x1548_y1792 x4364_y1792"
        )
