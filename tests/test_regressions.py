"""Every silent fault that was ever found, with the input that showed it, and what must come out instead.

A fault is silent where a figure came out that was wrong, and nothing said so.
"""

import numpy as np
import pytest
from PIL import Image
from tilefolder import SIDE, coded, image_of, mask_of, save, write_table, write_tiles

from bench.data import open_data
from bench.data.check import check_folder
from bench.errors import BenchError, DataWarning


class TestMisreadTiles:
    """Tiles that were read as something else than they show."""

    def test_binary_masks_of_0_and_255_lost_their_foreground(self, tmp_path):
        """255 was ignored by default, no foreground was left, and a constant network had an F1 of 100 %."""
        rows = [{"index": i, "name": name, "rgb": [255 * i] * 3} for i, name in enumerate(("Background", "Building"))]
        folder = write_tiles(tmp_path, lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8), classes=rows)
        with pytest.raises(
            BenchError, match=r'the value 255 .* write "value": 255 into the row .* "ignore_index": 255'
        ):
            open_data(folder)
        assert not check_folder(folder).ok
        write_table(folder, classes=[{**row, "value": 255 * i} for i, row in enumerate(rows)])
        assert np.array_equal(open_data(folder)["test"].masks[0], mask_of("test", 0) > 0)

    def test_masks_counted_from_1_that_still_fit_the_table(self, tmp_path):
        """Every class was read as its neighbour."""
        rows = [*coded(0, 1, 2), {"index": 3, "name": "Wood", "rgb": [9, 9, 9]}]
        folder = write_tiles(tmp_path, lambda mask: mask + np.uint8(1), classes=rows)
        with pytest.warns(DataWarning) as caught:
            open_data(folder)
        told = [str(warning.message) for warning in caught]
        assert any("count their classes from 1" in text and '"value": 1, 2, 3' in text for text in told)
        assert any("The class Sea has no pixel in any split" in text for text in told)
        assert {problem.kind for problem in check_folder(folder).problems} == {"shift", "absent"}
        write_table(folder, classes=coded(1, 2, 3))
        assert np.array_equal(open_data(folder)["val"].masks[0], mask_of("val", 0))

    def test_masks_saved_as_jpeg_have_other_labels(self, tmp_path):
        """14 % of the labels differed from those of the same masks as PNG."""
        folder = write_tiles(tmp_path, mask_suffix=".jpg", ignore_index=255)
        with pytest.raises(BenchError, match=r"t0\.jpg is a JPEG, which changes labels along every edge"):
            open_data(folder)
        (problem,) = check_folder(folder).problems
        assert problem.text.startswith("6 files in") and "is a JPEG" in problem.text

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["images", "masks"])
    def test_photographs_lay_a_quarter_turn_off_their_masks(self, tmp_path, orientation, kind):
        """The EXIF orientation, by which viewers turn a picture, was not followed."""
        folder = write_tiles(tmp_path)
        path = folder / "train" / kind / "t1.png"
        upright = (image_of if kind == "images" else mask_of)("train", 1)
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(as_stored(upright, orientation), path, exif=exif)
        assert np.array_equal(getattr(open_data(folder)["train"], kind)[1], upright)

    @pytest.mark.parametrize("bands", [4, 5, 6])
    def test_further_bands_of_a_tiff_were_dropped(self, tmp_path, bands):
        """The first three were taken as red, green and blue."""
        pytest.importorskip("rasterio")
        from bench.data.geotiff import write_raster

        folder = write_tiles(tmp_path)
        path = folder / "train" / "images" / "t0.png"
        path.unlink()
        pixels = np.repeat(image_of("train", 0)[..., :1], bands, -1)
        write_raster(path.with_suffix(".tif"), pixels, tuple("abcdef")[:bands])
        with pytest.raises(BenchError, match=f"has {bands} bands of uint8, but 3 are expected"):
            open_data(folder)


class TestUnscorableData:
    """Trainings that could not be scored ran to their end first, or had scores that said nothing."""

    @pytest.mark.parametrize("split", ["train", "val", "test"])
    def test_a_split_without_a_label(self, tmp_path, split):
        folder = write_tiles(tmp_path, ignore_index=255)
        for path in (folder / split / "masks").iterdir():
            save(np.full((SIDE, SIDE), 255, np.uint8), path)
        data = open_data(folder)
        with pytest.raises(BenchError, match=f"mine cannot be used: No pixel of the split {split} has a label"):
            data.require_scorable()
        assert not check_folder(folder).ok

    def test_one_test_tile_gives_a_score_but_no_interval(self, tmp_path):
        folder = write_tiles(tmp_path)
        for kind in ("images", "masks"):
            (folder / "test" / kind / "t1.png").unlink()
        data = open_data(folder)
        data.require_scorable()
        with pytest.raises(BenchError, match="interval over test images needs at least 2"):
            data.require_scorable(intervals=True)

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (("train", "val", "test"), "The class Road has no pixel in any split"),
            (("val", "test"), "The class Road is in train but not in test"),
            (("train", "val"), "The class Road is in test but not in train"),
        ],
    )
    def test_a_class_that_splits_lack(self, tmp_path, where, told):
        folder = write_tiles(tmp_path)
        for split in where:
            for index, path in enumerate(sorted((folder / split / "masks").iterdir())):
                save(mask_of(split, index) % 2, path)
        with pytest.warns(DataWarning, match=told):
            open_data(folder)
        report = check_folder(folder)
        assert report.ok and [told in problem.text for problem in report.problems] == [True]


def as_stored(upright, orientation):
    """What a camera stores for a viewer to turn back to `upright`: the inverse of each EXIF orientation (1 to 8)."""
    inverse = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(inverse[orientation](upright))
