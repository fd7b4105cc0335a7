"""An exported ONNX file maps scenes and is scored as the network that it was made of."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import archs
from bench.cli.app import run
from bench.data import open_data
from bench.errors import BenchError
from bench.scenes.evaluation import evaluate_trained
from bench.scenes.exported import open_network
from bench.scenes.mapping import Mapping, map_scene
from bench.speed.export import METADATA
from bench.speed.protocol import SpeedProtocol
from bench.training.checkpoint import save_weights

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TINY = {"head_width": 16, "widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "decoder_width": 16}
DATA = "terrain:size=64,train=2,val=2,test=3"
RGB = [{"name": name, "low": 0, "high": 255, "mean": 0.5, "deviation": 0.25} for name in ("red", "green", "blue")]
TWO = {"num_classes": 2, "bands": RGB}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network with random weights for the classes of `terrain`, and its ONNX file of two tiles a call."""
    root = tmp_path_factory.mktemp("trained")
    data, config = open_data(DATA), archs.config("lale-s1", **TINY)
    torch.manual_seed(0)
    rows = zip(data.classes.names, data.classes.colours, strict=True)
    classes = [{"name": name, "rgb": list(colour)} for name, colour in rows]
    count = len(classes)
    archs.save_config(config, root / "config.json", num_classes=count, classes=classes, bands=RGB, tile_size=[64, 64])
    save_weights(archs.build(config, count, 3), root / "weights.safetensors")
    assert run(["export", str(root), "--onnx", str(root / "net.onnx"), "--batch", "2", "--json"]) == 0
    return root


def pointwise(path, about, size=("h", "w"), classes=2, names=("image", "logits")):
    """A stranger's file: one 1x1 convolution of three bands, at any batch and, by default, any size."""
    weight = np.random.default_rng(0).standard_normal((classes, 3, 1, 1)).astype(np.float32)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, *size])
        for name, channels in zip(names, (3, classes), strict=True)
    ]
    node = onnx.helper.make_node("Conv", [names[0], "weight"], [names[1]])
    graph = onnx.helper.make_graph(
        [node], "stranger", ends[:1], ends[1:], [onnx.numpy_helper.from_array(weight, "weight")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    if about is not None:
        onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    onnx.save(model, path)
    return str(path), weight


def picture(path, height, width):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_the_file_says_what_the_folder_said(folder):
    trained, exported = open_network(str(folder)), open_network(str(folder / "net.onnx"))
    for field in ("names", "colours", "bands", "tile_size", "trained_on"):
        assert getattr(exported, field) == getattr(trained, field)
    assert (exported.config.batch, exported.config.size) == (2, (64, 64))


def test_a_scene_is_mapped_alike(folder, tmp_path):
    picture(tmp_path / "scene.png", 150, 100)
    how = Mapping(overlap=32, blend=16)
    maps = [
        np.asarray(Image.open(map_scene(open_network(str(net)), tmp_path / "scene.png", tmp_path / out, how).path))
        for net, out in ((folder, "torch.png"), (folder / "net.onnx", "onnx.png"))
    ]
    assert (maps[0] == maps[1]).mean() > 0.999  # logits differ by the rounding of sums
    assert len(np.unique(maps[0])) > 1


def test_it_is_scored_alike_whatever_the_batch(folder):
    data, protocol = open_data(DATA), SpeedProtocol(batch=8, form="deployed")
    found = [evaluate_trained(open_network(str(net)), data, protocol) for net in (folder, folder / "net.onnx")]
    agree = np.minimum(found[0].confusions, found[1].confusions).sum() / found[0].confusions.sum()
    assert agree > 0.999 and found[0].confusions.shape == found[1].confusions.shape


def test_commands_take_the_file(folder, tmp_path, capsys):
    picture(tmp_path / "scene.png", 70, 64)
    assert (
        run(["predict", str(folder / "net.onnx"), str(tmp_path / "scene.png"), str(tmp_path / "m.png"), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)[0]["height"] == 70
    assert run(["evaluate", str(folder / "net.onnx"), "--data", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "net.onnx"
    assert run(["publish", str(folder / "net.onnx"), str(tmp_path / "out"), "--data", DATA]) == 1
    assert "holds no weights that could be passed on" in capsys.readouterr().err


def test_a_file_of_a_stranger_with_open_sizes_runs_at_each(tmp_path):
    path, weight = pointwise(tmp_path / "open.onnx", TWO)
    pixels = picture(tmp_path / "scene.png", 130, 97)
    found = np.asarray(
        Image.open(map_scene(open_network(path), tmp_path / "scene.png", tmp_path / "m.png", Mapping(window=64)).path)
    )
    logits = (pixels / 255 - 0.5) / 0.25 @ weight[:, :, 0, 0].T  # (H, W, classes)
    clear = abs(logits[..., 0] - logits[..., 1]) > 1e-3
    assert clear.mean() > 0.9 and (found == logits.argmax(-1))[clear].all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"about": None}, r"does not say which classes .*set_model_props"),
        ({"about": {"num_classes": 2, "bands": [{"name": "red"}]}}, "does not say which classes"),
        ({"about": {"num_classes": 3, "bands": RGB}}, "has 2 classes and its metadata name 3"),
        ({"about": {"num_classes": 2, "bands": RGB[:2]}}, "has 3 bands and its metadata name 2"),
        ({"names": ("input", "output")}, "it must take one `image`"),
        ({"about": []}, "does not say which classes"),
        ({"size": (64, "w")}, "leave both sides open, or neither"),
    ],
)
def test_what_a_file_lacks_is_said_in_a_sentence(tmp_path, changes, sentence):
    path, _ = pointwise(tmp_path / "net.onnx", **{"about": TWO, **changes})
    with pytest.raises(BenchError, match=sentence):
        open_network(path)


def test_measure_says_what_to_give_in_place_of_a_file(capsys):
    assert run(["measure", "net.onnx"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "net.onnx is an ONNX file" in said and "--runtime onnxruntime or openvino" in said


def test_a_broken_file_and_none_at_all(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    for name in ("broken.onnx", "missing.onnx"):
        with pytest.raises(BenchError, match=f"{name} cannot be read"):
            open_network(str(tmp_path / name))


def test_another_size_and_runtimes_of_pytorch_are_refused(tmp_path):
    path, _ = pointwise(tmp_path / "fixed.onnx", TWO, size=(64, 64))
    exported = open_network(path)
    with pytest.raises(BenchError, match=r"takes images of 64 x 64 px and these are of 32 x 32 px: export"):
        exported.suited(SpeedProtocol(batch=1), (32, 32))
    with pytest.raises(BenchError, match="which compile cannot run: give --runtime onnxruntime or openvino"):
        exported.suited(SpeedProtocol(batch=1, runtime="compile"), (64, 64))
