"""How fast models run, so that the figures mean something.

Every call is waited for (a GPU answers before it has computed). Models are warmed up until their times settle, then
timed in rounds in which each model has its turn, in an order that rotates: whatever slows the machine down slows all
of them. A round gives latencies (one call, waited for) and a block time (calls issued back to back, waited for once).
What is reported is the median over rounds with its interval, so one bad moment moves nothing; two models are compared
round by round (`ratio`).
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import comb
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.clocks import Clock, clock_for
from bench.errors import BenchError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
RUNTIMES = ("eager", "compile")


@dataclass(frozen=True)
class SpeedProtocol:
    """How to measure.

    Args:
        batch: images a call.
        precision: fp32, bf16 or fp16; weights and input are of that type (no autocast).
        memory_format: contiguous or channels_last.
        runtime: eager, or compile (`torch.compile`, shapes fixed; its time is reported apart).
        threads: of PyTorch on the CPU during the measurement; None leaves the number as it is.
        calls: timed calls of each model in a round; fewer, down to one, of a model so slow that the fewest rounds
            would outlast its part of `max_seconds`.
        rounds: at least so many; 6 is the fewest that give a 95 % interval of a median.
        min_seconds: of timed calls, over all models and rounds, at least.
        max_seconds: no round begins after so long, over all models, once there are `rounds` of them.
        precision_goal: rounds go on until each interval's half width is under this share of its median.
        warmup_seconds: the longest that a model may take to settle.
    """

    batch: int = 1
    precision: str = "fp32"
    memory_format: str = "contiguous"
    runtime: str = "eager"
    threads: int | None = None
    calls: int = 5
    rounds: int = 10
    min_seconds: float = 1.0
    max_seconds: float = 30.0
    precision_goal: float = 0.05
    warmup_seconds: float = 5.0

    def __post_init__(self) -> None:
        for field, options in (("precision", DTYPES), ("memory_format", MEMORY_FORMATS), ("runtime", RUNTIMES)):
            if getattr(self, field) not in options:
                raise BenchError(f"{field} {getattr(self, field)!r} is not known; there are {', '.join(options)}")
        if self.batch < 1 or self.calls < 1 or (self.threads is not None and self.threads < 1):
            raise BenchError(f"batch ({self.batch}), calls ({self.calls}) and threads ({self.threads}) start at 1")
        if self.rounds < 6:
            raise BenchError(f"rounds is {self.rounds}; a 95 % interval of a median needs at least 6")

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """A median and the interval that holds it with 95 % confidence (order statistics, no normal distribution)."""

    value: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width as a share of the median."""
        return (self.high - self.low) / 2 / self.value


@dataclass(frozen=True)
class Speed:
    """The speed of one model. Seconds for a call of `protocol.batch` images of `size`.

    `latency_rounds[r]`: the latencies of round r; `block_rounds[r]`: seconds a call in round r, issued back to back;
    `compile_seconds`: the first call, which compiles (None in eager); `warm`: whether times had settled before the
    first round; `threads`: PyTorch's CPU threads during the measurement.
    """

    size: tuple[int, int]
    protocol: SpeedProtocol
    latency_rounds: tuple[tuple[float, ...], ...]
    block_rounds: tuple[float, ...]
    compile_seconds: float | None
    warmup_calls: int
    warm: bool
    threads: int

    @property
    def samples(self) -> list[float]:
        """Every latency, in the order measured."""
        return [seconds for round_ in self.latency_rounds for seconds in round_]

    @property
    def latency(self) -> Spread:
        """Median latency of a call, with the interval of the rounds' medians."""
        return median_interval([median(round_) for round_ in self.latency_rounds])

    @property
    def throughput(self) -> Spread:
        """Images a second, calls issued back to back."""
        return median_interval([self.protocol.batch / seconds for seconds in self.block_rounds])

    def percentile(self, share: float) -> float:
        """The latency that `share` percent of all calls stay under."""
        return float(np.percentile(self.samples, share))

    def to_dict(self) -> dict[str, Any]:
        """Summary and raw samples, ready for JSON; times in milliseconds, throughput in images a second."""
        latency, throughput = self.latency, self.throughput
        return {
            "size": list(self.size),
            "protocol": self.protocol.to_dict(),
            "latency_ms": latency.value * 1e3,
            "latency_low": latency.low * 1e3,
            "latency_high": latency.high * 1e3,
            **{f"latency_p{share}": self.percentile(share) * 1e3 for share in (50, 95, 99)},
            "latency_min": min(self.samples) * 1e3,
            "latency_iqr": (self.percentile(75) - self.percentile(25)) * 1e3,
            "throughput": throughput.value,
            "throughput_low": throughput.low,
            "throughput_high": throughput.high,
            "compile_seconds": self.compile_seconds,
            "warmup_calls": self.warmup_calls,
            "warm": self.warm,
            "threads": self.threads,
            "latency_rounds_ms": [[round(seconds * 1e3, 5) for seconds in one] for one in self.latency_rounds],
            "block_rounds_ms": [round(seconds * 1e3, 5) for seconds in self.block_rounds],
        }


def ratio(a: Speed, b: Speed, confidence: float = 0.95) -> Spread:
    """How many times faster `a` ran than `b`: the median over rounds of `b`'s block time over `a`'s, both an image.

    Raises:
        BenchError: the two were not measured in the same rounds.
    """
    if len(a.block_rounds) != len(b.block_rounds):
        raise BenchError(
            f"speeds of {len(a.block_rounds)} and {len(b.block_rounds)} rounds cannot be paired; "
            "measure both in one call of measure_speed"
        )
    scale = a.protocol.batch / b.protocol.batch
    pairs = zip(a.block_rounds, b.block_rounds, strict=True)
    return median_interval([scale * theirs / ours for ours, theirs in pairs], confidence)


def median_interval(values: list[float], confidence: float = 0.95) -> Spread:
    """The median of a sample with the narrowest pair of order statistics around it that has the confidence.

    Distribution-free: the number of values under the true median is binomial(n, 1/2). With too few values for the
    confidence, the smallest and the largest.
    """
    ordered = sorted(values)
    n = len(ordered)
    depth, tail = 0, 0.0
    while depth < (n - 1) // 2:
        tail += comb(n, depth) / 2**n
        if 2 * (tail + comb(n, depth + 1) / 2**n) > 1 - confidence:
            break
        depth += 1
    return Spread(median(ordered), ordered[depth], ordered[n - 1 - depth])


def measure_speed(
    models: Mapping[str, nn.Module],
    size: tuple[int, int],
    protocol: SpeedProtocol,
    device: torch.device | str = "cpu",
    in_channels: int = 3,
) -> dict[str, Speed]:
    """Measure copies of `models`, in eval mode, on inputs of `(protocol.batch, in_channels, *size)`, interleaved.

    Raises:
        BenchError: no model, or one that fails at this size, precision or runtime.
    """
    if not models:
        raise BenchError("there is no model to measure; give at least one")
    device = torch.device(device)
    x = _input(size, protocol, device, in_channels)
    clock = clock_for(device)
    with _threads(protocol.threads), torch.inference_mode():
        runners = {label: _prepare(label, model, x, protocol, clock) for label, model in models.items()}
        _time_rounds(list(runners.values()), clock, protocol)
        return {label: runner.speed(size, protocol) for label, runner in runners.items()}


class _Runner:
    def __init__(self, call: Callable[[], Any], compile_seconds: float | None) -> None:
        self.call = call
        self.compile_seconds = compile_seconds
        self.warmup_calls, self.warm, self.pace = 0, False, 0.0
        self.latencies: list[tuple[float, ...]] = []
        self.blocks: list[float] = []

    def warm_up(self, clock: Clock, longest: float) -> None:
        """Call until the medians of two successive windows of 5 agree within 5 %, or the time is up."""
        window, times, start = 5, [], time.perf_counter()
        while not self.warm and (len(times) < 2 or time.perf_counter() - start < longest):
            times.append(clock.one(self.call))
            before, now = times[-2 * window : -window], times[-window:]
            self.warm = len(before) == window and abs(median(now) / median(before) - 1) < 0.05
        self.warmup_calls, self.pace = len(times), median(times[-window:])

    def time_round(self, clock: Clock, protocol: SpeedProtocol, models: int) -> None:
        affordable = protocol.max_seconds / (models * protocol.rounds * max(self.pace, 1e-9))
        latencies, block = clock.round(self.call, max(1, min(protocol.calls, int(affordable))))
        self.latencies.append(tuple(latencies))
        self.blocks.append(block)

    def settled(self, goal: float) -> bool:
        medians = [median(round_) for round_ in self.latencies]
        return all(median_interval(v).relative_half_width < goal for v in (medians, self.blocks))

    def speed(self, size: tuple[int, int], protocol: SpeedProtocol) -> Speed:
        return Speed(
            tuple(size),
            protocol,
            tuple(self.latencies),
            tuple(self.blocks),
            self.compile_seconds,
            self.warmup_calls,
            self.warm,
            torch.get_num_threads(),
        )


def _prepare(label: str, model: nn.Module, x: Tensor, protocol: SpeedProtocol, clock: Clock) -> _Runner:
    memory_format = MEMORY_FORMATS[protocol.memory_format]
    try:
        ready = copy.deepcopy(model).eval().to(x.device, x.dtype, memory_format=memory_format)
        compiled = torch.compile(ready, dynamic=False) if protocol.runtime == "compile" else ready
        first = clock.one(lambda: compiled(x))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchError(
            f"{label} does not run on a {tuple(x.shape)} input in {protocol.precision}, {protocol.runtime}, on "
            f"{x.device.type} ({reason}); try another size, precision or runtime"
        ) from error
    runner = _Runner(lambda: compiled(x), first if protocol.runtime == "compile" else None)
    runner.warm_up(clock, protocol.warmup_seconds)
    return runner


def _time_rounds(runners: list[_Runner], clock: Clock, protocol: SpeedProtocol) -> None:
    start, rounds = time.perf_counter(), 0
    while not _enough(runners, rounds, time.perf_counter() - start, protocol):
        first = rounds % len(runners)
        for runner in runners[first:] + runners[:first]:
            runner.time_round(clock, protocol, len(runners))
        rounds += 1


def _enough(runners: list[_Runner], rounds: int, seconds: float, protocol: SpeedProtocol) -> bool:
    if rounds < protocol.rounds:
        return False
    if seconds >= protocol.max_seconds:
        return True
    return seconds >= protocol.min_seconds and all(runner.settled(protocol.precision_goal) for runner in runners)


def _input(size: tuple[int, int], protocol: SpeedProtocol, device: torch.device, in_channels: int) -> Tensor:
    """Normal noise: zeros would meet shortcuts and denormals that images do not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(protocol.batch, in_channels, *size, generator=generator)
    return x.to(device, DTYPES[protocol.precision]).to(memory_format=MEMORY_FORMATS[protocol.memory_format])


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
