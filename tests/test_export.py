"""An exported network computes what the network computes, or it is not written."""

import json
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import archs
from bench.cli.app import run as run_command
from bench.errors import BenchError
from bench.speed import export
from bench.speed.quantise import quantise_onnx
from bench.training.checkpoint import load_weights, save_weights
from bench.training.trained import open_trained

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="ONNX is not installed: pip install '.[onnx]'",
)
TINY = {"head_width": 16, "widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "decoder_width": 16}


class Forgetful(nn.Module):
    """Computes something else at every other call: what an exporter saw is not what it does."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 2, 1), 0

    def forward(self, image):
        self.calls += 1
        return self.layer(image) * float(self.calls)


@needs_onnx
def test_a_deployed_network_is_exported_whole(tmp_path):
    model = archs.create("lale-s1", **TINY).eval()
    path = tmp_path / "new" / "tiny.onnx"
    found = export.export_onnx(archs.deploy(model), path, (64, 48), batch=2, reference=model)
    assert found.path == path and found.bytes == path.stat().st_size
    assert 0 < found.difference < 1e-5 and found.agreement > 0.99
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("image", [2, 3, 64, 48])]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("logits", [2, 7, 64, 48])]


@needs_onnx
def test_onnx_runtime_leaves_no_convolution_sum_or_activation_in_float(tmp_path):
    """Of the LALE whose norm folds and whose activation fuses; at its size, since small layers are left alone."""
    import onnx
    import onnxruntime

    torch.manual_seed(0)
    model = archs.create("lale-s1", norm="batchrms", act="relu", decoder_act="relu").eval()
    export.export_onnx(archs.deploy(model), tmp_path / "net.onnx", (64, 64), reference=model)
    images = [torch.randn(1, 3, 64, 64).numpy() for _ in range(2)]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "ran.onnx")
    options.log_severity_level = 3  # it warns that the file it writes is for this machine
    onnxruntime.InferenceSession(
        quantise_onnx((tmp_path / "net.onnx").read_bytes(), images), options, providers=["CPUExecutionProvider"]
    )
    kinds = {node.op_type for node in onnx.load(tmp_path / "ran.onnx").graph.node}
    assert {"QLinearConv", "QLinearAdd"} <= kinds and kinds.isdisjoint({"Conv", "Relu", "Add", "ReduceMean", "Pow"})


@needs_onnx
def test_a_network_that_comes_out_different_is_not_written(tmp_path):
    with pytest.raises(BenchError, match=r"not the same: its logits differ by .* pixels change class"):
        export.export_onnx(Forgetful(), tmp_path / "wrong.onnx", (8, 8))
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_what_single_precision_cannot_tell_is_no_difference(tmp_path, monkeypatch):
    """Of a network whose own rounding is beyond the tolerance; here every one is, since the tolerance is nought."""
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    torch.manual_seed(0)
    model = archs.create("lale-s1", **TINY).eval()
    found = export.export_onnx(archs.deploy(model), tmp_path / "tiny.onnx", (64, 48), reference=model)
    assert 0 < found.difference < 1e-5
    monkeypatch.setattr(export, "ROUNDING_MARGIN", 0)
    with pytest.raises(BenchError, match=r"allowed: 0\)"):
        export.export_onnx(archs.deploy(model), tmp_path / "not.onnx", (64, 48), reference=model)
    assert not (tmp_path / "not.onnx").exists()


@needs_onnx
def test_what_cannot_be_exported_is_one_sentence(tmp_path):
    class Unfriendly(nn.Module):
        def forward(self, image):
            raise RuntimeError("not today")

    with pytest.raises(BenchError, match=r"^the network cannot be exported to ONNX: RuntimeError: not today$"):
        export.export_onnx(Unfriendly(), tmp_path / "never.onnx", (8, 8))
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_a_member_of_a_front_is_exported_with_the_weights_beside_it(tmp_path, capsys):
    config = archs.config("lale-s1", **TINY)
    archs.save_config(config, tmp_path / "member.json", num_classes=5)
    model = archs.build(config, 5)
    save_weights(model, tmp_path / "member.safetensors")
    out = tmp_path / "out"
    command = ["export", str(tmp_path / "member.json"), "--onnx", str(out / "m.onnx"), "--out", str(out), "--json"]
    assert run_command([*command, "--size", "32"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["classes"] == 5 and report["weights"].endswith("member.safetensors")
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "m.onnx", "weights.safetensors"]
    again = archs.create(out / "config.json", num_classes=5)
    load_weights(again, out / "weights.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_random_weights_are_exported_on_demand_only(tmp_path, capsys):
    """A searched config without weights beside it was once exported as a random network, with exit status 0."""
    archs.save_config(archs.config("lale-s1", **TINY), tmp_path / "member[1].json", num_classes=5)
    for name, said in ((str(tmp_path / "member[1].json"), " beside its config"), ("lale-s1", "")):
        assert run_command(["export", name, "--out", str(tmp_path / "out")]) == 1
        assert f"has no trained weights{said}: give --weights FILE, or --random-weights" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    asked = ["export", str(tmp_path / "member[1].json"), "--random-weights", "--out", str(tmp_path / "out[2]")]
    assert run_command(asked) == 0
    said = capsys.readouterr().out
    assert "member[1].json, 5 classes, weights: random" in said and "out[2]/config.json" in said
    kept = (tmp_path / "out[2]" / "weights.safetensors").read_bytes()
    assert run_command(asked) == 1  # other random weights
    assert "holds a network, which would be lost" in capsys.readouterr().err
    assert (tmp_path / "out[2]" / "weights.safetensors").read_bytes() == kept


def test_bands_and_classes_travel_with_a_trained_network(tmp_path):
    bands = [{"name": f"b{i}", "low": 0.0, "high": 1.0, "mean": 0.0, "deviation": 1.0} for i in range(4)]
    config = archs.config("lale-s1", **TINY)
    (tmp_path / "trained").mkdir()
    about = {"num_classes": 2, "classes": [{"name": "a", "rgb": [0, 0, 0]}, {"name": "b", "rgb": [9, 9, 9]}]}
    archs.save_config(config, tmp_path / "trained" / "config.json", bands=bands, **about)
    save_weights(archs.build(config, 2, 4), tmp_path / "trained" / "weights.safetensors")
    assert run_command(["export", str(tmp_path / "trained"), "--out", str(tmp_path / "out")]) == 0
    again = open_trained(str(tmp_path / "out"))
    assert again.names == ("a", "b") and len(again.bands) == 4 and again.build() is not None


def test_without_onnx_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"pip install 'lale-bench\[onnx\]'"):
        export.export_onnx(nn.Identity(), tmp_path / "x.onnx", (8, 8))


def test_nothing_to_write_and_weights_that_do_not_fit(tmp_path, capsys):
    assert run_command(["export", "lale-s1"]) == 1
    assert "give --onnx FILE, --out FOLDER" in capsys.readouterr().err
    save_weights(nn.Conv2d(3, 2, 1), tmp_path / "other.safetensors")
    command = ["export", "lale-s1", "--out", str(tmp_path / "out"), "--weights", str(tmp_path / "other.safetensors")]
    assert run_command(command) == 1
    assert capsys.readouterr().err.startswith("error: ")
