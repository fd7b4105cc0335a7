"""Tile folders: what is read, exactly, and what is refused, with a sentence that names the file."""

import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from bench.data import ARAS400K_CLASSES, Classes, open_data
from bench.data.classes import Table, read_table
from bench.data.masks import MaskReader
from bench.data.pixels import read_image, read_stored_mask
from bench.errors import BenchError

CLASSES = Classes(("Land", "Sea", "Road"), ((200, 180, 90), (0, 0, 255), (40, 40, 40)), 255, ((0, 0, 0),))
SIDE = 8


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def content(split, index, values=(0, 1, 2, 255)):
    rng = np.random.default_rng([len(split), index])
    return rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8), rng.choice(np.array(values, np.uint8), (SIDE, SIDE))


def colours_of(mask, classes=CLASSES):
    return np.where((mask < classes.num_classes)[..., None], classes.palette[mask], 0).astype(np.uint8)


def build(folder, counts=(3, 2, 2), classes=CLASSES, colour=False, suffix=".png"):
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        for index in range(count):
            image, mask = content(split, index)
            save(image, folder / split / "images" / f"t{index}{suffix}")
            save(colours_of(mask) if colour else mask, folder / split / "masks" / f"t{index}.png")
    (folder / "classes.json").write_text(json.dumps({"dataset": "mine", **classes.to_dict()}))
    return folder


@pytest.fixture
def folder(tmp_path):
    return build(tmp_path / "tiles")


def refusal(folder, **options):
    with pytest.raises(BenchError) as caught:
        open_data(folder, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_tiles_come_out_as_they_were_written(folder):
    data = open_data(folder)
    assert (data.name, data.classes, data.tile_size) == ("mine", CLASSES, (SIDE, SIDE))
    assert list(data.splits) == ["train", "val", "test"]
    for split, part in data.splits.items():
        assert part.tiles == tuple(f"t{i}" for i in range(len(part)))
        assert part.images.dtype == part.masks.dtype == np.uint8
        for index in range(len(part)):
            image, mask = content(split, index)
            assert np.array_equal(part.images[index], image)
            assert np.array_equal(part.masks[index], mask)


def test_only_the_splits_asked_for_are_read(folder):
    shutil.rmtree(folder / "test")
    data = open_data(folder, splits=("train", "val"))
    assert list(data.splits) == ["train", "val"]
    with pytest.raises(BenchError, match="train, val, not test"):
        data["test"]


def test_colour_masks_and_index_masks_of_one_content_are_one_data_set(tmp_path):
    index, colour = build(tmp_path / "a"), build(tmp_path / "b", colour=True)
    assert open_data(index).fingerprint == open_data(colour).fingerprint


def test_palette_masks_are_read_by_their_colours_whatever_the_palette_s_order(folder):
    _, mask = content("val", 0)
    order = np.array([2, 0, 1, 3], np.uint8)  # where each class stands in the file's palette; ignored last
    stored = Image.fromarray(order[np.where(mask == 255, 3, mask)])
    stored.putpalette([0, 0, 255, 40, 40, 40, 200, 180, 90, 0, 0, 0])
    stored.save(folder / "val" / "masks" / "t0.png")
    assert np.array_equal(open_data(folder)["val"].masks[0], mask)


def test_aras400k_as_published_needs_no_class_table(tmp_path):
    masks = {}
    for split in ("train", "val", "test"):
        mask = np.random.default_rng(len(split)).integers(0, 7, (SIDE, SIDE), np.uint8)
        save(content(split, 0)[0], tmp_path / split / "images" / "p.png")
        save(ARAS400K_CLASSES.palette[mask], tmp_path / split / "masks" / "p.png")
        masks[split] = mask
    data = open_data(tmp_path)
    assert data.classes.names == ("Tree", "Shrub", "Grass", "Crop", "Built-up", "Barren", "Water")
    assert all(np.array_equal(data[split].masks[0], masks[split]) for split in masks)
    save(np.full((SIDE, SIDE, 3), 7, np.uint8), tmp_path / "val" / "masks" / "p.png")
    text = refusal(tmp_path)
    assert str(tmp_path / "val" / "masks" / "p.png") in text and "(7, 7, 7)" in text and "ARAS400k" in text


def test_index_masks_without_a_class_table_are_refused_and_told_how_to_write_one(folder):
    (folder / "classes.json").unlink()
    text = refusal(folder)
    assert str(folder / "classes.json") in text and '"ignore_index": 255' in text


def test_a_file_beside_the_tiles_that_is_no_image_is_no_tile(folder):
    (folder / "train" / "images" / ".DS_Store").write_bytes(b"x")
    (folder / "train" / "images" / "notes.txt").write_text("x")
    assert len(open_data(folder)["train"]) == 3


def test_jpeg_and_tiff_images_are_read(tmp_path):
    for suffix in (".jpg", ".tif"):
        data = open_data(build(tmp_path / suffix[1:], suffix=suffix))
        assert data["train"].images.shape == (3, SIDE, SIDE, 3)


def test_progress_tells_of_every_tile(folder):
    seen = []
    open_data(folder, progress=lambda done, total, what: seen.append((done, total, what)))
    assert seen == [(i, 7, "decoding mine") for i in range(1, 8)]


class TestFingerprint:
    def test_the_place_and_the_compression_do_not_count(self, folder, tmp_path):
        before = open_data(folder).fingerprint
        moved = shutil.move(folder, tmp_path / "elsewhere")
        for path in Path(moved).rglob("*.png"):
            with Image.open(path) as image:
                image.load()
            image.save(path, compress_level=0)
        assert open_data(moved).fingerprint == before

    @pytest.mark.parametrize("change", ["pixel", "label", "name", "class", "split"])
    def test_each_part_of_the_contents_counts(self, folder, change):
        before = open_data(folder).fingerprint
        image, mask = content("train", 0)
        images, masks = folder / "train" / "images", folder / "train" / "masks"
        if change == "pixel":
            image[3, 3, 1] ^= 1
            save(image, images / "t0.png")
        elif change == "label":
            mask[0, 0] = (mask[0, 0] + 1) % 3
            save(mask, masks / "t0.png")
        elif change == "name":
            for kind in (images, masks):
                (kind / "t2.png").rename(kind / "t9.png")
        elif change == "class":
            renamed = Classes(("Ground", "Sea", "Road"), CLASSES.colours, 255, ((0, 0, 0),))
            (folder / "classes.json").write_text(json.dumps({"dataset": "mine", **renamed.to_dict()}))
        else:
            for kind in ("images", "masks"):
                (folder / "train" / kind / "t2.png").rename(folder / "test" / kind / "t2.png")
        assert open_data(folder).fingerprint != before


class TestMemoryMaps:
    def test_what_outgrows_memory_is_mapped_and_equal(self, folder, tmp_path):
        held, mapped = open_data(folder), open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert mapped.fingerprint == held.fingerprint
        for split in held.splits:
            assert isinstance(mapped[split].images, np.memmap)
            assert np.array_equal(mapped[split].images, held[split].images)
            assert np.array_equal(mapped[split].masks, held[split].masks)

    def test_a_second_opening_decodes_nothing(self, folder, tmp_path):
        first = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
        second = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert len(written) == 6 and second.fingerprint == first.fingerprint
        assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}

    def test_changed_tiles_are_decoded_anew(self, folder, tmp_path):
        first = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        image = folder / "val" / "images" / "t0.png"
        save(content("train", 99)[0], image)
        os.utime(image, ns=(1, 1))
        second = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert second.fingerprint != first.fingerprint
        assert np.array_equal(second["val"].images[0], content("train", 99)[0])

    def test_files_that_change_places_are_read_again(self, folder, tmp_path):
        """Exchanged files of one size and time of change: the memory of what they gave is of other places."""
        images = folder / "val" / "images"
        (images / "t1.png").write_bytes((images / "t0.png").read_bytes()[:-1] + b"\0")  # of one size, still an image
        for name in ("t0.png", "t1.png"):
            os.utime(images / name, ns=(10**18, 10**18))
        first = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        for old, new in (("t0.png", "x.png"), ("t1.png", "t0.png"), ("x.png", "t1.png")):
            (images / old).rename(images / new)
        save(255 - content("val", 0)[0], images / "t0.png")
        os.utime(images / "t0.png", ns=(10**18, 10**18))
        again = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert again.fingerprint == open_data(folder).fingerprint != first.fingerprint

    def test_what_other_code_decoded_is_decoded_again(self, folder, tmp_path, monkeypatch):
        open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        seen = tmp_path / "cache" / "tiles" / "seen"
        before = len(list(seen.iterdir()))
        monkeypatch.setattr("bench.data.cache._code", lambda: "another")
        open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert len(list(seen.iterdir())) == 2 * before

    def test_drafts_of_killed_processes_are_removed_after_two_days(self, folder, tmp_path):
        tiles = tmp_path / "cache" / "tiles"
        for name, age in ((".draft-old", 3), (".draft-new", 1)):
            (tiles / name).mkdir(parents=True)
            os.utime(tiles / name, (time.time() - age * 86400,) * 2)
        open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        assert not (tiles / ".draft-old").exists() and (tiles / ".draft-new").exists()

    def test_a_write_never_reaches_the_cache(self, folder, tmp_path):
        open_data(folder, cache=tmp_path / "cache", memory_limit=0)["val"].images[:] = 0
        assert open_data(folder, cache=tmp_path / "cache", memory_limit=0)["val"].images.any()

    def test_a_failure_leaves_no_half_made_split(self, folder, tmp_path):
        (folder / "test" / "images" / "t1.png").write_bytes(b"")
        with pytest.raises(BenchError):
            open_data(folder, cache=tmp_path / "cache", memory_limit=0)
        kept = sorted(path.parent.name for path in (tmp_path / "cache" / "tiles").glob("*/masks.npy"))
        assert len(kept) == 2  # train and val, each whole
        assert not list((tmp_path / "cache" / "tiles").glob(".draft-*"))

    def test_a_disk_that_takes_no_more_is_a_sentence(self, folder, tmp_path):
        resource = pytest.importorskip("resource", reason="limits on files are set through the resource module")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
        try:
            text = refusal(folder, cache=tmp_path / "cache", memory_limit=0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert str(tmp_path / "cache") in text and "LALE_BENCH_CACHE" in text


class TestRefusals:
    def test_no_such_folder(self, tmp_path):
        assert str(tmp_path / "gone") in refusal(tmp_path / "gone")

    def test_a_corrupt_png(self, folder):
        path = folder / "val" / "images" / "t1.png"
        path.write_bytes(b"no picture at all")
        assert f"{path} is corrupt" in refusal(folder)

    @pytest.mark.parametrize("kind", ["images", "masks"])
    @pytest.mark.parametrize("keep", [0.2, 0.6, 0.9])
    def test_a_truncated_png(self, folder, kind, keep):
        path = folder / "train" / kind / "t0.png"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep * (len(whole) - 12))])
        assert f"{path} is corrupt" in refusal(folder)

    def test_a_flipped_byte_in_the_pixels(self, folder):
        path = folder / "train" / "images" / "t0.png"
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        path.write_bytes(whole)
        assert str(path) in refusal(folder)

    def test_a_mask_value_beyond_the_classes(self, folder):
        _, mask = content("test", 1)
        mask[2, 5] = 3
        path = folder / "test" / "masks" / "t1.png"
        save(mask, path)
        text = refusal(folder)
        assert str(path) in text and "the value 3" in text and "0 to 2 and 255 (ignored)" in text

    def test_a_colour_outside_the_table(self, tmp_path):
        folder = build(tmp_path / "tiles", colour=True)
        path = folder / "train" / "masks" / "t2.png"
        wrong = colours_of(content("train", 2)[1])
        wrong[0, 0] = (1, 2, 3)
        save(wrong, path)
        text = refusal(folder)
        assert str(path) in text and "(1, 2, 3)" in text and "Sea (0, 0, 255)" in text

    def test_a_linked_folder_of_tiles_is_read_and_one_that_leads_back_is_not(self, folder, tmp_path):
        for kind in ("images", "masks"):
            (tmp_path / "more" / kind).mkdir(parents=True)
            source = folder / "train" / kind / "t0.png"
            shutil.copy(source, tmp_path / "more" / kind / "t9.png")
            (folder / "train" / kind / "region").symlink_to(tmp_path / "more" / kind)
            (folder / "train" / kind / "back").symlink_to(folder / "train")
        assert "region/t9" in open_data(folder)["train"].tiles
        assert not any("back" in tile for tile in open_data(folder)["train"].tiles)

    def test_colours_of_no_label_need_a_value_and_get_one(self, tmp_path):
        """With `ignore_index` null they became the first class."""
        folder = build(tmp_path / "tiles", colour=True)
        table = json.loads((folder / "classes.json").read_text())
        (folder / "classes.json").write_text(json.dumps({**table, "ignore_index": None}))
        assert (open_data(folder)["train"].masks == 255).any()
        with pytest.raises(BenchError, match="must be a value, as 255"):
            Classes(CLASSES.names, CLASSES.colours, None, ((0, 0, 0),))

    @pytest.mark.parametrize("value", [-1, 65535])
    def test_a_value_of_no_label_that_a_byte_does_not_hold_is_255(self, folder, value):
        table = json.loads((folder / "classes.json").read_text())
        table |= {"ignore_index": value, "credit": None}
        (folder / "classes.json").write_text(json.dumps(table))
        found = read_table(folder / "classes.json")
        assert found.classes.ignore_index == 255 and found.values.ignored == (value,) and found.credit == ""

    def test_grey_of_which_white_is_0_is_read_as_stored(self, folder):
        rasterio = pytest.importorskip("rasterio")
        mask = content("train", 0)[1]
        (folder / "train" / "masks" / "t0.png").unlink()
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8"}
        with rasterio.open(folder / "train" / "masks" / "t0.tif", "w", **profile, photometric="MINISWHITE",
                           transform=rasterio.Affine(2, 0, 5, 0, -2, 5)) as target:  # fmt: skip
            target.write(mask[None])
        assert np.array_equal(open_data(folder)["train"].masks[0], mask)

    def test_images_without_masks(self, folder):
        for index in range(2):
            (folder / "train" / "masks" / f"t{index}.png").unlink()
        assert "train has 2 images without mask: t0.png, t1.png;" in refusal(folder)

    def test_masks_without_images(self, folder):
        (folder / "val" / "images" / "t1.png").unlink()
        assert "val has 1 mask without image: t1.png;" in refusal(folder)

    def test_two_files_of_one_name(self, folder):
        save(content("val", 0)[0], folder / "val" / "images" / "t0.jpg")
        assert "t0.png" in refusal(folder) and "t0.jpg" in refusal(folder)

    def test_an_empty_split(self, folder):
        for path in (folder / "val").rglob("*.png"):
            path.unlink()
        assert f"{folder / 'val' / 'images'} holds no tile" in refusal(folder)

    def test_a_missing_split(self, folder):
        shutil.rmtree(folder / "test")
        assert f"{folder / 'test' / 'images'} does not exist" in refusal(folder)

    def test_a_mask_of_another_size_than_its_image(self, folder):
        save(np.zeros((SIDE, SIDE + 2), np.uint8), folder / "train" / "masks" / "t1.png")
        text = refusal(folder)
        assert str(folder / "train" / "masks" / "t1.png") in text and "10x8" in text and "8x8" in text

    def test_tiles_of_different_sizes(self, folder):
        save(np.zeros((4, 6, 3), np.uint8), folder / "val" / "images" / "t1.png")
        save(np.zeros((4, 6), np.uint8), folder / "val" / "masks" / "t1.png")
        text = refusal(folder)
        assert str(folder / "val" / "images" / "t1.png") in text and "6x4" in text

    @pytest.mark.parametrize(
        ("mode", "said"), [("L", "has 1 band of uint8"), ("P", "mode P"), ("CMYK", "mode CMYK"), ("F", "has 1 band")]
    )
    def test_an_image_of_another_kind(self, folder, mode, said):
        path = folder / "train" / "images" / "t0.png"
        path.unlink()
        path = path.with_suffix(".tif")
        Image.fromarray(content("train", 0)[0]).convert(mode).save(path)
        text = refusal(folder)
        assert str(path) in text and said in text and "8-bit RGB" in text

    def test_a_16_bit_rgb_png_which_pillow_would_reduce_silently(self, folder):
        path = folder / "train" / "images" / "t0.png"
        path.write_bytes(png(16, 2, np.zeros((SIDE, SIDE * 6), np.uint8)))
        assert f"{path} is a 16-bit image" in refusal(folder)

    @pytest.mark.parametrize(
        ("table", "complaint"),
        [
            ("{", "JSON"),
            ("[]", "class table"),
            ('{"classes": [{"index": 0}]}', "class table"),
            ('{"classes": [{"index": 0, "name": "a", "rgb": [1, 2, 3]}]}', "1 classes"),
            ('{"classes": [{"index": 0, "name": "a", "rgb": [1, 2, 3]}, {"index": 2, "name": "b", "rgb": [3, 2, 1]}]}',
             "[0, 2]"),
            ('{"classes": [{"index": 0, "name": "a", "rgb": [1, 2, 3]}, {"index": 1, "name": "b", "rgb": [1, 2, 3]}]}',
             "one colour to two"),
            ('{"ignore_index": 1, "classes": [{"index": 0, "name": "a", "rgb": [1, 2, 3]}, '
             '{"index": 1, "name": "b", "rgb": [1, 2, 4]}]}', "the mask value 1 to b and to"),
            ('{"scenes": "^(s)", "classes": []}', '"scenes", which means nothing here; did you mean scene'),
            ('{"classes": [{"id": 0, "name": "a", "rgb": [1, 2, 3]}]}', 'field "id"'),
            ('{"classes": [{"name": "a", "rgb": [1, 2, 3]}, {"name": "b", "rgb": [1, 2, 4]}], '
             '"bands": [{"name": "red", "no_data": 0}]}', "did you mean nodata"),
        ],
    )  # fmt: skip
    def test_a_class_table_that_cannot_be(self, folder, table, complaint):
        (folder / "classes.json").write_text(table)
        text = refusal(folder)
        assert str(folder / "classes.json") in text and complaint in text

    def test_but_a_note_of_the_user_s_own_is_none_of_ours(self, folder):
        table = json.loads((folder / "classes.json").read_text())
        (folder / "classes.json").write_text(json.dumps({"_note": "checked in May", **table}))
        assert read_table(folder / "classes.json").classes == CLASSES

    def test_nothing_is_written_where_the_data_lie(self, folder):
        (folder / "val" / "images" / "t1.png").write_bytes(b"")
        before = sorted(folder.rglob("*"))
        refusal(folder)
        assert sorted(folder.rglob("*")) == before


def png(depth, colour_type, rows):
    """A PNG of a bit depth that Pillow does not write, from the raw bytes of its rows."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["PNG", "JPEG", "TIFF"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged TIFF tags before it gives up
def test_whatever_happens_to_a_file_it_is_read_or_refused_with_its_name(tmp_path, kind, cut, flips):
    buffer = io.BytesIO()
    Image.fromarray(content("train", 1)[0]).save(buffer, kind)
    damaged = bytearray(buffer.getvalue())
    for place, change in flips:
        damaged[int(place * (len(damaged) - 1))] ^= change
    path = tmp_path / "damaged"
    path.write_bytes(damaged[: max(1, int(cut * len(damaged)))])
    for read, shapes in ((read_image, {3}), (read_stored_mask, {2, 3})):
        try:
            pixels = read(path)
        except BenchError as error:
            assert str(path) in str(error)
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim in shapes


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 5)),
    colours=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=6, max_size=6, unique=True),
)
def test_any_colour_table_gives_any_mask_back(mask, colours):
    reader = MaskReader(Table.of(Classes(tuple("abcdef"), tuple(colours))))
    stored = np.array(colours, np.uint8)[mask]
    assert reader.unknown(stored) == {}
    assert np.array_equal(reader.labels(stored), mask)


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays.arrays(np.uint8, (5, 5), elements=st.integers(0, 255)),
    ignore=st.one_of(st.none(), st.integers(3, 255)),
)
def test_a_value_is_known_exactly_if_it_is_a_class_or_ignored(mask, ignore):
    reader = MaskReader(Table.of(Classes(CLASSES.names, CLASSES.colours, ignore)))
    assert set(reader.unknown(mask)) == {int(v) for v in np.unique(mask) if v > 2 and v != ignore}


def test_the_dubai_tiles_are_as_their_readme_says():
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("LALE_BENCH_REAL_DATA", root.parent / "shared" / "data" / "dubai"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; name the folder of the dubai tiles in LALE_BENCH_REAL_DATA")
    data = open_data(folder)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 355, "val": 71, "test": 71}
    shares = {
        "train": [18.45, 48.36, 8.25, 12.78, 11.06, 1.10],
        "val": [16.42, 47.59, 9.85, 10.89, 14.22, 1.03],
        "test": [18.75, 49.23, 9.33, 16.11, 6.44, 0.14],
    }
    for split, expected in shares.items():
        counts = np.bincount(data[split].masks.ravel(), minlength=256)[[0, 1, 2, 3, 4, 255]]
        assert 100 * counts / data[split].masks.size == pytest.approx(expected, abs=0.0051)
