"""The roofline of a device: how close to it a network runs, or whether a time can be true at all.

The best that the device does is measured in the same rounds as the networks: multiply-accumulates a second (matrix
products of several sizes and a convolution, since either may be what the libraries do best) and bytes a second (copies
of several sizes, since small ones stay in caches). A network cannot run in less time than its compulsory work takes at
those rates: its exact MACs, and its weights, input and output once. Traffic that was measured would be no bound: caches
and fused operators rightly save it.

The rates have a clock of their own, which stops when a value of the result has been read on the host. So a clock that
does not wait for the device cannot hide by making both fast.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.speed.protocol import DTYPES, tensor_cores
from bench.stats.medians import Median, median_interval

PRODUCTS = {"cpu": (256, 512, 768), "cuda": (2048, 4096, 8192)}
"""Sides of the square matrices; the largest keeps the device busy for some 10 ms or less."""
CONVOLUTIONS = {"cpu": ((1, 32, 32), (1, 64, 64), (1, 128, 48)), "cuda": ((16, 256, 64), (32, 512, 32))}
"""Images, channels (in and out) and side of the map of 3x3 convolutions."""
COPIES = {"cpu": (2**18, 2**22, 2**26), "cuda": (2**20, 2**25, 2**31)}
"""Bytes that a copy moves, reading and writing: in a core's cache, in the device's, in memory."""
SHORTEST = 2e-3  # seconds that a probe takes at least, by repeating it: calls and the reading of a value cost little
LONGEST = 0.05  # no larger size is tried after the first that takes longer
MARGIN = 1.2
"""What the best of a few kernels may lie below what the device can do: a network of one large convolution may beat them
by some percent. A clock that does not wait is wrong by far more."""


@dataclass(frozen=True)
class Roofline:
    """The best rates of a device in one run, with the intervals of their medians.

    Attributes:
        arithmetic: precision -> kernel -> multiply-accumulates a second.
        copies: bytes moved by a copy -> bytes a second.
    """

    arithmetic: dict[str, dict[str, Median]]
    copies: dict[int, Median]

    def macs_per_second(self, precision: str) -> Median:
        """The best of all kernels; those in fp32 too, which a device without units for `precision` falls back to."""
        found = {**self.arithmetic.get("fp32", {}), **self.arithmetic.get(precision, {})}
        return max(found.values(), key=lambda rate: rate.value)

    def bytes_per_second(self, moved: int) -> Median:
        """The best of the copies of half of `moved` bytes or more, else of the largest: less might stay in a cache."""
        fair = [rate for size, rate in self.copies.items() if 2 * size >= moved] or [self.copies[max(self.copies)]]
        return max(fair, key=lambda rate: rate.value)

    def to_dict(self) -> dict[str, Any]:
        """Medians and intervals in MACs and bytes a second, ready for JSON."""
        return {
            "macs_per_second": {
                precision: {kernel: _listed(rate) for kernel, rate in rates.items()}
                for precision, rates in self.arithmetic.items()
            },
            "bytes_per_second": {str(moved): _listed(rate) for moved, rate in self.copies.items()},
        }


@dataclass(frozen=True)
class Work:
    """What a call cannot do without. `macs` is None where they could not be counted."""

    macs: int | None
    bytes: int
    precision: str

    def least_seconds(self, roofline: Roofline) -> Median:
        """The time that the device needs at its best; the interval comes from the rates'."""
        times = [_time(self.bytes, roofline.bytes_per_second(self.bytes))]
        if self.macs:
            times.append(_time(self.macs, roofline.macs_per_second(self.precision)))
        return max(times, key=lambda seconds: seconds.value)

    def bound_by(self, roofline: Roofline) -> str:
        """Which of the two takes longer: "arithmetic" or "bandwidth"."""
        moving = self.bytes / roofline.bytes_per_second(self.bytes).value
        computing = (self.macs or 0) / roofline.macs_per_second(self.precision).value
        return "arithmetic" if computing > moving else "bandwidth"


def roofline_share(work: Work, roofline: Roofline, seconds: Median) -> Median:
    """The least time over the measured one: 1 is all that the device can do.

    The interval is the measuring error: its low end takes the device at its slowest against the call at its longest,
    so that only a time that is impossible at both ends of both intervals lies beyond 1 with its low end.
    """
    least = work.least_seconds(roofline)
    return Median(least.value / seconds.value, least.low / seconds.high, least.high / seconds.low)


def refuse_impossible(label: str, work: Work, roofline: Roofline, seconds: Median) -> None:
    """Stop at a time that the device cannot reach.

    Raises:
        BenchError: the share of the roofline is beyond 100 % by more than the measuring error and `MARGIN`.
    """
    share = roofline_share(work, roofline, seconds)
    if share.low <= MARGIN:
        return
    least = work.least_seconds(roofline)
    raise BenchError(
        f"{label} was timed at {seconds.value * 1e3:.3g} ms a call, but its work ({work.macs or 0:,} "
        f"multiply-accumulates, {work.bytes:,} bytes) takes at least {least.value * 1e3:.3g} ms at the best rate that "
        f"this device reached in the same run, bound by {work.bound_by(roofline)}: {share.value:.0%} of what is "
        f"possible, and {share.low:.0%} "
        "with the measuring error in its favour; the clock stopped before the result was there (a device that was not "
        "waited for), or the network did not compute what it should"
    )


@dataclass
class _Probe:
    """One kernel whose rate is measured."""

    name: str
    work: int  # MACs, or bytes
    call: Callable[[], Tensor]
    repeats: int = 1
    rates: list[float] = field(default_factory=list)

    def seconds(self) -> float:
        """Of one call, until a value of its result has been read."""
        start = time.perf_counter()
        for _ in range(self.repeats):
            result = self.call()
        result.flatten()[-1].item()
        return (time.perf_counter() - start) / self.repeats

    def time(self) -> None:
        self.rates.append(self.work / self.seconds())

    @property
    def rate(self) -> Median:
        return median_interval(self.rates)


class RooflineMeter:
    """Measures a device's rates, a round at a time beside the networks.

    Args:
        device: where.
        precisions: of the networks; fp32 comes along, as what a device falls back to.
    """

    def __init__(self, device: torch.device, precisions: Iterable[str]) -> None:
        plain = _kernels(device, "fp32")
        fallback = max(rate for rate, _ in plain)
        self.arithmetic = {"fp32": [probe for _, probe in plain]}
        for precision in sorted({*precisions} - {"fp32"}):
            quick = [probe for rate, probe in _kernels(device, precision) if rate > fallback / 2]
            self.arithmetic[precision] = quick  # a slower one bounds nothing, and would take long in every round
        self.copies = {moved: _warm(_copy(device, moved)) for moved in COPIES[_kind(device)]}

    def time_round(self) -> None:
        """Each kernel once more."""
        for precision, probes in self.arithmetic.items():
            with tensor_cores(precision):
                for probe in probes:
                    probe.time()
        for probe in self.copies.values():
            probe.time()

    def roofline(self) -> Roofline:
        """The rates of all rounds so far; at least one."""
        rates = {precision: {p.name: p.rate for p in probes} for precision, probes in self.arithmetic.items()}
        return Roofline(rates, {moved: probe.rate for moved, probe in self.copies.items()})


def _kernels(device: torch.device, precision: str) -> list[tuple[float, _Probe]]:
    """The fastest product and the fastest convolution, and their rates."""
    if precision == "int8":
        return _best(_integer_products())
    with tensor_cores(precision):
        kernels = (_products(device, precision), _convolutions(device, precision))
        return [found for sizes in kernels for found in _best(sizes)]


def _products(device: torch.device, precision: str) -> Iterator[_Probe]:
    for side in PRODUCTS[_kind(device)]:
        a, b = (_noise((side, side), device, precision) for _ in range(2))
        yield _Probe(f"product of {side}x{side} matrices", side**3, partial(torch.matmul, a, b))


def _integer_products() -> Iterator[_Probe]:
    """ONNX Runtime's product of bytes with sums of 32 bits; PyTorch's own on a CPU is many times slower at some sizes.

    What runs in int8 needs ONNX Runtime (see `bench.speed.runtimes.EXTRAS`), so that it is there.
    """
    import onnxruntime
    from onnx import TensorProto, helper

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    for side in PRODUCTS["cpu"]:
        a = torch.randint(0, 256, (side, side), dtype=torch.uint8).numpy()
        b = torch.randint(-128, 128, (side, side), dtype=torch.int8).numpy()
        product = helper.make_graph(
            [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
            "product",
            [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
            [helper.make_tensor_value_info("c", TensorProto.INT32, [side, side])],
            [helper.make_tensor("b", TensorProto.INT8, b.shape, b.tobytes(), raw=True)],
        )
        file = helper.make_model(product, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(file.SerializeToString(), options, ["CPUExecutionProvider"])
        name = f"product of {side}x{side} matrices of bytes, ONNX Runtime"
        yield _Probe(name, side**3, partial(_product, session, a))


def _product(session: Any, a: np.ndarray) -> Tensor:
    return torch.from_numpy(session.run(["c"], {"a": a})[0])


def _convolutions(device: torch.device, precision: str) -> Iterator[_Probe]:
    for images, channels, side in CONVOLUTIONS[_kind(device)]:
        x = _noise((images, channels, side, side), device, precision).contiguous(memory_format=torch.channels_last)
        weight = _noise((channels, channels, 3, 3), device, precision).contiguous(memory_format=torch.channels_last)
        yield _Probe(
            f"3x3 convolution, {channels} channels, {side}x{side}",
            images * channels * channels * 9 * side * side,
            partial(torch.nn.functional.conv2d, x, weight, padding=1),
        )


def _copy(device: torch.device, moved: int) -> _Probe:
    source = torch.ones(moved // 8, device=device)  # 4 bytes an element, read and written
    target = torch.empty_like(source)
    return _Probe(f"copy of {moved // 2} bytes", moved, lambda: target.copy_(source))


def _best(sizes: Iterator[_Probe]) -> list[tuple[float, _Probe]]:
    """The fastest of growing sizes, ready to be timed; none where the device has no such kernel."""
    tried: list[tuple[float, _Probe]] = []
    while True:
        try:
            probe = _warm(next(sizes))
        except (StopIteration, RuntimeError):  # the end, or no kernel for this type
            break
        seconds = probe.seconds()
        tried.append((probe.work / seconds, probe))
        if seconds > LONGEST:
            break
    return [max(tried, key=lambda pair: pair[0])] if tried else []


def _warm(probe: _Probe) -> _Probe:
    """Call it once for what only a first call does, then see how often it has to be repeated."""
    probe.seconds()
    probe.repeats = max(1, round(SHORTEST / max(probe.seconds(), 1e-7)))
    return probe


def _noise(shape: tuple[int, ...], device: torch.device, precision: str) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, DTYPES[precision])


def _kind(device: torch.device) -> str:
    return "cuda" if device.type == "cuda" else "cpu"


def _time(work: int, rate: Median) -> Median:
    return Median(work / rate.value, work / rate.high, work / rate.low)


def _listed(rate: Median) -> list[float]:
    return [rate.value, rate.low, rate.high]
