"""Timing: the statistics against first principles, the protocol on real networks."""

import json
import math
import time
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from racing import measure_speed, ratio
from scipy.stats import binom
from torch import Tensor, nn

from bench.errors import BenchError
from bench.speed.measure import Contender, Speed, SpeedProtocol, median_interval, race_isolated

BRIEF = SpeedProtocol(calls=3, rounds=6, min_seconds=0, max_seconds=0.2, warmup_seconds=0.2, threads=1)


def net(width: int = 8, depth: int = 2) -> nn.Module:
    layers = [nn.Conv2d(3 if i == 0 else width, width, 3, padding=1) for i in range(depth)]
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))


def speed_of(blocks: list[float], protocol: SpeedProtocol = BRIEF) -> Speed:
    return Speed((8, 8), protocol, tuple((b, b) for b in blocks), tuple(blocks), None, 10, True, 1)


# --- statistics ---


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1000), min_size=6, max_size=60), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_the_narrowest_with_its_coverage(values, confidence):
    found, n, ordered = median_interval(values, confidence), len(values), sorted(values)
    assert found.value == median(values)
    assert found.low <= found.value <= found.high
    depths = [d for d in range((n + 1) // 2) if 1 - 2 * binom.cdf(d, n, 0.5) >= confidence]
    depth = max(depths, default=0)
    assert (found.low, found.high) == (ordered[depth], ordered[n - 1 - depth])


def test_the_interval_by_hand():
    found = median_interval([float(i) for i in range(1, 11)])
    assert (found.value, found.low, found.high) == (5.5, 2.0, 9.0)  # the textbook's ranks for n = 10


def test_the_interval_holds_the_median_as_often_as_it_says():
    draws = torch.randn(2000, 12, generator=torch.Generator().manual_seed(1)).exp()
    intervals = [median_interval(row.tolist()) for row in draws]
    share = sum(i.low <= 1 <= i.high for i in intervals) / len(intervals)  # exp of a normal has median 1
    assert 0.95 <= share <= 0.975


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=6, max_size=40))
def test_a_speed_against_itself_is_one(blocks):
    one = ratio(speed_of(blocks), speed_of(blocks))
    assert (one.low, one.value, one.high) == (1, 1, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=6, max_size=40))
def test_ratios_are_reciprocal(pairs):
    a, b = (speed_of(list(blocks)) for blocks in zip(*pairs, strict=True))
    there, back = ratio(a, b), ratio(b, a)
    assert there.low == pytest.approx(1 / back.high)
    assert there.high == pytest.approx(1 / back.low)


@settings(deadline=None)
@given(
    drift=st.lists(st.floats(0.5, 20), min_size=6, max_size=30),
    factor=st.floats(1.1, 5),
)
def test_what_slows_a_round_down_leaves_the_ratio(drift, factor):
    fast, slow = speed_of(drift), speed_of([factor * d for d in drift])
    found = ratio(fast, slow)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


def test_the_summary_by_hand():
    rounds = [(0.010, 0.020), (0.030, 0.040), (0.010, 0.010), (0.020, 0.020), (0.020, 0.040), (0.015, 0.025)]
    blocks = [sum(r) / 2 for r in rounds]
    found = Speed((8, 8), SpeedProtocol(batch=4), tuple(rounds), tuple(blocks), None, 10, True, 1).to_dict()
    assert found["latency_ms"] == pytest.approx(20)  # of the rounds' medians 15, 35, 10, 20, 30, 20
    assert (found["latency_low"], found["latency_high"]) == pytest.approx((10, 35))
    assert found["latency_min"] == pytest.approx(10)
    assert found["latency_p50"] == pytest.approx(20)
    assert found["throughput"] == pytest.approx(4 / 0.020)
    assert found["latency_p50"] <= found["latency_p95"] <= found["latency_p99"] <= 40
    assert json.loads(json.dumps(found)) == found


# --- real runs ---


def test_every_model_is_timed_in_every_round():
    found = measure_speed({"small": net(), "large": net(32, 4)}, (24, 32), BRIEF)
    assert list(found) == ["small", "large"]
    for speed in found.values():
        assert len(speed.block_rounds) == len(speed.latency_rounds) >= 6
        assert all(1 <= len(round_) <= 3 for round_ in speed.latency_rounds)
        assert speed.warmup_calls >= 2
        assert 0 < min(speed.samples) <= speed.percentile(50) <= speed.percentile(95) <= speed.percentile(99)
        assert speed.compile_seconds is None
        assert speed.threads == 1
    assert ratio(found["small"], found["large"]).value > 1  # some 16 times the arithmetic


def test_the_same_model_against_itself():
    model = net(16)
    protocol = SpeedProtocol(rounds=30, min_seconds=0, max_seconds=1, warmup_seconds=0.5, threads=1)
    found = measure_speed({"a": model, "b": model}, (32, 32), protocol)
    pairs = zip(found["a"].block_rounds, found["b"].block_rounds, strict=True)
    same = median_interval([b / a for a, b in pairs], 0.9999)  # a test that runs daily must not fail one day in twenty
    assert same.low <= 1 <= same.high


def test_a_known_pause_is_measured():
    class Pause(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.004)
            return x

    found = measure_speed({"pause": Pause()}, (8, 8), SpeedProtocol(batch=2, rounds=6, min_seconds=0, max_seconds=1))
    assert min(found["pause"].samples) >= 0.004
    assert found["pause"].throughput.high <= 2 / 0.004


def test_a_slow_model_is_called_less_often():
    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.02)
            return x

    protocol = SpeedProtocol(calls=50, rounds=6, min_seconds=0, max_seconds=0.3, warmup_seconds=0.05)
    found = measure_speed({"slow": Slow()}, (8, 8), protocol)["slow"]
    assert len(found.block_rounds) >= 6
    assert len(found.samples) < 30  # not 50 in each round


def test_warm_up_says_whether_times_settled():
    class Restless(nn.Module):
        pause = 0.0005

        def forward(self, x: Tensor) -> Tensor:
            type(self).pause *= 1.3
            time.sleep(self.pause)
            return x

    hurried = SpeedProtocol(calls=1, rounds=6, min_seconds=0, max_seconds=0.01, warmup_seconds=0.1)
    assert not measure_speed({"restless": Restless()}, (8, 8), hurried)["restless"].warm


def test_threads_are_given_back_also_after_a_failure():
    before = torch.get_num_threads()
    protocol = SpeedProtocol(threads=before + 1, rounds=6, min_seconds=0, max_seconds=0.05, warmup_seconds=0.05)
    assert measure_speed({"net": net()}, (8, 8), protocol)["net"].threads == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(BenchError):
        measure_speed({"wrong": nn.Conv2d(5, 5, 1)}, (8, 8), protocol)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_precision_and_memory_format_reach_the_model(precision, memory_format):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((x, self.conv.weight, self.training))
            return self.conv(x)

    model = Spy()
    protocol = SpeedProtocol(
        batch=2,
        precision=precision,
        memory_format=memory_format,
        rounds=6,
        min_seconds=0,
        max_seconds=0.05,
        warmup_seconds=0.05,
    )
    # `seen` is shared with the measured copy: a deep copy of the class's closure is the closure itself
    measure_speed({"spy": model}, (8, 8), protocol)
    x, weight, training = seen[-1]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert (x.dtype, weight.dtype, tuple(x.shape), training) == (dtype, dtype, (2, 3, 8, 8), False)
    last = memory_format == "channels_last"
    assert x.is_contiguous(memory_format=torch.channels_last) == last
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
    assert model.training
    assert model.conv.weight.dtype is torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["compile", "autotune"])
def test_compiling_is_reported_apart(runtime):
    protocol = SpeedProtocol(runtime=runtime, rounds=6, min_seconds=0, max_seconds=0.1, warmup_seconds=0.1)
    speed = measure_speed({"net": nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())}, (8, 8), protocol)["net"]
    assert speed.compile_seconds > 10 * max(speed.samples)


@pytest.mark.parametrize(("field", "value"), [("precision", "int4"), ("memory_format", "nhwc"), ("runtime", "jit")])
def test_unknown_settings_are_answered_with_the_known(field, value):
    with pytest.raises(BenchError, match=rf"{field} '{value}' is not known; there are "):
        SpeedProtocol(**{field: value})


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"calls": 0}, {"threads": 0}, {"rounds": 5}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(BenchError, match=next(iter(wrong))):
        SpeedProtocol(**wrong)


def test_a_model_that_does_not_run_is_named():
    with pytest.raises(BenchError, match=r"narrow does not run on a \(1, 3, 8, 8\) input in fp32, eager, on cpu"):
        measure_speed({"fine": net(), "narrow": nn.Conv2d(5, 5, 1)}, (8, 8), BRIEF)
    with pytest.raises(BenchError, match="no model"):
        measure_speed({}, (8, 8), BRIEF)


class OutOfMemory(nn.Module):
    """Fails beyond so many images, or from so many calls on."""

    def __init__(self, images=10**9, calls=10**9):
        super().__init__()
        self.conv, self.images, self.calls = nn.Conv2d(3, 2, 1), images, calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        if len(x) > self.images or self.calls < 0:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return self.conv(x)


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.conv, self.what = nn.Conv2d(3, 2, 1), what

    def forward(self, x: Tensor) -> object:
        return self.what(self.conv(x))


def test_a_network_that_fails_fails_alone_and_says_why():
    models = {
        "fine": nn.Conv2d(3, 2, 1),
        "large": OutOfMemory(images=4),
        "later": OutOfMemory(calls=40),
        "dict": Returns(lambda y: {"out": y}),
        "pair": Returns(lambda y: (y, y)),
        "half": Returns(lambda y: y[..., ::2, ::2]),
    }
    protocol = SpeedProtocol(
        batch=8, calls=5, rounds=12, min_seconds=0, max_seconds=0.2, warmup_seconds=0.01, precision_goal=1e-9
    )
    raced = race_isolated({label: Contender(model, (16, 16), protocol) for label, model in models.items()})
    assert raced.failures.keys() | raced.speeds.keys() == models.keys()
    assert "out of memory" in raced.failures["large"].lower()
    assert "out of memory" in raced.failures["later"].lower()
    assert "a mapping of out" in raced.failures["dict"]
    assert "a tuple of 2" in raced.failures["pair"]
    assert "(8, 2, 8, 8)" in raced.failures["half"]


def test_rounds_of_different_measurements_are_not_paired():
    with pytest.raises(ValueError, match="argument 2"):
        ratio(speed_of([1.0] * 6), speed_of([1.0] * 7))


def test_images_of_a_batch_count_in_a_ratio():
    found = ratio(speed_of([1.0] * 6, SpeedProtocol(batch=8)), speed_of([1.0] * 6, SpeedProtocol(batch=2)))
    assert math.isclose(found.value, 4)
