"""Which scene each tile belongs to, and what a score on the test tiles therefore holds for."""

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import open_data
from bench.data.folds import fold
from bench.data.scenes import scene_finder, scenes_of
from bench.errors import BenchError

TILES = {"train": ["t1p1", "t1p2", "t2p1"], "val": ["t3p1"], "test": ["t4p1", "t1p3"]}


@pytest.fixture
def folder(tmp_path):
    for split, tiles in TILES.items():
        for tile in tiles:
            for kind, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
                path = tmp_path / split / kind / f"{tile}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full(shape, int(tile[1]) % 2, np.uint8)).save(path)
    return tmp_path


def write_table(folder, **more):
    rows = [{"index": i, "name": name, "rgb": [i, 0, 0]} for i, name in enumerate("ab")]
    (folder / "classes.json").write_text(json.dumps({"ignore_index": 255, "classes": rows, **more}))


def write_manifest(folder, columns, rows):
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def test_without_a_word_on_scenes_each_tile_is_its_own_and_the_scope_says_so(folder):
    write_table(folder)
    data = open_data(folder)
    assert not data.scenes_known and data["train"].scenes == data["train"].tiles == tuple(TILES["train"])
    assert "not known" in data.scope


def test_a_column_of_the_manifest_tells_the_scenes(folder):
    write_table(folder)
    rows = [[tile, "north" if tile[1] == "1" else f"{tile} alone "] for part in TILES.values() for tile in part]
    write_manifest(folder, ["name", " scene"], rows)
    data = open_data(folder)
    assert data["train"].scenes == ("north", "north", "t2p1 alone") and data["test"].scenes == ("north", "t4p1 alone")
    assert data.scenes_known and "1 of the 2 test scenes are in train too" in data.scope
    assert "training tiles were not opened" in open_data(folder, ("test",)).scope


def test_a_tile_that_the_manifest_leaves_out_is_refused(folder):
    """It was taken for a scene of its own, and the scores for those of new scenes."""
    write_table(folder)
    write_manifest(folder, ["name", "scene"], [["t1p1", "north"], ["t1p2", "north"], ["t1p3", "north"]])
    with pytest.raises(BenchError, match="names no scene of the tile train/t2p1"):
        open_data(folder)


def test_a_row_is_of_its_split_and_a_tile_that_was_moved_keeps_its_scene(folder):
    write_table(folder)
    rows = [[split, tile, f"{split} {tile[:2]}"] for split, part in TILES.items() for tile in part]
    rows += [["val", "t1p1", "val t1"], ["train", "moved", "train t9"]]
    write_manifest(folder, ["split", "name", "scene"], rows)
    finder = scene_finder(folder, None)
    assert scenes_of("train", ("t1p1",), finder) == ("train t1",) and scenes_of("val", ("t1p1",), finder) == ("val t1",)
    assert scenes_of("test", ("moved",), finder) == ("train t9",)
    write_manifest(folder, ["split", "name", "scene"], [["val", "t3p1", "a"], ["val", "t3p1", "b"]])
    with pytest.raises(BenchError, match="says two things of the tile t3p1"):
        scene_finder(folder, None)


@pytest.mark.parametrize("rule", ["^(s[0-9]+)?t", "[0-9]*"])
def test_a_rule_that_finds_nothing_in_a_tile_is_refused(folder, rule):
    write_table(folder, scene=rule)
    with pytest.raises(BenchError, match="finds no scene in the tile t1p1"):
        open_data(folder)


def test_one_scene_in_two_splits_is_one_in_the_folds_too(tmp_path):
    """Where a tile is called as its scene, the tiles of that name in other splits were made scenes of their own."""
    for split, tiles in {"train": ["S1", "S2", "S3"], "val": ["S1", "S2"], "test": ["S1", "S4"]}.items():
        for tile in tiles:
            for kind, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
                path = tmp_path / split / kind / f"{tile}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full(shape, int(tile[1]) % 2, np.uint8)).save(path)
    write_table(tmp_path, scene="^(S[0-9])")
    for k in (1, 2, 3):
        part = fold(open_data(tmp_path), k, 3)
        assert not set(part["train"].scenes) & set(part["test"].scenes)
        assert {scene for split in part.splits.values() for scene in split.scenes} == {"S1", "S2", "S3", "S4"}


@pytest.mark.parametrize(
    ("sources", "scenes"),
    [
        (("a", "b", "b"), ("a", "b", "b")),  # as `data tile` writes it
        (("Tile 1/part_1", "Tile 1/part_2", "Tile 2/part_1"), ("Tile 1", "Tile 1", "Tile 2")),
        (("all/a", "all/b", "all/b"), ("all/a", "all/b", "all/b")),  # one folder of all is no scene
    ],
)
def test_source_images_are_the_scenes_or_the_folders_that_hold_their_parts(folder, sources, scenes):
    write_manifest(folder, ["name", "source_image"], zip(TILES["train"], sources, strict=True))
    assert scenes_of("train", TILES["train"], scene_finder(folder, None)) == scenes


def test_the_real_tiles_of_dubai_come_from_eight_scenes_that_are_in_every_split():
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("LALE_BENCH_REAL_DATA", root.parent / "shared" / "data" / "dubai"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; name the folder of the dubai tiles in LALE_BENCH_REAL_DATA")
    data = open_data(folder)
    content = [data.classes.to_dict(), {name: part.digest for name, part in data.splits.items()}]
    known = hashlib.blake2b(json.dumps(content, sort_keys=True, separators=(",", ":")).encode(), digest_size=16)
    assert known.hexdigest().startswith("bc1366c88ed7")  # the committed results: not a pixel is read otherwise
    assert [len(set(part.scenes)) for part in data.splits.values()] == [8, 8, 8]
    assert all(tile[:2] == f"t{scene[-1]}" for tile, scene in zip(data["test"].tiles, data["test"].scenes, strict=True))
    assert "8 of the 8 test scenes are in train too" in data.scope


def test_generated_scenes_are_known_and_lie_in_one_split_each():
    data = open_data("terrain:size=16,train=16,val=8,test=9")
    assert [len(set(part.scenes)) for part in data.splits.values()] == [2, 1, 2]
    assert "None of the 2 test scenes is in train" in data.scope


def test_a_manifest_without_names_is_refused(folder):
    write_manifest(folder, ["tile", "scene"], [["t1p1", "north"]])
    with pytest.raises(BenchError, match=r"manifest\.csv has no column name"):
        scene_finder(folder, None)
