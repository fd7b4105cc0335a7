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
from bench.training.checkpoint import load_weights, save_weights

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
def test_a_network_that_comes_out_different_is_not_written(tmp_path):
    with pytest.raises(BenchError, match=r"not the same: its logits differ by .* pixels change class"):
        export.export_onnx(Forgetful(), tmp_path / "wrong.onnx", (8, 8))
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_what_cannot_be_exported_is_one_sentence(tmp_path):
    class Unfriendly(nn.Module):
        def forward(self, image):
            raise RuntimeError("not today")

    with pytest.raises(BenchError, match="cannot be exported to ONNX"):
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
