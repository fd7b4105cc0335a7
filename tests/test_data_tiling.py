"""Cutting large images into a data set, and looking a data set over."""

import csv
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import ARAS400K_CLASSES, Classes, open_data
from bench.data.check import check_folder
from bench.data.tiling import assign_splits, tile_folder
from bench.errors import BenchError

CLASSES = Classes(("Land", "Sea"), ((200, 180, 90), (0, 0, 255)))
SIZES = {"north": (40, 33), "south": (32, 48), "east": (17, 16), "west": (32, 32)}


def scene(name, size):
    rng = np.random.default_rng(sum(name.encode()))
    return rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 2, size, np.uint8)


@pytest.fixture
def sources(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "large" / kind).mkdir(parents=True)
    for name, size in SIZES.items():
        image, mask = scene(name, size)
        Image.fromarray(image).save(tmp_path / "large" / "images" / f"{name}.tif")
        Image.fromarray(mask).save(tmp_path / "large" / "masks" / f"{name}.png")
    return tmp_path / "large"


def cut(sources, out, **options):
    options = {"size": 16, "split": (0.5, 0.25, 0.25), "classes": CLASSES, **options}
    return tile_folder(sources / "images", sources / "masks", out, **options)


def rows_of(out):
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def refusal(*args, **options):
    with pytest.raises(BenchError) as caught:
        cut(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestTiling:
    @pytest.mark.parametrize("overlap", [0, 6])
    def test_tiles_are_windows_of_their_sources(self, sources, tmp_path, overlap):
        cut(sources, tmp_path / "out", overlap=overlap)
        data, rows = open_data(tmp_path / "out"), rows_of(tmp_path / "out")
        assert data.classes == CLASSES and data.name == "out" and data.tile_size == (16, 16)
        assert len(rows) == sum(map(len, data.splits.values()))
        for row in rows:
            part = data[row["split"]]
            index, (x, y) = part.tiles.index(row["name"]), (int(row["x"]), int(row["y"]))
            image, mask = scene(row["source_image"], SIZES[row["source_image"]])
            assert np.array_equal(part.images[index], image[y : y + 16, x : x + 16])
            assert np.array_equal(part.masks[index], mask[y : y + 16, x : x + 16])

    def test_every_whole_tile_is_cut_once(self, sources, tmp_path):
        done = cut(sources, tmp_path / "out")
        assert sum(done.tiles.values()) == 2 * 2 + 2 * 3 + 1 + 2 * 2
        pixels = sum(h * w for h, w in SIZES.values())
        assert done.uncovered == pytest.approx(1 - 15 * 256 / pixels)
        assert json.loads(json.dumps(done.to_dict()))["sources"] == {"train": 2, "val": 1, "test": 1}

    def test_no_source_image_is_in_two_splits(self, sources, tmp_path):
        cut(sources, tmp_path / "out")
        splits = {}
        for row in rows_of(tmp_path / "out"):
            splits.setdefault(row["source_image"], set()).add(row["split"])
        assert set(splits) == set(SIZES) and all(len(where) == 1 for where in splits.values())

    def test_the_seed_alone_decides(self, sources, tmp_path):
        for name in "ab":
            cut(sources, tmp_path / name)
        assert open_data(tmp_path / "a").fingerprint == open_data(tmp_path / "b").fingerprint
        places = {tuple(assign_splits(list(SIZES), (0.5, 0.25, 0.25), seed).items()) for seed in range(20)}
        assert len(places) > 1

    def test_colour_masks_are_read_by_the_built_in_table(self, sources, tmp_path):
        for name, size in SIZES.items():
            path = sources / "masks" / f"{name}.png"
            Image.fromarray(ARAS400K_CLASSES.palette[scene(name, size)[1]]).save(path)
        cut(sources, tmp_path / "out", classes=None)
        data = open_data(tmp_path / "out")
        assert data.classes == ARAS400K_CLASSES
        assert set(np.unique(data["train"].masks)) == {0, 1}

    def test_a_class_table_beside_the_masks_is_used(self, sources, tmp_path):
        (sources / "classes.json").write_text(json.dumps(CLASSES.to_dict()))
        cut(sources, tmp_path / "out", classes=None)
        assert open_data(tmp_path / "out").classes == CLASSES

    def test_mostly_ignored_tiles_are_left_out(self, sources, tmp_path):
        mask = scene("north", SIZES["north"])[1]
        mask[:16, :16] = 255
        mask[16:24, :16] = 255  # half of the next tile: still in
        Image.fromarray(mask).save(sources / "masks" / "north.png")
        done = cut(sources, tmp_path / "out")
        assert done.left_out == 1
        assert {(r["x"], r["y"]) for r in rows_of(tmp_path / "out") if r["source_image"] == "north"} == {
            ("16", "0"), ("0", "16"), ("16", "16"),
        }  # fmt: skip

    def test_progress_tells_of_every_source(self, sources, tmp_path):
        seen = []
        cut(sources, tmp_path / "out", progress=lambda done, total, what: seen.append((done, total, what)))
        assert seen == [(i, 4, "cutting out") for i in range(1, 5)]


class TestTilingRefusals:
    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path):
        yield
        left = {path.name for path in tmp_path.iterdir()} - {"large", "kept"}
        assert not left

    def test_a_folder_that_holds_something_is_never_overwritten(self, sources, tmp_path):
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "thesis.txt").write_text("mine")
        assert str(tmp_path / "kept") in refusal(sources, tmp_path / "kept")
        assert [p.name for p in (tmp_path / "kept").iterdir()] == ["thesis.txt"]

    def test_an_empty_folder_is_filled(self, sources, tmp_path):
        (tmp_path / "kept").mkdir()
        cut(sources, tmp_path / "kept")
        assert len(open_data(tmp_path / "kept")["train"]) > 0

    def test_a_corrupt_mask_midway(self, sources, tmp_path):
        (sources / "masks" / "west.png").write_bytes(b"")
        assert str(sources / "masks" / "west.png") in refusal(sources, tmp_path / "out")

    def test_a_value_beyond_the_classes(self, sources, tmp_path):
        Image.fromarray(np.full(SIZES["west"], 2, np.uint8)).save(sources / "masks" / "west.png")
        text = refusal(sources, tmp_path / "out")
        assert str(sources / "masks" / "west.png") in text and "the value 2" in text

    def test_indices_without_a_class_table(self, sources, tmp_path):
        assert "classes.json" in refusal(sources, tmp_path / "out", classes=None)

    def test_a_disk_that_takes_no_more(self, sources, tmp_path):
        resource = pytest.importorskip("resource", reason="limits on files are set through the resource module")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))  # a tile's image takes more
        try:
            text = refusal(sources, tmp_path / "out")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert str(tmp_path / "out") in text and "nothing was kept" in text

    def test_an_interruption(self, sources, tmp_path):
        def stop(done, total, what):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cut(sources, tmp_path / "out", progress=stop)

    def test_an_image_without_a_mask(self, sources, tmp_path):
        (sources / "masks" / "east.png").unlink()
        assert "east.tif" in refusal(sources, tmp_path / "out")

    def test_an_image_smaller_than_a_tile(self, sources, tmp_path):
        text = refusal(sources, tmp_path / "out", size=20)
        assert str(sources / "images" / "east.tif") in text and "16x17" in text

    def test_more_splits_than_images(self, sources, tmp_path):
        for name in ("north", "south"):
            for path in sources.rglob(f"{name}.*"):
                path.unlink()
        assert "2 source images or scenes for 3 splits" in refusal(sources, tmp_path / "out")

    def test_a_split_whose_tiles_are_all_ignored(self, sources, tmp_path):
        for name, size in SIZES.items():
            Image.fromarray(np.full(size, 255, np.uint8)).save(sources / "masks" / f"{name}.png")
        assert "train would be empty" in refusal(sources, tmp_path / "out")

    @pytest.mark.parametrize(
        "options", [{"size": 0}, {"overlap": 16}, {"split": (0.5, 0.1, 0.1)}, {"max_ignored": 1.5}]
    )
    def test_options_that_cannot_be(self, sources, tmp_path, options):
        assert str(next(iter(options.values()))) in refusal(sources, tmp_path / "out", **options)


@settings(max_examples=80, deadline=None)
@given(count=st.integers(3, 60), train=st.integers(0, 20), val=st.integers(0, 20), seed=st.integers(0, 99))
def test_splits_have_their_shares_and_none_is_empty(count, train, val, seed):
    test = 1 + train % 3
    shares = [part / (train + val + test) for part in (train, val, test)]
    names = [f"i{n}" for n in range(count)]
    where = assign_splits(names, shares, seed)
    assert sorted(where) == sorted(names)
    for split, share in zip(("train", "val", "test"), shares, strict=True):
        got = list(where.values()).count(split)
        assert (got == 0) == (share == 0)
        assert abs(got - share * count) <= 2
    assert assign_splits(names[::-1], shares, seed) == where


class TestCheck:
    @pytest.fixture
    def folder(self, sources, tmp_path):
        cut(sources, tmp_path / "out", seed=7)
        return tmp_path / "out"

    @staticmethod
    def found(folder):
        return {(p.severity, p.kind): p.text for p in check_folder(folder).problems}

    @staticmethod
    def tile(folder, split, index=0):
        return sorted((folder / split / "images").iterdir())[index].stem

    def test_a_sound_folder(self, folder):
        report = check_folder(folder)
        assert report.ok and not report.problems and report.size == (16, 16)
        data = open_data(folder)
        for row in report.rows:
            masks = data[row["split"]].masks
            assert row["tiles"] == len(masks) and row["ignored"] == 0
            assert row["Sea"] == pytest.approx(np.mean(masks == 1))
            assert row["Land"] == pytest.approx(np.mean(masks == 0))
        assert json.loads(json.dumps(report.to_dict()))["ok"] is True

    def test_equal_tiles_in_two_splits_are_a_leak_also_when_recompressed(self, folder):
        train, test = self.tile(folder, "train"), self.tile(folder, "test")
        with Image.open(folder / "train" / "images" / f"{train}.png") as image:
            image.save(folder / "test" / "images" / f"{test}.png", compress_level=0)
        text = self.found(folder)["error", "leak"]
        assert f"train/{train}" in text and f"test/{test}" in text
        assert not check_folder(folder).ok

    def test_equal_tiles_without_a_label_are_no_leak(self, folder):
        blank = {"images": np.zeros((16, 16, 3), np.uint8), "masks": np.full((16, 16), 255, np.uint8)}
        for split in ("train", "val", "test"):
            for kind, pixels in blank.items():
                Image.fromarray(pixels).save(folder / split / kind / f"{self.tile(folder, split)}.png")
        assert check_folder(folder).ok
        assert {kind for _, kind in self.found(folder)} == {"empty"}

    def test_tiles_of_one_source_in_two_splits_are_a_leak(self, folder):
        name = self.tile(folder, "train", -1)
        for kind in ("images", "masks"):
            source = folder / "train" / kind / f"{name}.png"
            source.rename(folder / "val" / kind / source.name)
        text = self.found(folder)["error", "leak"]
        assert f"The source image {name.split('_')[0]} " in text and f"val/{name}" in text

    def test_everything_is_collected(self, folder):
        names = [self.tile(folder, "train", i) for i in range(5)]
        images, masks = folder / "train" / "images", folder / "train" / "masks"
        (images / f"{names[0]}.png").write_bytes(b"broken")
        (masks / f"{names[1]}.png").unlink()
        Image.fromarray(np.full((16, 16), 9, np.uint8)).save(masks / f"{names[2]}.png")
        Image.fromarray(np.full((16, 16), 255, np.uint8)).save(masks / f"{names[3]}.png")
        shutil.copy(images / f"{names[3]}.png", images / f"{names[4]}.png")
        shutil.rmtree(folder / "test")
        report = check_folder(folder)
        texts = " ".join(problem.text for problem in report.problems)
        assert not report.ok
        assert {p.kind for p in report.problems} == {"unreadable", "unmatched", "empty", "repeated", "missing"}
        assert all(name in texts for name in names) and "the value 9" in texts and "test" in texts
        assert [p.kind for p in report.problems].count("unreadable") == 2

    def test_tiles_of_two_sizes(self, folder):
        name = self.tile(folder, "val")
        Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(folder / "val" / "images" / f"{name}.png")
        Image.fromarray(np.zeros((16, 20), np.uint8)).save(folder / "val" / "masks" / f"{name}.png")
        assert f"val/{name}" in self.found(folder)["error", "size"]

    def test_a_manifest_without_its_columns_and_one_that_misses_a_tile(self, folder):
        lines = (folder / "manifest.csv").read_text().splitlines(keepends=True)
        (folder / "manifest.csv").write_text("".join(lines[:-1]))
        assert lines[-1].split(",")[0] in self.found(folder)["error", "manifest"]
        (folder / "manifest.csv").write_text("tile,where\na,b\n")
        assert "no column name" in self.found(folder)["error", "manifest"]

    def test_no_folder(self, tmp_path):
        with pytest.raises(BenchError, match="is no folder"):
            check_folder(tmp_path / "gone")
