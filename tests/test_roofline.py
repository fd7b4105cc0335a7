"""The device's own rates, the compulsory work of a call, and times that cannot be true."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from racing import measure_speed
from torch import nn

from bench.errors import BenchError
from bench.speed.measure import SpeedProtocol
from bench.speed.roofline import MARGIN, Roofline, RooflineMeter, Work, refuse_impossible, roofline_share
from bench.speed.work import compulsory_work
from bench.stats.medians import Median

BRIEF = SpeedProtocol(calls=3, rounds=6, min_seconds=0, max_seconds=0.2, warmup_seconds=0.2, threads=1)
RATES = Roofline(
    {"fp32": {"product": Median(1e9, 0.9e9, 1.2e9), "convolution": Median(2e9, 1.6e9, 2.5e9)}, "bf16": {}},
    {1000: Median(8e6, 7e6, 9e6), 100_000: Median(1e6, 0.9e6, 1.1e6)},
)


class UnsynchronisedClock:
    """Hands a call to another thread and stops at once, as a GPU's driver does with one that is not waited for."""

    def __init__(self) -> None:
        self.device = ThreadPoolExecutor(max_workers=1)

    def one(self, call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        pending = self.device.submit(call)
        seconds = time.perf_counter() - start
        pending.result()  # after the clock was read: only so that calls do not pile up
        return seconds

    def round(self, call: Callable[[], Any], calls: int) -> tuple[list[float], float]:
        latencies = [self.one(call) for _ in range(calls)]
        return latencies, sum(latencies) / calls


def heavy() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 96, 3, padding=1), nn.Conv2d(96, 96, 3, padding=1))


def test_a_clock_that_does_not_wait_is_caught():
    with pytest.raises(BenchError, match="the clock stopped before the result was there") as caught:
        measure_speed({"heavy": heavy()}, (96, 96), BRIEF, clock=UnsynchronisedClock())
    assert "heavy was timed at" in str(caught.value)
    assert "bound by arithmetic" in str(caught.value)


def test_a_clock_that_waits_is_believed():
    found = measure_speed({"heavy": heavy()}, (96, 96), BRIEF)["heavy"]
    assert found.work.macs == 96 * 96 * 9 * (3 * 96 + 96 * 96)
    weights = sum(p.numel() for p in heavy().parameters())
    assert found.work.bytes == 4 * (weights + (3 + 96) * 96 * 96)
    assert 0 < found.share.low <= found.share.value <= found.share.high
    record = found.to_dict()
    assert record["ceiling_share"] == found.share.value
    assert record["bound_by"] == "arithmetic"
    assert record["compulsory_macs"] == found.work.macs
    assert record["least_ms"] / 1e3 == pytest.approx(found.share.value * found.seconds.value)
    assert json.loads(json.dumps(record)) == record


def test_the_best_kernel_is_the_ceiling():
    assert RATES.macs_per_second("fp32").value == 2e9
    assert RATES.macs_per_second("bf16").value == 2e9  # without units for it, a device computes it in fp32
    faster = Roofline({**RATES.arithmetic, "bf16": {"product": Median(3e9, 3e9, 3e9)}}, RATES.copies)
    assert faster.macs_per_second("bf16").value == 3e9
    assert faster.macs_per_second("fp32").value == 2e9


@pytest.mark.parametrize(("moved", "rate"), [(10, 8e6), (2000, 8e6), (2001, 1e6), (10**9, 1e6)])
def test_what_fits_no_cache_is_not_held_against_one(moved, rate):
    assert RATES.bytes_per_second(moved).value == rate


def test_the_bound_by_hand():
    work = Work(4_000_000, 500, "fp32")
    assert work.least_seconds(RATES) == Median(4e6 / 2e9, 4e6 / 2.5e9, 4e6 / 1.6e9)
    assert work.bound_by(RATES) == "arithmetic"
    moving = Work(10, 100_000, "fp32")
    assert moving.least_seconds(RATES).value == pytest.approx(0.1)
    assert moving.bound_by(RATES) == "bandwidth"
    assert Work(None, 100_000, "fp32").least_seconds(RATES) == moving.least_seconds(RATES)
    share = roofline_share(work, RATES, Median(0.004, 0.003, 0.005))
    assert (share.value, share.low, share.high) == pytest.approx((0.5, 0.0016 / 0.005, 0.0025 / 0.003))


@given(st.floats(0.1, 10), st.floats(1, 3), st.floats(1, 3))
def test_only_what_is_impossible_at_every_end_is_refused(factor, below, above):
    work = Work(4_000_000, 500, "fp32")
    measured = 0.0016 / MARGIN * factor  # at its best the device needs 1.6 ms
    seconds = Median(measured / above, measured / above / below, measured)
    if factor >= 1:
        refuse_impossible("net", work, RATES, seconds)
    else:
        with pytest.raises(BenchError, match="of what is possible"):
            refuse_impossible("net", work, RATES, seconds)


def test_a_network_a_little_quicker_than_the_kernels_of_the_roofline_is_believed():
    least = Work(4_000_000, 500, "fp32").least_seconds(RATES).low
    refuse_impossible("net", Work(4_000_000, 500, "fp32"), RATES, Median(*[least / 1.1] * 3))


def test_compulsory_work_is_that_of_the_cheapest_form():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.never = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(3, 1000, 1)

        def forward(self, x):
            return self.main(x)

    x = torch.randn(2, 3, 4, 5)
    small, large = Auxiliary(), nn.Conv2d(3, 2, 3, padding=1)
    assert compulsory_work([small], x, "fp32") == Work(2 * 20 * 6, 4 * (6 + 2 * 20 * 5), "fp32")
    assert compulsory_work([large, small], x, "fp32") == compulsory_work([small], x, "fp32")
    assert compulsory_work([large], x, "fp32").macs == 9 * 2 * 20 * 6
    halved = compulsory_work([small.bfloat16()], x.bfloat16(), "bf16")
    assert (halved.macs, halved.bytes) == (2 * 20 * 6, 2 * (6 + 2 * 20 * 5))
    assert compulsory_work([nn.Identity()], x, "fp32") == Work(0, 0, "fp32")  # its output is its input


def test_rates_are_measured_for_every_precision():
    meter = RooflineMeter(torch.device("cpu"), ["bf16"])
    for _ in range(2):
        meter.time_round()
    found = meter.roofline()
    assert set(found.arithmetic) == {"fp32", "bf16"}
    assert any("convolution" in kernel for kernel in found.arithmetic["fp32"])
    assert any("product" in kernel for kernel in found.arithmetic["fp32"])
    assert all(rate.low > 0 for rates in found.arithmetic.values() for rate in rates.values())
    assert all(rate.low > 0 for rate in found.copies.values())
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
