"""Whole scenes divided into parts of one mixture."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archs
from bench.cli.app import run
from bench.data import Classes, open_data
from bench.data.bands import BandSpec, measure_bands
from bench.data.dataset import Split, assemble
from bench.data.folds import divide, fold, scope_of_folds
from bench.errors import BenchError
from bench.records import unpack_array
from bench.study import Setting, Variant, VariantStudy, load_results, plan_study, run_study, write_report
from bench.study.layout import scenes_tested, train_label
from bench.study.result import result_of
from bench.training.metrics import scores
from bench.training.recipe import RECIPES


@st.composite
def divisions(draw):
    """Names, pixels of each class in each scene, and shares of two to five parts."""
    scenes, classes = draw(st.integers(5, 24)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    amounts = rng.integers(0, 1000, (scenes, classes)) * (rng.random((scenes, classes)) < draw(st.floats(0.1, 1)))
    shares = rng.dirichlet(np.full(draw(st.integers(2, 5)), 5.0))
    return [f"s{i}" for i in range(scenes)], amounts, shares


def unevenness(amounts, shares, parts):
    """The sum over parts and classes (and scenes) of (share held - share wanted)^2 / share wanted."""
    columns = np.concatenate([amounts[:, amounts.any(0)], np.ones((len(amounts), 1))], 1)
    held = np.array([columns[parts == part].sum(0) / columns.sum(0) for part in range(len(shares))])
    return ((held - shares[:, None]) ** 2 / shares[:, None]).sum()


class TestDivide:
    @given(divisions())
    def test_every_scene_has_one_part_and_no_part_is_empty(self, given):
        _, _, shares = given
        parts = divide(*given)
        assert set(parts) == set(range(len(shares)))

    @given(divisions(), st.randoms())
    def test_the_order_of_scenes_is_nothing(self, given, random):
        names, amounts, shares = given
        order = list(range(len(names)))
        random.shuffle(order)
        again = divide([names[i] for i in order], amounts[order], shares)
        assert (again == divide(*given)[order]).all()

    @given(divisions())
    def test_no_move_and_no_exchange_would_spread_the_classes_better(self, given):
        names, amounts, shares = given
        parts = divide(*given)
        least = unevenness(amounts, shares, parts) - 1e-6
        for one in range(len(names)):
            for part in range(len(shares)):
                moved = parts.copy()
                moved[one] = part
                assert len(set(moved)) < len(shares) or unevenness(amounts, shares, moved) >= least
            for other in range(one):
                exchanged = parts.copy()
                exchanged[[one, other]] = parts[[other, one]]
                assert unevenness(amounts, shares, exchanged) >= least

    @pytest.mark.parametrize("scenes", [40, 4000])
    def test_a_class_of_few_scenes_is_in_every_part(self, scenes):
        """A random division leaves a part without it every other time."""
        rng = np.random.default_rng(1)
        amounts = rng.integers(0, 1000, (scenes, 3))
        amounts[:, 2] = 0
        amounts[rng.choice(scenes, 5, replace=False), 2] = 500
        parts = divide([f"s{i:04d}" for i in range(scenes)], amounts, (0.2,) * 5)
        assert sorted(parts[amounts[:, 2] > 0]) == [0, 1, 2, 3, 4]
        shares = np.array([amounts[parts == part].sum(0) / amounts.sum(0) for part in range(5)])
        np.testing.assert_allclose(shares, 0.2, rtol=0.05)

    def test_fewer_scenes_than_parts_leave_the_last_parts_empty(self):
        assert sorted(divide(["a", "b"], np.array([[5, 1], [2, 2]]), (0.4, 0.3, 0.3))) == [0, 1]


CLASSES = Classes(("Land", "Sea"), ((200, 180, 90), (0, 0, 255)))


def toy(scenes=7, bands=3, dtype=np.uint8, names="{split}{i}"):
    """Three splits of 14, 7 and 7 tiles; tile i of a split was cut from scene i % scenes, which no split respects."""
    rng = np.random.default_rng(0)
    splits = []
    for split, count in (("train", 14), ("val", 7), ("test", 7)):
        images = rng.integers(0, 200, (count, 4, 4, bands)).astype(dtype)
        masks = rng.integers(0, 2, (count, 4, 4)).astype(np.uint8)
        tiles = tuple(names.format(split=split, i=i) for i in range(count))
        told = tuple(f"s{i % scenes}" for i in range(count)) if scenes else ()
        splits.append(Split(split, images, masks, tiles, split, told))
    return assemble("toy", CLASSES, splits, scenes_known=bool(scenes), credit="by nobody", gsd_m=0.5)


def pixels(data):
    """Image, mask and scene of every tile of all splits, by name."""
    return {
        tile: (image.tobytes(), mask.tobytes(), scene)
        for split in data.splits.values()
        for tile, image, mask, scene in zip(split.tiles, split.images, split.masks, split.scenes, strict=True)
    }


class TestFold:
    def test_over_the_folds_every_tile_is_tested_once_and_validated_once(self):
        data = toy()
        for split in ("test", "val"):
            tiles = [tile for k in range(1, 6) for tile in fold(data, k, 5)[split].tiles]
            assert sorted(tiles) == sorted(pixels(data))

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_a_fold_holds_every_tile_as_it_was_and_no_scene_twice(self, k):
        data = toy()
        folded = fold(data, k, 3)
        assert pixels(folded) == pixels(data)
        train, val, test = (set(folded[split].scenes) for split in ("train", "val", "test"))
        assert not (train & val or train & test or val & test) and len(train | val | test) == 7
        assert "new scenes like these" in folded.scope and "new scenes like these" not in data.scope
        assert (folded.credit, folded.scenes_known, folded.classes) == ("by nobody", True, CLASSES)
        assert folded.gsd_m == 0.5

    def test_scenes_of_training_tell_nothing_of_others(self):
        parts = [fold(toy(), k, 7) for k in range(1, 8)]
        assert scenes_tested([toy()]) is None
        assert scenes_tested(parts) == [scene for part in parts for scene in part["test"].scenes]
        assert scenes_tested([fold(toy(scenes=None), k, 7) for k in range(1, 8)]) is None

    def test_the_scope_of_all_folds_is_new_scenes_where_scenes_are_known(self):
        assert "each of the 7 scenes is tested" in scope_of_folds([fold(toy(), k, 7) for k in range(1, 8)])
        unknown = [fold(toy(scenes=0), k, 3) for k in (1, 2, 3)]
        assert scope_of_folds(unknown) == unknown[0].scope

    def test_fold_k_is_validated_on_what_the_next_one_tests(self):
        data = toy()
        folds = [fold(data, k, 4) for k in (1, 2, 3, 4)]
        for this, following in zip(folds, [*folds[1:], folds[0]], strict=True):
            assert set(this["val"].tiles) == set(following["test"].tiles)

    def test_the_identity_of_a_fold_is_its_tiles(self):
        data = toy()
        folds = [fold(data, k, 5) for k in range(1, 6)]
        assert [(f.fold.k, f.fold.of) for f in folds] == [(k, 5) for k in range(1, 6)]
        assert len({f.fold.digest for f in folds}) == len({f.fingerprint for f in folds}) == 5
        assert fold(toy(), 1, 5).fold == folds[0].fold and fold(data, 1, 4).fold.digest != folds[0].fold.digest
        assert data.fold is None

    def test_tiles_without_known_scenes_are_scenes_even_where_splits_share_their_names(self):
        data = toy(scenes=0, names="{i:02d}")
        tiles = [tile for k in range(1, 5) for tile in fold(data, k, 4)["test"].tiles]
        assert len(set(tiles)) == len(tiles) == 28 and "val/03" in tiles and "12" in tiles

    def test_bands_are_measured_on_the_training_tiles_of_the_fold(self):
        folded = fold(toy(bands=5, dtype=np.uint16), 1, 5)
        train, specs = folded["train"], [BandSpec(f"band {i}") for i in range(1, 6)]
        assert folded.bands == measure_bands(train.images, train.masks, folded.classes.num_classes, specs)
        assert fold(toy(), 1, 5).bands == toy().bands

    def test_a_set_that_memory_may_not_hold_is_folded_in_its_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "of-the-user"))
        data, own = toy(), tmp_path / "own"
        mapped = []
        for split in data.splits.values():
            place = own / "tiles" / split.name
            place.mkdir(parents=True)
            np.save(place / "images.npy", split.images)
            mapped.append(replace(split, images=np.load(place / "images.npy", mmap_mode="r")))
        large, held = fold(replace(data, splits={s.name: s for s in mapped}), 2, 5), fold(data, 2, 5)
        assert pixels(large) == pixels(held) and large.fold == held.fold and large.fingerprint == held.fingerprint
        assert all(Path(split.images.filename).is_relative_to(own / "tiles") for split in large.splits.values())
        assert all((large[s].values == held[s].values).all() for s in ("train", "val", "test"))
        assert not (tmp_path / "of-the-user").exists()

    def test_folds_of_world_hold_every_class_to_a_quarter(self):
        """Snow lies in 20 scenes of which three hold most: no division of whole scenes is more even."""
        data = open_data("world")
        counts = [np.bincount(fold(data, k, 5)["test"].masks.ravel(), minlength=10) for k in range(1, 6)]
        shares = np.array(counts) / np.sum(counts, 0)
        np.testing.assert_allclose(shares, 0.2, rtol=0.25)

    @pytest.mark.parametrize(("k", "of"), [(0, 5), (6, 5), (1, 2)])
    def test_another_fold_is_refused(self, k, of):
        with pytest.raises(BenchError, match=f"no fold {k}/{of}"):
            fold(toy(), k, of)

    def test_more_folds_than_scenes_are_refused(self):
        with pytest.raises(BenchError, match="has 7 scenes; 8 folds"):
            fold(toy(), 1, 8)


class TestTrainCommand:
    COMMAND = ("train", "lale-s1", "--set", "widths=8,16,32,32", "--budget", "smoke", "--recipe", "steps=4")
    DATA = "terrain:size=32,train=24,val=8,test=8"

    def test_a_fold_is_trained_and_tested(self, tmp_path, capsys):
        found = {}
        for which in ("1/3", "2/3"):
            out = ("--out", str(tmp_path / which.replace("/", "-")), "--device", "cpu", "--json")
            assert run([*self.COMMAND, "--data", self.DATA, "--fold", which, *out]) == 0
            found[which] = json.loads(capsys.readouterr().out)
        assert [report["fold"] for report in found.values()] == ["1/3", "2/3"]
        assert found["1/3"]["test_macro_f1"] != found["2/3"]["test_macro_f1"]

    @pytest.mark.parametrize(("text", "says"), [("5", "write 2/5"), ("a/b", "write 2/5"), ("9/5", "no fold 9/5")])
    def test_another_fold_is_a_sentence(self, text, says, capsys):
        assert run([*self.COMMAND, "--data", self.DATA, "--fold", text]) == 1
        assert says in capsys.readouterr().err


LAND = "terrain:size=32,train=24,val=8,test=8"
TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
STUDY = VariantStudy(
    name="folded",
    question="Does it hold on every scene?",
    variants=(Variant("tiny", TINY),),
    instruments=("train",),
    figures=("panels", "curves", "confusion", "per_class"),
)


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    recipe = replace(RECIPES["smoke"], steps=4, eval_every=2, warmup_steps=1, batch=2, crop=32)
    setting = Setting(data=LAND, recipe=recipe, seeds=(0,), folds=3, size=(32, 32), out=tmp_path_factory.mktemp("out"))
    plan = plan_study(STUDY, setting)
    run_study(plan)
    return plan


class TestStudy:
    def test_a_seed_is_trained_once_a_fold_under_a_key_of_its_own(self, folded):
        trains = [cell for cell in folded.cells if cell.kind == "train"]
        assert len(trains) == len({cell.key for cell in trains}) == 3
        assert folded.manifest.setting["folds"] == 3

    def test_a_score_is_that_of_the_matrices_of_all_folds_pooled(self, folded):
        result = result_of(load_results(folded.folder))
        records = [folded.store.get(folded.labelled[train_label("tiny", 0, k)].key) for k in (1, 2, 3)]
        matrices = [unpack_array(record.result["test_confusions"]) for record in records]
        assert sum(map(len, matrices)) == len(result.test_scenes) == 40
        pooled = sum(matrix.sum(axis=0) for matrix in matrices)
        assert pooled.sum() == 40 * 32 * 32
        wanted = scores(pooled).macro_f1
        assert result.frame.set_index("variant")["f1"]["tiny"] == pytest.approx(wanted, rel=1e-12)

    def test_scenes_stand_beside_the_tiles_that_were_tested(self, folded):
        result = result_of(load_results(folded.folder))
        data = open_data(LAND)
        tested = [(k, scene) for k in (1, 2, 3) for scene in fold(data, k, 3)["test"].scenes]
        assert result.test_scenes == tuple(scene for _, scene in tested)
        by_fold = result.fold_confusions("tiny")[0]
        assert [len(by_fold[k]) for k in (1, 2, 3)] == [sum(k == one for one, _ in tested) for k in (1, 2, 3)]

    def test_the_report_has_its_figures_and_says_that_there_are_folds(self, folded):
        report = write_report(folded.folder, LAND)
        assert {"panels.png", "curves.png", "per-class.png"} <= {path.name for path in report.files}
        assert "1 seed on each of 3 folds of whole scenes" in report.caption

    def test_a_seed_with_a_fold_missing_is_not_scored(self, folded, tmp_path):
        shutil.copytree(folded.folder.parent, tmp_path / "out")
        key = folded.labelled[train_label("tiny", 0, 2)].key
        next((tmp_path / "out" / "records").rglob(f"{key}*.json")).unlink()
        result = result_of(load_results(tmp_path / "out" / "folded"))
        assert result.confusions("tiny") == {} and sorted(result.fold_confusions("tiny")[0]) == [1, 3]
        row = result.frame.set_index("variant").loc["tiny"]
        assert (row["status"], row["reason"], row["seeds"]) == ("incomplete", "1 of 3 trainings not measured yet", 0)
