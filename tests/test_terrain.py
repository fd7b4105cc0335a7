"""`terrain`: the same on every machine and call, long-tailed, and beyond a classifier that sees only colours."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.data import ARAS400K_CLASSES, Classes, open_data
from bench.data.dataset import Split, assemble
from bench.data.terrain import generate, make_tile
from bench.data.terrain.generate import TILES_A_SCENE, scene_of
from bench.data.terrain.noise import divide, fractal, grid, smooth
from bench.errors import BenchError
from bench.training.baseline import colour_baseline, majority_baseline
from bench.training.metrics import confusion, scores


@pytest.fixture(scope="module")
def data():
    return open_data("terrain:train=160,val=8,test=64")


class TestDeterminism:
    def test_equal_options_give_equal_data(self):
        source = "terrain:seed=3,size=32,train=4,val=2,test=2"
        assert open_data(source).fingerprint == open_data(source).fingerprint
        assert open_data(source).fingerprint != open_data(source.replace("seed=3", "seed=4")).fingerprint

    def test_a_tile_does_not_depend_on_how_many_there_are(self, data):
        part = data["train"]
        for index in (0, 9, 130):
            image, mask = make_tile(0, "train", index, 64)
            assert np.array_equal(part.images[index], image) and np.array_equal(part.masks[index], mask)

    def test_tiles_differ(self, data):
        tiles = [image.tobytes() for split in data.splits.values() for image in split.images]
        assert len(set(tiles)) == len(tiles)

    def test_scenes_belong_to_one_split(self):
        scenes = {}
        for split in ("train", "val", "test"):
            for index in range(0, 5 * TILES_A_SCENE, TILES_A_SCENE):
                soil = scene_of(0, split, index).soil.tobytes()
                assert soil == scene_of(0, split, index + TILES_A_SCENE - 1).soil.tobytes()
                assert scenes.setdefault(soil, split) == split
        assert len(scenes) == 15

    @pytest.mark.parametrize(
        ("split", "index", "counts", "colour"),
        [
            ("train", 0, [1320, 0, 2333, 0, 0, 443, 0], [116.15, 120.62, 78.78]),
            ("train", 100, [0, 0, 550, 3314, 232, 0, 0], [127.26, 123.88, 88.34]),
            ("val", 17, [1383, 1020, 378, 0, 0, 872, 443], [106.12, 102.71, 84.49]),
            ("test", 41, [0, 0, 0, 3124, 0, 227, 745], [152.52, 156.51, 124.33]),
        ],
    )
    def test_the_landscapes_are_those_of_the_reference_runs(self, split, index, counts, colour):
        """Up to the last bits of floating point, which differ between processors."""
        image, mask = make_tile(0, split, index, 64)
        assert np.abs(np.bincount(mask.ravel(), minlength=7) - counts).max() <= 8
        assert image.mean((0, 1)) == pytest.approx(colour, abs=0.5)


class TestContents:
    def test_it_is_a_data_set_of_the_aras400k_classes(self, data):
        assert data.name == "terrain" and data.classes == ARAS400K_CLASSES and data.tile_size == (64, 64)
        assert {name: len(split) for name, split in data.splits.items()} == {"train": 160, "val": 8, "test": 64}
        for split in data.splits.values():
            assert split.images.dtype == split.masks.dtype == np.uint8
            assert split.masks.max() < 7

    def test_shares_are_long_tailed_and_every_class_is_there(self, data):
        for name in ("train", "test"):
            shares = np.bincount(data[name].masks.ravel(), minlength=7) / data[name].masks.size
            assert shares.min() > 0.01
            assert shares.max() > 4 * shares.min()
            assert np.sort(shares)[-2:].sum() > 0.4

    def test_most_tiles_show_several_classes(self, data):
        assert np.mean([len(np.unique(mask)) for mask in data["train"].masks]) > 3

    @settings(max_examples=8, deadline=None)
    @given(size=st.integers(16, 90), seed=st.integers(0, 10**6), index=st.integers(0, 10**6))
    def test_any_size_and_seed(self, size, seed, index):
        image, mask = make_tile(seed, "val", index, size)
        assert image.shape == (size, size, 3) and mask.shape == (size, size)
        assert image.dtype == mask.dtype == np.uint8 and mask.max() < 7
        assert 8 < image.mean() < 247 and image.std() > 1

    def test_large_splits_are_generated_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(generate, "KEPT_FROM", 3 * 16**2)
        source, seen = "terrain:size=16,train=3,val=2,test=9", []
        first = open_data(source, cache=tmp_path)
        monkeypatch.setattr(generate, "make_tile", lambda *which: seen.append(which) or make_tile(*which))
        again = open_data(source, cache=tmp_path)
        assert [split for _, split, _, _ in seen] == ["val", "val"]
        assert again.fingerprint == first.fingerprint
        for name, split in first.splits.items():
            assert (again[name].images == split.images).all() and (again[name].masks == split.masks).all()
            assert again[name].tiles == split.tiles and again[name].images.flags.writeable
        assert open_data(f"{source},seed=1", cache=tmp_path).fingerprint != first.fingerprint

    def test_a_split_kept_by_other_code_is_made_again(self, tmp_path, monkeypatch):
        code = tmp_path / "generate.py"
        code.write_text("old")
        monkeypatch.setattr(generate, "KEPT_FROM", 1)
        monkeypatch.setattr(generate, "SOURCES", [code])
        source, seen = "terrain:size=16,train=1,val=1,test=1", []
        open_data(source, cache=tmp_path / "cache")
        monkeypatch.setattr(generate, "make_tile", lambda *which: seen.append(which) or make_tile(*which))
        open_data(source, cache=tmp_path / "cache")
        assert seen == []
        code.write_text("newer")
        open_data(source, cache=tmp_path / "cache")
        assert len(seen) == 3

    def test_a_cache_that_cannot_be_written_costs_time_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(generate, "KEPT_FROM", 1)
        (tmp_path / "file").write_text("not a folder")
        source = "terrain:size=16,train=1,val=1,test=1"
        kept, made = (open_data(source, cache=tmp_path / name) for name in ("cache", "file"))
        assert kept.fingerprint == made.fingerprint

    def test_only_the_splits_asked_for_are_generated(self):
        seen = []
        data = open_data(
            "terrain:size=16,train=3,val=2,test=9", ("train", "val"), progress=lambda *now: seen.append(now)
        )
        assert list(data.splits) == ["train", "val"]
        assert seen == [(i, 5, "generating terrain") for i in range(1, 6)]

    @pytest.mark.parametrize(
        ("source", "complaint"),
        [
            ("terrain:tiles=3", "tiles=3"),
            ("terrain:size=big", "size=big"),
            ("terrain:size=4", "4 pixels"),
            ("terrain:val=0", "split val"),
            ("terrain:seed=-1", "seed=-1"),
        ],
    )
    def test_options_that_cannot_be(self, source, complaint):
        with pytest.raises(BenchError, match=complaint):
            open_data(source)

    def test_a_split_that_it_does_not_have(self):
        with pytest.raises(BenchError, match="synth"):
            open_data("terrain", ("train", "synth"))


class TestColourIsNotEnough:
    def test_a_colour_table_stays_low_and_a_majority_guess_lower(self, data):
        majority, colour = (scores(f(data)).macro_f1 for f in (majority_baseline, colour_baseline))
        assert 0 < majority < 0.1 < colour < 0.47

    def test_so_does_a_boosted_classifier_of_colours(self, data):
        from sklearn.ensemble import HistGradientBoostingClassifier

        (colours, labels), (seen, truth) = (some_pixels(data[split], 12_000) for split in ("train", "test"))
        model = HistGradientBoostingClassifier(max_iter=15, class_weight="balanced", random_state=0)
        guess = model.fit(colours, labels).predict(seen).astype(np.uint8)
        assert scores(confusion(guess[None, None], truth[None, None], 7, 255).sum(0)).macro_f1 < 0.5

    def test_a_small_network_that_sees_around_a_pixel_is_far_above(self, data):
        colour = scores(colour_baseline(data)).macro_f1
        assert scores(trained(neighbourhood(), data, steps=120)).macro_f1 > colour + 0.1


def some_pixels(split, count):
    """Colours (count, 3) and classes (count,) of random pixels."""
    pick = np.random.default_rng(0).choice(split.masks.size, count, False)
    return split.images.reshape(-1, 3)[pick], split.masks.ravel()[pick]


class Around(nn.Module):
    """Looks one step of four pixels around, and adds what it saw."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(48, 48, 1), nn.BatchNorm2d(48), nn.ReLU())
        self.look = nn.Sequential(nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.BatchNorm2d(48))

    def forward(self, x):
        return x + self.look(self.mix(x))


def neighbourhood():
    """Six 3x3 convolutions: each logit sees 35 pixels across, and stands for 4x4."""

    def block(inputs, outputs, stride):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())

    torch.manual_seed(0)
    stem = [block(3, 24, 2), block(24, 32, 1), block(32, 48, 2)]
    return nn.Sequential(
        *stem, *(Around() for _ in range(3)), nn.Conv2d(48, 7, 1), nn.UpsamplingBilinear2d(scale_factor=4)
    )


def trained(model, data, steps):
    """Confusion matrix on the test tiles after a short training."""
    images, masks = (torch.from_numpy(part) for part in (data["train"].images, data["train"].masks))
    optimiser = torch.optim.AdamW(model.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.2)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randint(len(images), (12,), generator=draw)
        loss = nn.functional.cross_entropy(model(floats(images[batch])), masks[batch].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        guess = model(floats(torch.from_numpy(data["test"].images))).argmax(1).to(torch.uint8)
    return confusion(guess, torch.from_numpy(data["test"].masks), 7, 255).sum(0)


def floats(images):
    return images.permute(0, 3, 1, 2).float().div(255).sub(0.4).div(0.2)


class TestBaselines:
    @staticmethod
    def by_hand():
        """Two colours, and pixels of class 1 that no colour tells from class 0."""
        images = np.zeros((1, 2, 4, 3), np.uint8)
        images[0, 1] = 200
        masks = np.array([[[0, 0, 0, 1], [2, 2, 2, 255]]], np.uint8)
        classes = Classes(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
        part = {name: Split(name, images, masks, ("t",), name) for name in ("train", "test")}
        return assemble("by hand", classes, part.values())

    def test_colour_table(self):
        assert colour_baseline(self.by_hand()).tolist() == [[3, 0, 0], [1, 0, 0], [0, 0, 3]]

    def test_majority(self):
        assert majority_baseline(self.by_hand()).tolist() == [[3, 0, 0], [1, 0, 0], [3, 0, 0]]

    def test_an_unmet_colour_is_judged_by_its_neighbourhood(self):
        data = self.by_hand()
        other = Split("test", data["test"].images + np.uint8(9), data["test"].masks, ("t",), "other")
        moved = assemble("moved", data.classes, [data["train"], other])
        assert colour_baseline(moved).tolist() == [[3, 0, 0], [1, 0, 0], [0, 0, 3]]


class TestMaterials:
    @pytest.mark.parametrize("wavelength", [3, 17, 90])
    def test_noise_has_unit_variance(self, wavelength):
        fields = [smooth(np.random.default_rng(seed), 64, wavelength) for seed in range(300)]
        assert np.mean(fields) == pytest.approx(0, abs=0.15)
        assert np.mean(np.square(fields)) == pytest.approx(1, abs=0.15)

    def test_octaves_keep_it(self):
        fields = [fractal(np.random.default_rng(seed), 48, 30, 4, 0.6) for seed in range(300)]
        assert np.mean(np.square(fields)) == pytest.approx(1, abs=0.15)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), angle=st.floats(0, 3.2), width=st.floats(4, 30), length=st.floats(4, 50))
    def test_plots_are_plots(self, seed, angle, width, length):
        plots = divide(np.random.default_rng(seed), grid(40), angle, width, length)
        assert plots.ident.min() >= 0 and plots.ident.max() < plots.count
        assert plots.edge.min() > -0.01 and plots.edge.max() <= 0.75 * max(width, length) + 0.01
        field = np.random.default_rng(seed).random((40, 40))
        means = plots.mean(field)
        some = plots.ident[20, 20]
        assert means[some] == pytest.approx(field[plots.ident == some].mean())
