"""Every silent fault that was ever found, with the input that showed it, and what must come out instead.

A fault is silent where a figure came out that was wrong, and nothing said so.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tilefolder import SIDE, coded, image_of, mask_of, save, write_table, write_tiles
from torch import nn

import archs
from bench.cli.app import run
from bench.cli.options import print_json
from bench.counting.cells import refuse_other_output
from bench.data import open_data
from bench.data.check import check_folder
from bench.errors import BenchError, DataWarning
from bench.records import Record, RecordStore
from bench.records.atomic import draft_name
from bench.study import Setting, Variant, VariantStudy, plan_study
from bench.training.recipe import recipe_named
from bench.training.weights import start_from


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
        from bench.data.pixels import write_raster

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


class TestStaleFigures:
    """Figures of yesterday's code or of another run that came back as today's."""

    def test_an_edited_network_had_its_old_figures(self, tmp_path):
        """Keys hashed a config's fields, not what it builds: `tests/test_identity.py` tries every kind of edit."""
        from test_identity import PLUGIN, fingerprint_of

        edited = PLUGIN.replace("self.head = ", "self.extra = nn.Conv2d(width, width, 1)\n        self.head = ")
        assert fingerprint_of(PLUGIN, tmp_path) != fingerprint_of(edited, tmp_path)

    def test_fine_tuning_in_the_same_folder_returned_the_first_training(self, tmp_path, capsys):
        """`train X`, then `train X --weights W` with the same --out: W was not used."""
        command = ["train", "lale-s1", "--data", "terrain:size=32,train=4,val=2,test=2", "--budget", "smoke"]
        command += ["--recipe", "steps=3", "--recipe", "eval_every=3", "--recipe", "crop=32", "--device", "cpu"]
        assert run([*command, "--out", str(tmp_path / "first")]) == 0
        weights = str(tmp_path / "first" / "weights.safetensors")
        assert run([*command, "--out", str(tmp_path / "first"), "--weights", weights]) == 1
        assert "of another run" in capsys.readouterr().err
        assert run([*command, "--out", str(tmp_path / "tuned"), "--weights", weights]) == 0


class TestLostFigures:
    """Figures and weights that were there and vanished, or that failed with another's failure."""

    def test_weights_of_recorded_trainings_are_not_kept_without_a_word(self, tmp_path):
        """--keep-weights did nothing for cells that were recorded already."""
        data = "terrain:size=32,train=4,val=2,test=2"
        setting = Setting(data, recipe_named("smoke"), (0,), size=(32, 32), out=tmp_path, keep_weights=True)
        study = VariantStudy("one", "Is it kept?", [Variant.named("lale-s1")], instruments=("train",))
        plan = plan_study(study, setting)
        (cell,) = (cell for cell in plan.cells if cell.kind == "train")
        assert plan.without_weights() == []
        RecordStore(tmp_path / "records").put(
            Record.of(cell.kind, cell.determinants, {"f1": 0.5}, environment={}, seconds=1.0)
        )
        assert len(plan.without_weights()) == 1
        (note,) = plan.weight_notes(shared=False)
        assert "1 trainings" in note
        assert "every host keeps those of its own" in plan.weight_notes(shared=True)[1]

    def test_a_head_under_two_names_was_dropped_from_the_deployed_form(self):
        """It was called under one name only, so the other was taken for unread, and the network did not run."""
        model = SharedHead().eval()
        deployed = archs.deploy(model)
        x = torch.randn(1, 3, 48, 40)
        with torch.no_grad():
            torch.testing.assert_close(deployed(x), model(x))

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
    @pytest.mark.parametrize("ending", [".safetensors", ".pth"])
    def test_our_own_weights_as_wrappers_leave_them(self, tmp_path, prefix, ending):
        """They were answered by `no official checkpoint is known`."""
        model, path = SharedHead(), tmp_path / f"weights{ending}"
        weights = {f"{prefix}{name}": value.clone() for name, value in model.state_dict().items()}
        save_file(weights, path) if ending == ".safetensors" else torch.save(weights, path)
        again = SharedHead()
        assert start_from(again, path).startswith("all ")
        assert torch.equal(again.cls.weight, model.cls.weight)

    @pytest.mark.parametrize(
        ("content", "said"), [(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"", "is empty")]
    )
    def test_files_that_are_no_weights_say_what_they_are(self, tmp_path, content, said):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(BenchError, match=said):
            start_from(SharedHead(), tmp_path / "w.pth")

    def test_a_head_of_other_classes_starts_anew_and_says_so(self, tmp_path):
        save_file({k: v.clone() for k, v in SharedHead(9).state_dict().items()}, tmp_path / "w.safetensors")
        model = SharedHead(4)
        assert "for 9 classes and the data have 4" in start_from(model, tmp_path / "w.safetensors")
        assert model.cls.weight.shape[0] == 4

    def test_json_without_a_word_for_nan_and_refusals_of_the_system(self, tmp_path, capsys):
        """Both ended in a traceback."""
        print_json({"f1": float("nan"), "path": tmp_path})
        assert json.loads(capsys.readouterr().out) == {"f1": None, "path": str(tmp_path)}
        (tmp_path / "file").write_text("in the way")
        assert run(["records", "upgrade", str(tmp_path / "file" / "below")]) == 1
        assert capsys.readouterr().err.startswith("error: ")

    def test_drafts_of_two_processes_with_one_id_do_not_meet(self, tmp_path):
        """Files on their way were named by process id, which two containers on one volume share."""
        assert draft_name(tmp_path / "a") != draft_name(tmp_path / "a")


class SharedHead(nn.Module):
    """One head on two levels, under two names."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.down = nn.Conv2d(8, 8, 3, 1, 1)
        self.cls = nn.Conv2d(8, classes, 1)
        self.heads = nn.ModuleList([self.cls, self.cls])

    def forward(self, x):
        fine = self.stem(x).relu()
        return sum(head(level) for head, level in zip(self.heads, (fine, self.down(fine).relu()), strict=True))


class TestOutputs:
    """Networks that return something else than logits were counted as if all were well."""

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (lambda y: {"out": y, "aux": y}, "a mapping of out, aux"),
            (lambda y: (y, y), "a tuple of 2"),
            (lambda y: y[..., ::2, ::2], r"a tensor of shape \(1, 5, 24, 20\)"),
        ],
    )
    def test_what_is_no_logits_is_refused_before_it_is_counted(self, wrong, said):
        class Wrong(SharedHead):
            def forward(self, x):
                return wrong(super().forward(x))

        refuse_other_output(SharedHead(), (48, 40))
        with pytest.raises(BenchError, match=f"returns {said} for images of shape"):
            refuse_other_output(Wrong(), (48, 40))
