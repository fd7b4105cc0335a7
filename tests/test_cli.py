"""The command line: what a user sees when all is well, and the one sentence when it is not."""

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_official import official

import archs
from bench.cli.app import run
from bench.cli.options import parse_seeds
from bench.cli.reporting import _recipe
from bench.cli.training import run_name
from bench.counting import count_macs
from bench.study import Variant
from bench.training.checkpoint import save_weights
from bench.training.recipe import RECIPES

DATA = "terrain:size=32,train=8,val=4,test=4"
SMOKE = ("--budget", "smoke", "--data", DATA, "--device", "cpu")
OWN = """
import archs
from bench.study import Variant, VariantStudy

TINY = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16)
STUDY = VariantStudy(
    name="own",
    question="Does depth pay?",
    base="depth 1",
    variants=[Variant(f"depth {d}", archs.override(TINY, depths=(d,) * 4), "depth") for d in (1, 2)],
    figures=("ablation",),
)
"""
PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from torch import nn
import archs

@dataclass(frozen=True)
class OneConvConfig:
    family: ClassVar[str] = "one-conv"
    kernel: int = 3
    def build(self, num_classes, in_channels):
        return nn.Conv2d(in_channels, num_classes, self.kernel, padding=self.kernel // 2)

if "one-conv" not in archs.names():
    archs.register("one-conv", OneConvConfig(), archs.Provenance("none", 2026, "here", "MIT"))
"""


UNCOUNTED = PLUGIN.replace("one-conv", "far").replace(
    "return nn.Conv2d(in_channels, num_classes, self.kernel, padding=self.kernel // 2)",
    "return Far(in_channels, num_classes)",
).replace("@dataclass", """import torch

class Far(nn.Conv2d):
    def __init__(self, bands, classes):
        super().__init__(bands, classes, 1)

    def forward(self, x):
        rows = super().forward(x).flatten(2)
        return torch.cdist(rows, rows).sum((1, 2))[:, None, None, None] + super().forward(x)

@dataclass""", 1)  # fmt: skip


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))


def test_a_study_gets_a_folder_of_another_name(tmp_path, capsys):
    Path("own.py").write_text(OWN)
    given = ["study", "own.py", *SMOKE, "--instruments", "static", "--out", "runs"]
    assert run([*given, "--name", "other"]) == 0
    assert {path.name for path in Path("runs").iterdir()} == {"other", "records"}
    assert "without a slash" in refusal(capsys, *given, "--name", "a/b")


def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("lale-bench")


def refusal(capsys, *arguments: str) -> str:
    """The sentence of a command that must fail with status 1."""
    assert run(list(arguments)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.fixture
def tiles(tmp_path) -> Path:
    """A folder of tiles in which all is well: 32 px, two classes, two tiles a split."""
    folder = tmp_path / "tiles"
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for name in ("a", "b"):
            image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            mask = rng.integers(0, 2, (32, 32), dtype=np.uint8)
            for kind, pixels in (("images", image), ("masks", mask)):
                Image.fromarray(pixels).save(folder / split / kind / f"{name}.png")
    classes = [{"index": i, "name": name, "rgb": [i, i, i]} for i, name in enumerate(("Land", "Water"))]
    table = {"dataset": "tiles", "ignore_index": 255, "classes": classes}
    (folder / "classes.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


# --- what works -------------------------------------------------------------------------------------------------


def test_a_study_of_ones_own_in_a_file(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    only = ["--size", "32", "--instruments", "static,train"]
    assert run(["study", "own.py", *SMOKE, "--seeds", "1", *only, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in report["rows"]] == ["depth 1", "depth 2"]
    assert run(["plot", "runs/own", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == report["rows"]
    assert run(["study", "own.py", *SMOKE, "--seeds", "1", *only]) == 0  # nothing is left to measure
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    page = Path("runs/own/report.html").read_text(encoding="utf-8")
    assert "depth 2" in page and "data:image/" in page  # with pictures of its data


@pytest.mark.slow
def test_a_search_ends_by_naming_its_report(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = [word for change in ("steps=3", "eval_every=3", "crop=16") for word in ("--recipe", change)]
    assert run(["search", *SMOKE, *recipe, "--trials", "2", "--seeds", "1", "--size", "64", "--name", "mine"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "mine-front" in Path("runs/mine/report.html").read_text(encoding="utf-8")


def test_a_study_file_from_before_the_protocol_is_told_what_to_write(tmp_path, capsys):
    (tmp_path / "old.py").write_text(OWN.replace("VariantStudy", "Study"), encoding="utf-8")
    sentence = refusal(capsys, "study", "old.py", *SMOKE)
    assert "old.py makes a Study of bench.study, which is a protocol now: make a VariantStudy" in sentence


def test_a_study_file_says_what_is_measured_and_may_import_its_neighbours(tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "neighbour_of_own.py").write_text("FIGURES = ('ablation',)", encoding="utf-8")
    own = OWN.replace('("ablation",)', "neighbour_of_own.FIGURES, instruments=('static',)")
    (tmp_path / "sub" / "own.py").write_text("import neighbour_of_own\n" + own, encoding="utf-8")
    for asked, kinds in (([], {"static"}), (["--instruments", "train"], {"train", "baselines"})):
        assert run(["study", "sub/own.py", *SMOKE, *asked, "--dry-run", "--json"]) == 0
        assert {cell["kind"] for cell in json.loads(capsys.readouterr().out)["cells"]} == kinds


def test_an_error_in_a_users_file_is_told_by_its_line(tmp_path, capsys):
    (tmp_path / "bad.py").write_text("import archs\n\nWIDTH = 8 / 0\n", encoding="utf-8")
    (tmp_path / "worse.py").write_text("import archs\nWIDTH = = 8\n", encoding="utf-8")
    assert "bad.py, line 3: ZeroDivisionError: division by zero" in refusal(capsys, "study", "bad.py", *SMOKE)
    assert "worse.py, line 2: SyntaxError: " in refusal(capsys, "--plugin", "worse.py", "list", "lale-s1")


def test_hours_without_settle_and_a_searchs_own_seed_are_refused(tmp_path, capsys):
    assert "--hours is how long --settle may take" in refusal(capsys, "study", "ablation", *SMOKE, "--hours", "1")
    archs.save_config(archs.config("lale-nano"), tmp_path / "found.json", seed=0)
    added = ["study", "winners", *SMOKE, "--add", "found.json", "--dry-run"]
    assert "found.json was chosen by its training with seed 0" in refusal(capsys, *added)
    assert run([*added, "--seeds", "1,2"]) == 0
    archs.save_config(archs.config("lale-nano"), tmp_path / "found.json", seed=3)
    assert "--settle may add" in refusal(capsys, *added, "--seeds", "1,2", "--settle")


def test_a_study_takes_no_folder_of_a_search(tmp_path, capsys):
    (tmp_path / "runs" / "small").mkdir(parents=True)
    (tmp_path / "runs" / "small" / "search.json").write_text("{}")
    said = refusal(capsys, "study", "winners", *SMOKE, "--name", "small", "--out", str(tmp_path / "runs"))
    assert "small holds a search: give another --name for the study" in said


def test_names_with_brackets_are_shown_and_chosen_whole(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN.replace("depth {d}", "norm[batch{d}]"), encoding="utf-8")
    only = ["--variants", "norm[batch2]", "--instruments", "static", "--dry-run"]
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text().replace('"depth 1"', '"norm[batch1]"'))
    assert run(["study", "own.py", *SMOKE, *only]) == 0
    shown = capsys.readouterr().out
    assert "norm[batch2]" in shown and "norm[batch1]" in shown  # the base comes along
    assert run(["study", "own.py", *SMOKE, "--folds", "-3"]) != 0


def test_a_dry_run_names_the_cells_and_measures_nothing(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    assert run(["study", "own.py", *SMOKE, "--seeds", "2", "--dry-run", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["kind"] for cell in cells] == ["static"] * 2 + ["speed"] * 2 + ["train"] * 4 + ["baselines"]
    assert {cell["status"] for cell in cells} == {"missing"}
    assert not list(tmp_path.rglob("records/*/*.json"))
    chosen = ["--variants", "depth 1", "--add", "lale-nano", "--instruments", "train", "--seeds", "1"]
    assert run(["study", "own.py", *SMOKE, *chosen, "--dry-run", "--json"]) == 0  # what is added needs no pattern
    labels = [cell["cell"] for cell in json.loads(capsys.readouterr().out)["cells"] if cell["kind"] == "train"]
    assert labels == ["depth 1, seed 0", "lale-nano, seed 0"]


def test_an_architecture_of_ones_own_trains_and_its_weights_load_again(tmp_path, capsys):
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    command = ["--plugin", "plugin.py", "train", "one-conv", *SMOKE, "--recipe", "steps=4", "--json"]
    assert run([*command, "--out", "one"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4
    assert run([*command, "--out", "two", "--weights", "one/weights.safetensors"]) == 0
    assert json.loads((tmp_path / "one" / "config.json").read_text())["config"] == {"family": "one-conv", "kernel": 3}


def test_each_run_of_train_has_a_folder_of_its_own(tmp_path, capsys):
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    command = ["--plugin", "plugin.py", "train", "one-conv", *SMOKE, "--json"]
    others = ([], ["--seed", "1"], ["--recipe", "steps=4"], ["--set", "kernel=1"])

    def folder(*more):
        assert run([*command, *more]) == 0
        return json.loads(capsys.readouterr().out)["folder"]

    folders = [folder(*other) for other in others]
    weights = ["--weights", f"{folders[0]}/weights.safetensors"]
    folders.append(folder(*weights))
    assert len(set(folders)) == len(folders)
    assert folders[0].startswith("runs/train/one-conv-terrain-smoke-0")
    assert folder(*weights) == folders[-1]  # the same run goes on in its folder
    assert run([*command, *weights, "--out", folders[0]]) == 1  # a folder that was named is another run's
    assert "is of another run" in capsys.readouterr().err


def test_a_run_is_called_after_its_network_data_budget_and_seed():
    assert run_name(["lale-s1", "world", "standard", "0"], [None, None]) == "lale-s1-world-standard-0"
    names = {run_name(["a/b", "my land", "quick", "0"], [one]) for one in ("x", ["y"], "z")}
    assert len(names) == 3 and all(name.startswith("a_b-my_land-quick-0-") for name in names)


def test_measure_counts_what_it_is_given(capsys):
    assert run(["measure", "lale-s1", "--size", "64", "--no-speed", "--device", "cpu", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["params"] == 1_567_109
    assert row["macs"] == count_macs(archs.create("lale-s1"), (64, 64)).total
    assert row["peak_inference_bytes"] > 64 * 64 * 3 * 4
    assert "peak_training_bytes" not in row


def test_measure_names_what_no_counter_counted_and_other_numbers_of_classes(tmp_path, capsys):
    Path("plugin.py").write_text(UNCOUNTED)
    command = ["--plugin", "plugin.py", "measure", "far", "lale-fast@world", "--size", "32", "--no-speed", "--device"]
    assert run([*command, "cpu"]) == 0
    out = capsys.readouterr().out
    assert "far: not counted by any, so that its MACs are more: " in out and "cdist" in out
    assert "lale-fast@world: 10 classes: all of its figures are of so many" in out


def test_measure_says_what_training_needs(capsys):
    command = ["measure", "lale-s1", "--size", "64", "--no-speed", "--device", "cpu", "--train-batch", "2", "--json"]
    assert run(command) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["peak_training_bytes"] > 4 * 4 * row["params"]  # weights, gradients, two moments of AdamW


def test_measure_takes_a_network_tied_to_one_size_at_that_size(tmp_path, capsys):
    tied = 'archs.register("tied", OneConvConfig(), archs.Provenance("none", 2026, "here", "MIT"), {})'
    plugin = PLUGIN + 'if "tied" not in archs.names():\n    ' + tied.format("archs.InputRule(fixed=(24, 16))")
    (tmp_path / "plugin.py").write_text(plugin, encoding="utf-8")
    command = ["--plugin", "plugin.py", "measure", "tied", "--size", "32", "--no-speed", "--device", "cpu"]
    assert run(command) == 0
    found = capsys.readouterr().out
    assert "tied: tied to 24x16: all of its figures are at that size" in found
    assert "does not fit" not in found


def test_measure_times_a_form_and_sweeps_the_batch(tmp_path, capsys):
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    command = ["--plugin", "plugin.py", "measure", "one-conv", "--size", "16", "--device", "cpu", "--form", "deployed"]
    assert run([*command, "--batch", "1", "--threads", "1", "--sweep-batches", "--sweep-seconds", "0", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["speed_batch_1"]["protocol"]["form"] == "deployed"
    assert row["throughput"] == row["speed_batch_1"]["throughput"]
    assert 0 < row["ceiling_share_low"] <= row["ceiling_share"] <= row["ceiling_share_high"]
    assert row["sweep"]["ended"] == "the time was up"
    assert [point["batch"] for point in row["sweep"]["points"]] == [1]
    assert row["best_throughput"] == row["sweep"]["points"][0]["throughput"]


def test_measure_says_what_a_device_has_not_before_it_counts(capsys):
    assert "for NVIDIA GPUs" in refusal(capsys, "measure", "lale-s1", "--device", "cpu", "--runtime", "cudagraphs")
    assert "precision tf32 is" in refusal(capsys, "measure", "lale-s1", "--device", "cpu", "--precision", "tf32")
    assert "form 'fused' is not known" in refusal(capsys, "measure", "lale-s1", "--form", "fused")


def test_verify_holds_for_lale(capsys):
    assert run(["verify", "lale-s1", "--json"]) == 0
    assert all(check["ok"] for check in json.loads(capsys.readouterr().out))


def test_data_check_and_tile(tiles, tmp_path, capsys):
    assert run(["data", "check", str(tiles), "--json"]) == 0
    large = tmp_path / "large"
    for kind in ("images", "masks"):
        shutil.copytree(tiles / "train" / kind, large / kind)
    for name in ("a", "b"):
        for kind in ("images", "masks"):
            Image.open(large / kind / f"{name}.png").resize((64, 64), 0).save(large / kind / f"{name}.png")
            shutil.copy(large / kind / f"{name}.png", large / kind / f"{name}2.png")
    shutil.copy(tiles / "classes.json", large / "classes.json")
    arguments = ["--size", "32", "--split", "0.5,0.25,0.25", "--classes", str(large / "classes.json")]
    assert run(["data", "tile", str(large / "images"), str(large / "masks"), "cut", *arguments]) == 0
    assert len((tmp_path / "cut" / "manifest.csv").read_text().splitlines()) == 17


# --- what does not ----------------------------------------------------------------------------------------------


def test_unknown_architectures_offer_the_nearest(capsys):
    assert "did you mean lale-s" in refusal(capsys, "show", "lale-s0")
    assert "did you mean norm?" in refusal(capsys, "show", "lale-s1", "--set", "nrom=gelu")
    assert "no architecture matches 'nothing*'" in refusal(capsys, "list", "nothing*")


def test_a_single_seed_and_every_field_of_a_recipe_can_be_named_again():
    assert (parse_seeds("3"), parse_seeds("5,"), parse_seeds("4,5")) == ((0, 1, 2), (5,), (4, 5))
    recipe = replace(RECIPES["standard"], ema=None, select="last")
    assert _recipe(recipe.to_dict()) == ["--budget", "standard", "--recipe", "ema=none", "--recipe", "select=last"]
    assert _recipe(RECIPES["standard"].to_dict()) == ["--budget", "standard"]


def test_training_replaces_no_other_network(tmp_path, capsys):
    (tmp_path / "theirs").mkdir()
    archs.save_config(archs.config("lale-fast"), tmp_path / "theirs" / "config.json")
    said = refusal(capsys, "train", "lale-s1", "--data", DATA, "--budget", "smoke", "--out", str(tmp_path / "theirs"))
    assert "theirs holds config.json of another network: give another --out" in said
    assert Variant.named(str(tmp_path / "theirs" / "config.json")).label == "theirs"


def test_unknown_studies_budgets_devices_and_seeds(capsys):
    assert "there are ablation, benchmark" in refusal(capsys, "study", "nothing")
    assert "smoke, quick, standard, paper" in refusal(capsys, "study", "ablation", "--budget", "huge")
    assert "device 'tpu' is not known" in refusal(capsys, "study", "ablation", "--device", "tpu")
    assert "names no seeds" in refusal(capsys, "study", "ablation", "--seeds", "0", "--data", DATA)
    assert "there is no study file" in refusal(capsys, "study", "missing.py")


def test_a_corrupt_image_is_named(tiles, capsys):
    (tiles / "val" / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert "b.png" in refusal(capsys, "train", "lale-s1", "--data", str(tiles), "--budget", "smoke")
    assert run(["data", "check", str(tiles)]) == 1


def test_a_mask_value_beyond_the_classes_is_named(tiles, capsys):
    Image.fromarray(np.full((32, 32), 7, dtype=np.uint8)).save(tiles / "train" / "masks" / "a.png")
    sentence = refusal(capsys, "train", "lale-s1", "--data", str(tiles), "--budget", "smoke")
    assert "a.png" in sentence and "7" in sentence


def test_images_without_masks_and_empty_splits(tiles, capsys):
    (tiles / "test" / "masks" / "a.png").unlink()
    assert "a" in refusal(capsys, "train", "lale-s1", "--data", str(tiles), "--budget", "smoke")
    shutil.rmtree(tiles / "test")
    assert "test" in refusal(capsys, "train", "lale-s1", "--data", str(tiles), "--budget", "smoke")


def test_a_wrong_palette_names_file_and_colour(tiles, capsys):
    Image.fromarray(np.full((32, 32, 3), 99, dtype=np.uint8)).save(tiles / "train" / "masks" / "a.png")
    sentence = refusal(capsys, "train", "lale-s1", "--data", str(tiles), "--budget", "smoke")
    assert "a.png" in sentence and "99" in sentence


def test_weights_of_another_architecture_are_refused_and_nothing_is_written(tmp_path, capsys):
    save_weights(archs.create("lale-s1", norm="layernorm"), tmp_path / "other.safetensors")
    sentence = refusal(capsys, "train", "lale-s1", *SMOKE, "--weights", "other.safetensors")
    assert "another architecture" in sentence
    assert not (tmp_path / "runs").exists()


def test_a_network_that_cannot_train_on_one_image_says_so(capsys):
    arguments = ("train", "lwganet-l0+mlp", *SMOKE, "--recipe", "batch=1", "--out", "one")
    assert "cannot train on a batch of 1 at 32x32" in refusal(capsys, *arguments)


def test_an_official_checkpoint_starts_a_training(tmp_path, capsys):
    torch.save({"state_dict": official("lwganet_l0.tsv")}, tmp_path / "official.pth")
    arguments = ("train", "lwganet-l0+mlp", *SMOKE, "--weights", "official.pth", "--out", "own", "--json")
    assert run(list(arguments)) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["steps"] > 0
    assert "decoder" in shown.err  # what the file cannot have is listed
    assert (tmp_path / "own" / "weights.safetensors").exists()


def test_an_impossible_budget_trains_nothing(tmp_path, capsys):
    sentence = refusal(capsys, "search", *SMOKE, "--max-params", "10")
    assert "max" in sentence
    assert not list(tmp_path.rglob("records/train/*.json"))


def test_the_seed_of_a_search_cannot_judge_its_front(capsys):
    assert "the search's own" in refusal(capsys, "search", *SMOKE, "--seed", "1", "--seeds", "1,2")


def test_a_mistyped_option_is_a_usage_error(capsys):
    assert run(["list", "--sorted"]) == 2
