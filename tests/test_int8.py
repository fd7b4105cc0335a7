"""int8 within an allowed loss: which operators go back into float, and that they are the same wherever it is run."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tinyland import tinyland
from torch import nn

import archs
from bench.cli.app import run
from bench.data import DataSet
from bench.errors import BenchError
from bench.records.identity import changed_fields
from bench.scenes.accuracy import PrecisionScore, accuracy_columns
from bench.scenes.accuracy_control import macro_f1, network_within
from bench.scenes.evaluation import evaluate_network, evaluate_trained
from bench.speed.cells import speed_cell
from bench.speed.measure import Contender
from bench.speed.operators import operator_times
from bench.speed.protocol import SpeedProtocol
from bench.speed.quantise import TIMED_IMAGES, calibration_images, read_openvino
from bench.speed.runtimes import ModelCache
from bench.training.checkpoint import save_weights
from bench.training.trained import TrainedNetwork, describe_training, open_trained

INT8 = SpeedProtocol(batch=2, form="deployed", runtime="openvino", precision="int8")


@dataclass(frozen=True)
class PlainConfig:
    """Three convolutions."""

    family: ClassVar[str] = "plain of the int8 tests"
    width: int = 8

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        width = self.width
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, num_classes, 1),
        )


archs.register_family(PlainConfig)


def trained(folder: Path, data: DataSet, *, outlier: float) -> TrainedNetwork:
    """A network one of whose channels is `outlier` times the others between the last two convolutions.

    As a function it is the same whatever that is; in bytes with one scale for all channels the others vanish.
    """
    torch.manual_seed(0)
    model = PlainConfig().build(data.classes.num_classes, 3)
    with torch.no_grad():
        for weight in (model[2].weight, model[2].bias):
            weight[0] *= outlier
        model[4].weight[:, 0] /= outlier
        model[4].bias.zero_()
    folder.mkdir()
    save_weights(model, folder / "weights.safetensors")
    archs.save_config(PlainConfig(), folder / "config.json", **describe_training(data))
    return open_trained(str(folder))


def labelled_by(network: TrainedNetwork, data: DataSet) -> DataSet:
    """The data, with what the network says in fp32 as the truth."""
    model, splits = network.build(), {}
    for name, split in data.splits.items():
        with torch.inference_mode():
            said = model(network.scaled(split.images.transpose(0, 3, 1, 2))).argmax(1).numpy().astype(np.uint8)
        splits[name] = replace(split, masks=np.where(split.masks == data.classes.ignore_index, split.masks, said))
    return replace(data, splits=splits)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory) -> tuple[TrainedNetwork, DataSet]:
    pytest.importorskip("nncf")
    data = tinyland(32, 32)
    network = trained(tmp_path_factory.mktemp("int8") / "net", data, outlier=100.0)
    return network, labelled_by(network, data)


@pytest.mark.slow
def test_an_operator_that_costs_accuracy_goes_back_into_float(spoiled):
    network, data = spoiled
    plain, none = network_within(network, data, INT8, "cpu", None)
    assert none is None
    lost = 1 - macro_f1(evaluate_network(plain, data, "val").confusions)
    assert lost > 0.05
    ready, done = network_within(network, data, INT8, "cpu", 0.02)
    assert done.operators == ("Convolution_2",)  # the one that reads the channels of unequal sizes
    assert (done.fp32, done.plain, done.tiles) == (1, pytest.approx(1 - lost), 4)
    assert done.f1 >= 0.98
    assert macro_f1(evaluate_network(ready, data, "val").confusions) == done.f1
    assert ready.in_float.get("Convolution", 0) == plain.in_float.get("Convolution", 0) + 1
    # The same operators at another batch and size, and without another look at validation tiles.
    again = replace(INT8, batch=3, in_float=done.operators)
    scored = evaluate_network(network_within(network, data, again, "cpu", 0.02)[0], data)
    exact = evaluate_trained(network, data, SpeedProtocol(batch=4))
    assert PrecisionScore.of(scored, exact, 0.02).verdict == "equivalent"


@pytest.mark.slow
def test_validation_tiles_decide_and_test_tiles_score(spoiled):
    network, data = spoiled
    row = accuracy_columns(network, data, INT8, "cpu", 0.02)
    assert row["accuracy_control"]["operators"] == ("Convolution_2",)
    assert (row["fp32_f1"], row["precision_verdict"]) == (1, "equivalent")
    blank = np.full_like(data["test"].masks, data.classes.ignore_index)
    blank[:, 0, 0] = 0
    unseen = replace(data, splits={**data.splits, "test": replace(data["test"], masks=blank)})
    assert accuracy_columns(network, unseen, INT8, "cpu", 0.02)["accuracy_control"] == row["accuracy_control"]


def tiles_folder(root: Path, data: DataSet) -> Path:
    for name, split in data.splits.items():
        for part, pixels in (("images", split.images), ("masks", split.masks)):
            (root / name / part).mkdir(parents=True)
            for i, one in enumerate(pixels):
                Image.fromarray(one).save(root / name / part / f"{i}.png")
    rows = zip(data.classes.names, data.classes.colours, strict=True)
    classes = [{"index": i, "name": name, "rgb": list(rgb)} for i, (name, rgb) in enumerate(rows)]
    table = {"dataset": data.name, "ignore_index": data.classes.ignore_index, "classes": classes}
    (root / "classes.json").write_text(json.dumps(table))
    return root


@pytest.mark.slow
def test_measure_times_the_network_that_it_scored(tmp_path, capsys):
    """Plainly quantised this one gives something else altogether, so that there is no score to lose."""
    pytest.importorskip("nncf")
    data = tinyland(32, 32)
    network = trained(tmp_path / "net", data, outlier=3000.0)
    tiles = tiles_folder(tmp_path / "tiles", labelled_by(network, data))
    how = "--runtime openvino --precision int8 --delta 3 --size 64 --batch 2 --threads 1 --device cpu --profile --json"
    assert run(["measure", str(tmp_path / "net"), "--data", str(tiles), *how.split()]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    control = row["accuracy_control"]
    assert control["plain"] is None and "Convolution_2" in control["operators"]
    assert (row["fp32_f1"], row["precision_verdict"]) == (1, "equivalent")
    assert [row[f"speed_batch_{batch}"]["protocol"]["in_float"] for batch in (1, 2)] == [control["operators"]] * 2
    kinds = {(one["operator"], one["precision"]): one["count"] for one in row["operators"]}
    assert kinds["Convolution", "fp32"] == len(control["operators"])


@pytest.mark.slow
def test_a_network_that_keeps_its_accuracy_stays_as_quantised(tmp_path):
    pytest.importorskip("nncf")
    data = tinyland(32, 32)
    network = trained(tmp_path / "net", data, outlier=1.0)
    ready, done = network_within(network, labelled_by(network, data), INT8, "cpu", 0.1)
    assert (done.operators, done.plain) == ((), done.f1)
    assert "no operator was put back into float" in str(done)
    assert "Convolution" not in ready.in_float


@pytest.mark.slow
def test_operators_have_the_same_names_at_any_batch_and_size():
    pytest.importorskip("openvino")
    found = []
    for shape in ((1, 3, 32, 32), (3, 3, 64, 96)):
        model = archs.create("lale-s1", widths=(8, 16, 32, 32), depths=(1, 1, 1, 1)).eval()
        read = read_openvino(ModelCache().onnx(model, torch.zeros(shape)))
        found.append([operator.get_friendly_name() for operator in read.get_ordered_ops()])
    assert found[0] == found[1] and len(set(found[0])) == len(found[0])


def test_operators_in_float_are_part_of_a_protocol_that_has_some():
    assert "in_float" not in INT8.to_dict()
    assert changed_fields(replace(INT8, in_float=("Add_1",)))["in_float"] == ("Add_1",)
    with pytest.raises(BenchError, match="OpenVINO's int8, not in onnxruntime int8"):
        replace(INT8, runtime="onnxruntime", in_float=("Add_1",))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_profile_shares_out_the_whole_time(runtime):
    pytest.importorskip(runtime)
    model = PlainConfig().build(4, 3).eval()
    found = operator_times(Contender(model, (32, 32), SpeedProtocol(runtime=runtime, threads=1)))
    assert sum(one.share for one in found) == pytest.approx(1)
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    assert {one.precision for one in found} == {"fp32"}
    assert sum(one.count for one in found if "Conv" in one.operator) == 3


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_profile_says_what_cuts_an_int8_graph(runtime):
    pytest.importorskip("nncf")
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = {}
    torch.manual_seed(0)  # what quantises depends on the weights
    for norm, act in (("rmsnorm", "starrelu"), ("batchrms", "relu")):
        model = archs.create("lale-s1", widths=(8, 16, 32, 32), depths=(1, 1, 1, 1), norm=norm, act=act).eval()
        how = replace(INT8, batch=1, runtime=runtime, threads=1)
        times = operator_times(Contender(model, (64, 64), how, images))
        assert sum(one.share for one in times) == pytest.approx(1)
        found[norm] = {(one.operator, one.precision): one for one in times}
        assert any("Conv" in operator and precision == "int8" for operator, precision in found[norm])
    norm = {"openvino": {"ReduceMean"}, "onnxruntime": {"ReduceMean", "Sqrt", "Reciprocal"}}[runtime]
    assert norm <= {operator for operator, _ in found["rmsnorm"]}
    assert norm.isdisjoint({operator for operator, _ in found["batchrms"]})
    in_float = {
        name: sum(one.count for (_, precision), one in times.items() if precision == "fp32")
        for name, times in found.items()
    }
    assert in_float["rmsnorm"] > in_float["batchrms"]


def test_measure_prints_a_profile_or_says_who_has_none(tmp_path, capsys):
    pytest.importorskip("openvino")
    config = str(archs.save_config(PlainConfig(), tmp_path / "plain.json"))
    asked = ["measure", config, "--size", "32", "--no-speed", "--profile", "--device", "cpu", "--threads", "1"]
    assert run([*asked, "--runtime", "openvino", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert {"operator", "precision", "count", "share"} == set(row["operators"][0])
    assert run([*asked, "--runtime", "openvino"]) == 0
    assert "operators of openvino in fp32" in " ".join(capsys.readouterr().out.split())
    assert run(asked) == 1
    assert "eager is not profiled by operator; give --runtime openvino or onnxruntime" in capsys.readouterr().err


def test_what_is_only_timed_is_calibrated_on_fewer_images_and_its_key_says_so():
    data = tinyland(32, 32, train=20)
    cell = speed_cell({"plain": PlainConfig()}, (32, 32), 3, INT8, "cpu", tiles=data)
    images = calibration_images(data, data.bands, most=TIMED_IMAGES)
    assert cell.determinants["calibration"] == {"data": data.fingerprint, "images": len(images)}
    every = calibration_images(data, data.bands)
    assert len(every) == 20
    torch.testing.assert_close(images[[0, -1]], every[[0, -1]])  # spread over all of them
