"""A set of twelve 16-bit bands, as satellites deliver it, through every command that a user of it runs."""

import json

import numpy as np
import pytest

from bench.cli.app import run
from bench.data import open_data
from bench.records import RecordStore

pytest.importorskip("rasterio")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
TELLING = 9  # the only band that the class can be seen in: beyond the first three
QUICK = ("--budget", "smoke", "--recipe", "steps=12", "--recipe", "eval_every=12", "--recipe", "lr=0.01")
SMALL = ("--set", "widths=8,16,32,32", "--set", "head_width=16", "--set", "decoder_width=16")
STUDY = """
import archs
from dataclasses import replace
from bench.study import Variant, VariantStudy

TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16)
STUDY = VariantStudy(
    name="bands",
    question="Which activation on twelve bands?",
    variants=(Variant("base", TINY), Variant("gelu", replace(TINY, act="gelu"), "act")),
    base="base",
    figures=("ablation", "panels", "confusion", "curves", "per_class", "pareto"),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiles of 32 px in ten thousandths of reflectance: noise in eleven bands, land and water in one."""
    from bench.data.pixels import write_raster

    place, rng = tmp_path_factory.mktemp("bands"), np.random.default_rng(0)
    from PIL import Image

    for split, count in (("train", 16), ("val", 8), ("test", 8)):
        for kind in ("images", "masks"):
            (place / split / kind).mkdir(parents=True)
        for i in range(count):
            mask = np.kron(rng.integers(0, 2, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
            image = rng.integers(200, 3000, (32, 32, len(BANDS))).astype(np.uint16)
            image[..., TELLING] = 800 + 4000 * mask.astype(int) + rng.integers(0, 300, mask.shape)
            write_raster(place / split / "images" / f"s{i // 2}_{split}_{i}.tif", image, BANDS)
            Image.fromarray(mask).save(place / split / "masks" / f"s{i // 2}_{split}_{i}.png")
    rows = [{"name": "Water", "rgb": [0, 0, 255]}, {"name": "Land", "rgb": [0, 120, 0]}]
    bands = [{"name": name, "scale": 1e-4} for name in BANDS]
    table = {"dataset": "twelve", "classes": rows, "bands": bands, "scene": "^(s[0-9]+)_"}
    (place / "classes.json").write_text(json.dumps(table))
    return place


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))


def test_the_set_is_what_it_says(folder, capsys):
    data = open_data(folder)
    assert data.in_channels == 12 and data["train"].images.dtype == np.uint16
    assert [band.name for band in data.bands] == list(BANDS) and data.bands[0].scale == 1e-4
    assert run(["data", "check", str(folder)]) == 0
    assert run(["data", "draw", "tiles.png", "--data", str(folder)]) == 0


def test_a_training_learns_from_a_band_beyond_the_third_and_is_exported(folder, tmp_path, capsys):
    train = ["train", "lale-s1", *SMALL, *QUICK, "--recipe", "steps=60", "--device", "cpu", "--json"]
    assert run([*train, "--data", str(folder), "--out", "trained"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["test_macro_f1"] > 0.9
    assert run(["export", "trained/config.json", "--onnx", "net.onnx", "--size", "32", "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["onnx"]["agreement"] > 0.999
    import onnxruntime

    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 12, 32, 32]


def test_a_study_builds_counts_times_and_trains_twelve_bands(folder, tmp_path, capsys):
    (tmp_path / "own.py").write_text(STUDY)
    study = ["study", "own.py", *QUICK, "--size", "32", "--seeds", "2", "--batch", "1", "--device", "cpu"]
    assert run([*study, "--data", str(folder), "--folds", "3", "--out", "out", "--json"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert all(row["status"] in ("", None) and row["seeds"] == 2 for row in rows.values())
    import archs
    from bench.counting import count_macs, count_params

    tiny = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16)
    network = archs.build(tiny, 2, 12)
    assert rows["base"]["params"] == count_params(network).total
    assert rows["base"]["macs"] == count_macs(network, (32, 32), in_channels=12).total
    assert (tmp_path / "out" / "bands" / "figures" / "panels.png").exists()


def test_a_search_prices_and_trains_twelve_bands_and_its_front_is_exported(folder, tmp_path, capsys):
    search = ["search", "--free", "depths", "--trials", "2", "--sampler", "random", "--size", "32", "--seeds", "2"]
    assert run([*search, *SMALL, *QUICK, "--data", str(folder), "--out", "out", "--device", "cpu", "--json"]) == 0
    capsys.readouterr()
    records = RecordStore(tmp_path / "out" / "records")
    assert {record.status for record in records.all()} == {"ok"}
    members = sorted((tmp_path / "out").glob("search-*/front/*.json"))
    assert members
    assert run(["export", str(members[0]), "--onnx", "member.onnx", "--size", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["onnx"]["agreement"] > 0.999
