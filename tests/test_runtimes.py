"""Runtimes and forms: they compute the same as the trained network, or are refused."""

import pytest
import torch
from racing import measure_speed, race
from torch import nn

import archs
from bench.errors import BenchError
from bench.speed import runtimes
from bench.speed.comparison import untrained
from bench.speed.measure import Contender, SpeedProtocol
from bench.speed.roofline import MARGIN
from bench.speed.runtimes import ModelCache, difference, prepare, refuse_missing, refuse_other_output

BRIEF = {"calls": 2, "rounds": 6, "min_seconds": 0, "max_seconds": 0.1, "warmup_seconds": 0.05, "threads": 1}
CPU = torch.device("cpu")


def tiny() -> nn.Module:
    torch.manual_seed(0)
    config = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16, decoder_width=16, stem_width=8)
    return archs.build(config, 3)


def protocol(**changes) -> SpeedProtocol:
    return SpeedProtocol(**{**BRIEF, **changes})


@pytest.fixture(scope="module")
def raced():
    """One interleaved run of a network in every way that a CPU has."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    model = tiny()
    ways = {
        "literal": protocol(),
        "deployed": protocol(form="deployed"),
        "onnxruntime": protocol(form="deployed", runtime="onnxruntime"),
        "openvino": protocol(form="deployed", runtime="openvino"),
        "openvino bf16": protocol(form="deployed", runtime="openvino", precision="bf16"),
    }
    return race({label: Contender(model, (32, 32), way) for label, way in ways.items()})


def test_every_way_is_timed_in_the_same_rounds(raced):
    assert len({len(speed.block_rounds) for speed in raced.values()}) == 1
    assert all(speed.share.low <= MARGIN for speed in raced.values())
    assert raced["literal"].compile_seconds is None
    assert raced["openvino"].compile_seconds > 0


def test_every_way_is_held_against_the_trained_network(raced):
    assert raced["literal"].difference is None
    for label in ("deployed", "onnxruntime", "openvino"):
        assert raced[label].difference < 1e-4
    assert 1e-7 < raced["openvino bf16"].difference < 0.1  # it did round


def test_the_bound_is_of_what_ran_or_of_the_cheapest_form_where_a_runtime_rewrites(raced):
    assert raced["deployed"].work.macs < raced["literal"].work.macs
    assert raced["onnxruntime"].work == raced["openvino"].work == raced["deployed"].work
    assert raced["openvino bf16"].work.macs == raced["deployed"].work.macs
    assert raced["openvino bf16"].work.bytes == raced["openvino"].work.bytes // 2


def test_another_output_is_refused_before_it_is_timed(monkeypatch):
    class Shifted(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x) * 1.01

    monkeypatch.setattr(archs, "deploy", lambda model, size=None, in_channels=None: Shifted(model))
    with pytest.raises(BenchError, match=r"net computes something else in eager, deployed form, fp32.*was not used"):
        measure_speed({"net": tiny()}, (32, 32), protocol(form="deployed"))


def test_a_network_that_a_lower_precision_breaks_is_refused_in_its_trained_form_too():
    """Eager and as trained it was taken for the network itself, whatever the precision."""

    class Overflowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.head(x) * 1e6

    with pytest.raises(BenchError, match="net computes something else in eager, trained form, fp16"):
        measure_speed({"net": Overflowing()}, (32, 32), protocol(precision="fp16"))
    assert measure_speed({"net": tiny()}, (32, 32), protocol(precision="bf16"))["net"].difference > 0


def test_difference_is_a_share_of_the_largest_value():
    wanted = torch.tensor([[-4.0, 1.0]])
    assert difference(wanted, wanted) == 0
    assert difference(wanted + torch.tensor([[0.0, 1.0]]), wanted) == 0.25
    assert difference(wanted[:, :1], wanted) == float("inf")
    assert difference(wanted * float("nan"), wanted) == float("inf")
    assert refuse_other_output("net", wanted * 1.05, wanted, protocol(precision="bf16")) == pytest.approx(0.05)
    with pytest.raises(BenchError, match=r"allowed: 0\.001"):
        refuse_other_output("net", wanted * 1.05, wanted, protocol())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runtime": "cudagraphs"}, "runtime cudagraphs is for NVIDIA GPUs, not for a cpu"),
        ({"precision": "tf32"}, "precision tf32 is for NVIDIA GPUs, not for a cpu"),
        ({"runtime": "onnxruntime", "precision": "bf16"}, "onnxruntime is measured in fp32 or int8, not in bf16"),
        ({"runtime": "eager", "precision": "int8"}, "eager is measured in fp32 or tf32 or bf16 or fp16, not in int8"),
        ({"runtime": "openvino", "precision": "fp16"}, "openvino is measured in fp32 or bf16 or int8, not in fp16"),
    ],
)
def test_what_a_cpu_has_not_is_said(changes, sentence):
    pytest.importorskip("openvino")
    with pytest.raises(BenchError, match=sentence):
        measure_speed({"net": nn.Conv2d(3, 2, 1)}, (8, 8), protocol(**changes))


def test_runtimes_of_the_cpu_are_not_measured_beside_a_gpu():
    pytest.importorskip("onnxruntime")
    with pytest.raises(BenchError, match="measured on the CPU only"):
        refuse_missing(protocol(runtime="onnxruntime"), torch.device("cuda"))


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_runtime_names_its_extra(monkeypatch, runtime, extra):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == runtime else object())
    with pytest.raises(BenchError, match=rf"{runtime} needs {runtime}, .*pip install 'lale-bench\[{extra}\]'"):
        refuse_missing(protocol(runtime=runtime), CPU)


def test_a_network_without_a_deployed_form_says_so():
    class ReadsValues(nn.Module):
        def forward(self, x):
            return x * float(x.mean().item())

    with pytest.raises(BenchError, match="ReadsValues has no deployed form"):
        measure_speed({"net": ReadsValues()}, (8, 8), protocol(form="deployed"))


def test_eager_calls_the_network_itself():
    model, x = nn.Conv2d(3, 2, 1), torch.randn(1, 3, 8, 8)
    models = ModelCache()
    copied = models.network(model, x, protocol())
    ready = prepare(copied, x, protocol(), models)
    assert copied is not model
    assert models.network(model, x, protocol(batch=8)) is copied
    assert torch.equal(ready.read(ready.call()), model(x))


def test_contenders_need_one_schedule():
    model = nn.Conv2d(3, 2, 1)
    pair = {"a": Contender(model, (8, 8), protocol()), "b": Contender(model, (8, 8), protocol(rounds=7))}
    with pytest.raises(BenchError, match="need the same threads, calls, rounds"):
        race(pair)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs and tf32 need an NVIDIA GPU")
@pytest.mark.parametrize("changes", [{"runtime": "cudagraphs"}, {"precision": "tf32"}])
def test_what_a_gpu_has(changes):
    found = measure_speed({"net": tiny()}, (64, 64), SpeedProtocol(max_seconds=1, **changes), "cuda")["net"]
    assert found.share.low <= MARGIN


def test_a_network_without_trained_weights_is_timed_with_the_same_ones_in_every_run():
    """Else one run exports LeMoRe or quantises a network, and the next refuses it."""
    config = archs.config("lale-s1", widths=(8, 16, 32, 32), head_width=16)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (untrained(config, 5).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in second)
