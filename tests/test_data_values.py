"""Sets as people have them: other mask values, suffixes, nested folders, alpha, litter, byte order marks."""

import codecs
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tilefolder import COUNTS, ROWS, SIDE, coded, image_of, mask_of, save, write_table, write_tiles

from bench.data import open_data
from bench.data.cache import SplitCache
from bench.data.check import check_folder
from bench.data.classes import Classes, MaskValues, Table
from bench.data.masks import MaskReader
from bench.data.tiling import tile_folder
from bench.errors import BenchError


def same(folder):
    """Whether the folder is read as what `tilefolder` holds."""
    data = open_data(folder)
    return all(
        np.array_equal(data[split].images[i], image_of(split, i))
        and np.array_equal(data[split].masks[i], mask_of(split, i))
        for split, count in COUNTS.items()
        for i in range(count)
    )


def refusal(folder):
    with pytest.raises(BenchError) as caught:
        open_data(folder)
    return str(caught.value)


class TestValues:
    @pytest.mark.parametrize("values", [(1, 2, 3), (10, 20, 30), (0, 128, 255), (2, 0, 1), (255, 7, 90)])
    def test_masks_of_any_values_are_read_as_their_classes(self, tmp_path, values):
        lut = np.array(values, np.uint8)
        assert same(write_tiles(tmp_path, lut.__getitem__, classes=coded(*values)))

    def test_codes_beyond_a_byte(self, tmp_path):
        lut = np.array([0, 311, 65000], np.uint16)
        assert same(write_tiles(tmp_path, lut.__getitem__, classes=coded(0, 311, 65000)))

    def test_several_values_are_one_class_and_several_are_no_label(self, tmp_path):
        rows = coded([1, 4], 2, [3, 33])
        folder = write_tiles(tmp_path, lambda mask: mask + np.uint8(1), classes=rows, ignore_index=[0, 99])
        path = folder / "val" / "masks" / "t0.png"
        stored = mask_of("val", 0) + np.uint8(1)
        stored[0, :5] = (4, 33, 0, 99, 2)
        save(stored, path)
        assert open_data(folder)["val"].masks[0][0, :5].tolist() == [0, 2, 255, 255, 1]
        assert open_data(folder).classes.ignore_index == 255

    def test_no_data_0_and_classes_from_1(self, tmp_path):
        folder = write_tiles(tmp_path, lambda mask: mask + np.uint8(1), classes=coded(1, 2, 3), ignore_index=0)
        stored = mask_of("test", 1) + np.uint8(1)
        stored[:2] = 0
        save(stored, folder / "test" / "masks" / "t1.png")
        read = open_data(folder)["test"].masks[1]
        assert (read[:2] == 255).all() and np.array_equal(read[2:], mask_of("test", 1)[2:])

    def test_several_colours_are_no_label(self, tmp_path):
        palette = np.array([row["rgb"] for row in ROWS], np.uint8)
        folder = write_tiles(tmp_path, palette.__getitem__, ignore_rgb=[[255, 255, 255], [9, 9, 9]])
        stored = palette[mask_of("val", 0)]
        stored[0, 0], stored[0, 1] = 255, 9
        save(stored, folder / "val" / "masks" / "t0.png")
        assert open_data(folder)["val"].masks[0][0, :2].tolist() == [255, 255]
        write_table(folder, ignore_rgb=[255, 255, 255])
        assert "the colour (9, 9, 9) (1 px)" in refusal(folder) and '"ignore_rgb"' in refusal(folder)

    def test_what_rows_count_need_not_be_said(self, tmp_path):
        rows = [{key: row[key] for key in ("name", "rgb")} for row in ROWS]
        assert same(write_tiles(tmp_path, classes=rows))

    @pytest.mark.parametrize(
        ("table", "told"),
        [
            ({"classes": [{**row, "index": row["index"] + 1} for row in ROWS]}, '"value": 1'),
            ({"classes": [{**row, "index": 10 * (row["index"] + 1)} for row in ROWS]}, '"value": 10'),
            ({"ignore_index": 0}, '"ignore_index": 0 for no label'),
            ({"classes": coded(1, 1, 2)}, "the mask value 1 to Sea and to Land"),
            ({"classes": coded(1, 2, 3), "ignore_index": [0, 3]}, "the mask value 3 to Road"),
            ({"palette": "order"}, '"rgb" and "index" are possible'),
            ({"bands": ["a", "a"]}, "one name to two bands"),
            ({"scene": "("}, "no regular expression"),
            ({"scene": "^x"}, "does not fit the tile t0"),
        ],
    )
    def test_a_table_that_cannot_be_is_told_the_field(self, tmp_path, table, told):
        folder = write_tiles(tmp_path, **table)
        assert str(folder / "classes.json") in refusal(folder) and told in refusal(folder)

    def test_tables_of_before_mean_what_they_meant(self, tmp_path):
        folder = write_tiles(tmp_path, ignore_index=255)
        before = open_data(folder).fingerprint
        write_table(folder)  # 255 stands for no label once masks are read, whether the table says so or not
        assert open_data(folder).fingerprint == before


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_values_give_any_mask_back(data):
    values = data.draw(st.lists(st.integers(-5, 70000), min_size=4, max_size=9, unique=True))
    owners = [*range(3), *data.draw(st.lists(st.integers(0, 3), min_size=len(values) - 3, max_size=len(values) - 3))]
    classes = Classes(tuple("abc"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    own = [tuple(v for v, owner in zip(values, owners, strict=True) if owner == i) for i in range(4)]
    table = Table("classes.json", "", classes, MaskValues(tuple(own[:3]), own[3]), declared=True)
    truth = np.array(data.draw(st.lists(st.sampled_from(range(len(values))), min_size=6, max_size=6))).reshape(2, 3)
    reader = MaskReader(table)
    expected = np.where(np.array(owners)[truth] == 3, 255, np.array(owners)[truth])
    assert np.array_equal(reader.labels(np.array(values)[truth]), expected)
    strange = data.draw(st.integers(-5, 70000).filter(lambda v: v not in values))
    assert reader.unknown(np.array([[strange, values[0], strange]])) == {strange: 2}


class TestWhatMasksLookLike:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
    def test_numbers_of_any_depth(self, tmp_path, dtype):
        assert same(write_tiles(tmp_path, lambda mask: Image.fromarray(mask.astype(dtype)), mask_suffix=".tif"))

    def test_three_equal_channels_of_numbers(self, tmp_path):
        assert same(write_tiles(tmp_path, lambda mask: np.repeat(mask[..., None], 3, -1)))

    def test_colours_come_before_numbers_where_both_fit(self, tmp_path):
        rows = [{"name": name, "rgb": [v] * 3} for name, v in (("a", 2), ("b", 1), ("c", 0))]
        folder = write_tiles(tmp_path, lambda mask: np.repeat(mask[..., None], 3, -1), classes=rows)
        assert np.array_equal(open_data(folder)["val"].masks[0], 2 - mask_of("val", 0))

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_a_full_alpha_says_nothing(self, tmp_path, mode):
        grey = lambda mask: Image.fromarray(mask).convert(mode)  # noqa: E731
        folder = write_tiles(tmp_path, grey)
        for path in folder.rglob("images/*.png"):
            with Image.open(path) as image:
                image.convert("RGBA").save(path)
        assert same(folder)

    @pytest.mark.parametrize("kind", ["images", "masks"])
    def test_another_alpha_is_refused(self, tmp_path, kind):
        path = write_tiles(tmp_path) / "val" / kind / "t0.png"
        with Image.open(path) as image:
            seen = image.convert("RGBA")
        seen.putpixel((3, 3), (0, 0, 0, 254))
        seen.save(path)
        text = refusal(tmp_path)
        assert str(path) in text and ("transparency" if kind == "masks" else "has 4 bands") in text

    def test_one_bit_and_four_bits_are_numbers(self, tmp_path):
        folder = write_tiles(tmp_path)
        save(Image.fromarray(mask_of("val", 0) > 0), folder / "val" / "masks" / "t0.png")
        assert np.array_equal(open_data(folder)["val"].masks[0], mask_of("val", 0) > 0)

    def test_a_palette_is_read_by_its_colours_or_by_its_numbers_as_the_table_says(self, tmp_path):
        def with_palette(mask):
            image = Image.fromarray(mask)
            image.putpalette([70, 70, 70, 1, 2, 3, 90, 90, 90])
            return image

        folder = write_tiles(tmp_path, with_palette)
        assert "the colour" in refusal(folder)
        write_table(folder, palette="index")
        assert same(folder)


class TestFiles:
    def test_suffixes_are_cut_off_where_the_table_names_them(self, tmp_path):
        folder = write_tiles(tmp_path)
        for path in list(folder.rglob("t*.png")):
            path.rename(path.with_stem(path.stem + ("_sat" if path.parent.name == "images" else "_mask")))
        text = refusal(folder)
        assert '"image_suffix": "_sat", "mask_suffix": "_mask"' in text
        assert [problem.text for problem in check_folder(folder).problems] == [text]  # once, not for every tile
        write_table(folder, image_suffix="_sat", mask_suffix="_mask")
        assert same(folder) and open_data(folder)["test"].tiles == ("t0", "t1") and check_folder(folder).ok
        (folder / "val" / "masks" / "t0_mask.png").rename(folder / "val" / "masks" / "t0.png")
        assert 't0.png does not end in "_mask"' in refusal(folder)

    def test_tiles_in_folders_of_folders(self, tmp_path):
        folder = write_tiles(tmp_path)
        for path in list(folder.rglob("t0.png")):
            target = path.parent / "north" / "a" / path.name
            target.parent.mkdir(parents=True)
            path.rename(target)
        data = open_data(folder)
        assert data["test"].tiles == ("north/a/t0", "t1") and check_folder(folder).ok
        assert np.array_equal(data["test"].masks[0], mask_of("test", 0))

    def test_litter_is_no_tile(self, tmp_path):
        folder = write_tiles(tmp_path)
        for name in (
            "Thumbs.db",
            ".DS_Store",
            "._t0.png",
            "desktop.ini",
            "__MACOSX/t0.png",
            "t0.png.aux.xml",
            "t0.pgw",
        ):
            path = folder / "train" / "images" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"litter")
        assert same(folder) and check_folder(folder).ok

    def test_byte_order_marks(self, tmp_path):
        folder = write_tiles(tmp_path)
        (folder / "manifest.csv").write_text("name,scene\nt0,a\nt1,a\nt2,a\n")
        for name in ("classes.json", "manifest.csv"):
            (folder / name).write_bytes(codecs.BOM_UTF8 + (folder / name).read_bytes())
        data = open_data(folder)
        assert data.name == "mine" and set(data["train"].scenes) == {"a"} and check_folder(folder).ok

    def test_an_image_over_the_limit_of_pillow_is_no_attack(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
        folder = write_tiles(tmp_path)
        assert same(folder) and check_folder(folder).ok
        assert Image.MAX_IMAGE_PIXELS == 40  # for others the limit is as it was

    def test_credit_and_scope_are_what_the_table_says(self, tmp_path):
        data = open_data(write_tiles(tmp_path, credit="Images: Aunt Ada", scope="Aunt Ada's garden, in May."))
        assert data.credit == "Images: Aunt Ada" and data.scope == "Aunt Ada's garden, in May."

    def test_the_side_of_a_pixel_is_what_the_table_says(self, tmp_path):
        assert open_data(write_tiles(tmp_path / "known", gsd_m=0.3)).gsd_m == 0.3
        assert open_data(write_tiles(tmp_path / "unknown")).gsd_m is None

    @pytest.mark.parametrize("gsd", [0, -0.3, float("inf")])
    def test_a_side_that_no_pixel_has_is_refused(self, tmp_path, gsd):
        with pytest.raises(BenchError, match=r"classes.json.*gsd_m .*in metres"):
            open_data(write_tiles(tmp_path, gsd_m=gsd))

    def test_a_rule_tells_the_scenes(self, tmp_path):
        data = open_data(write_tiles(tmp_path, scene="^(t)[0-9]"))
        assert data.scenes_known and set(data["train"].scenes) == {"t"}


class TestCheckOfMany:
    def test_one_sentence_for_all_masks_with_counts_and_the_nearest_class(self, tmp_path):
        folder = write_tiles(tmp_path, lambda mask: np.where(mask == 2, 7, mask).astype(np.uint8))
        pixels = sum(int((mask_of(s, i) == 2).sum()) for s, n in COUNTS.items() for i in range(n))
        (problem,) = check_folder(folder).problems
        assert problem.kind == "unknown" and "6 masks hold a value that is not in" in problem.text
        assert f"7 on {pixels:,} pixels of 6 masks (nearest: Road, 2)" in problem.text
        assert '"value": 7' in problem.text

    def test_colours_beside_those_of_the_table(self, tmp_path):
        palette = np.array([row["rgb"] for row in ROWS], np.uint8)
        folder = write_tiles(tmp_path, lambda mask: palette[mask] + np.uint8(1))
        (problem,) = check_folder(folder).problems
        assert "6 masks hold 3 colours that are not in" in problem.text
        assert "(1, 1, 81)" in problem.text and "(nearest: Land, (0, 0, 80))" in problem.text

    def test_files_with_one_fault_are_told_of_together_and_all_faults_at_once(self, tmp_path):
        folder = write_tiles(tmp_path)
        for name in ("t0", "t1"):
            save(np.zeros((SIDE, SIDE), np.uint8), folder / "test" / "images" / f"{name}.png")
        (folder / "train" / "images" / "t2.png").write_bytes(b"x")
        save(image_of("train", 0), folder / "val" / "images" / "t0.png")
        texts = [problem.text for problem in check_folder(folder).problems]
        assert len(texts) == 3
        assert any("2 files in" in text and "each has 1 band of uint8" in text for text in texts)
        assert any("t2.png is corrupt" in text for text in texts)
        assert any("same image lies in several splits: train/t0, val/t0" in text for text in texts)

    def test_names_in_brackets_reach_the_console(self, tmp_path):
        rows = [{**row, "name": f"[red]{row['name']}[/]"} for row in ROWS]
        folder = write_tiles(tmp_path / "[bold]", classes=rows, dataset="[x]")
        save(np.full((SIDE, SIDE), 9, np.uint8), folder / "val" / "masks" / "t0.png")
        from bench.cli.data import OUTPUT, app

        with OUTPUT.capture() as caught:
            code = app(["check", str(folder)], standalone_mode=False)
        assert code == 1
        shown = caught.get()
        assert "[x]: share" in shown and "[red]Road[/]" in shown and str(folder / "val" / "masks" / "t0.png") in shown


def test_source_folders_are_scenes_and_are_split_whole(tmp_path):
    for scene in "abcd":
        for part in range(3):
            for kind, pixels in (("images", image_of(scene, part)), ("masks", mask_of(scene, part))):
                save(pixels, tmp_path / kind / scene / f"{part}.png")
    write_table(tmp_path)
    done = tile_folder(tmp_path / "images", tmp_path / "masks", tmp_path / "out", 8, split=(0.5, 0.25, 0.25))
    assert done.tiles == {"train": 24, "val": 12, "test": 12}
    data = open_data(tmp_path / "out")
    assert data.scenes_known and "All test tiles come from one scene" in data.scope
    assert sorted(scene for part in data.splits.values() for scene in set(part.scenes)) == list("abcd")


WRITER = """
import sys, time
from pathlib import Path
from bench.data import open_data
while not Path(sys.argv[3]).exists():
    time.sleep(0.01)
print(open_data(sys.argv[1], cache=Path(sys.argv[2]), memory_limit=0).fingerprint)
"""


@pytest.mark.slow
def test_several_processes_may_open_one_large_folder_for_the_first_time(tmp_path):
    folder, gate = write_tiles(tmp_path / "tiles"), tmp_path / "gate"
    command = [sys.executable, "-c", WRITER, str(folder), str(tmp_path / "cache"), str(gate)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    gate.write_text("")
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ends
    assert len({out for out, _ in ends}) == 1
    assert not list((tmp_path / "cache" / "tiles").glob(".draft-*"))


def test_the_second_of_two_writers_of_one_split_finds_it_kept(tmp_path):
    store = SplitCache.of(tmp_path, "table")

    def fill(images, masks):
        images[:], masks[:] = 7, 1
        if not (tmp_path / "tiles" / "digest").exists():  # another process is quicker
            store.write([], images.shape, np.uint8, lambda i, m: "digest")
        return "digest"

    assert store.write([], (2, 4, 4, 3), np.uint8, fill) == "digest"
    assert store.find([]) == "digest"


def test_pixels_of_each_value_are_counted_once_and_kept(tmp_path):
    folder = write_tiles(tmp_path / "tiles")
    held = open_data(folder)
    for _ in range(2):
        mapped = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert mapped["train"].counted is not None
        assert np.array_equal(mapped["train"].values, held["train"].values)
    assert held["train"].values.sum() == 3 * SIDE * SIDE and held["train"].values[:, 3:].sum() == 0


def test_the_table_says_all_that_decides_how_masks_are_read(tmp_path):
    folder = write_tiles(tmp_path / "tiles", lambda mask: mask + np.uint8(1), classes=coded(1, 2, 3))
    first = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
    write_table(folder, classes=coded(3, 2, 1))
    second = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
    assert np.array_equal(second["val"].masks, 2 - first["val"].masks)
    assert json.loads((folder / "classes.json").read_text())["classes"][0]["value"] == 3
