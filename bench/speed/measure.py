"""How fast models run, so that the figures mean something.

Every call is waited for (a GPU answers before it has computed). Models are warmed up until their times settle, then
timed in rounds in which each model has its turn, in an order that rotates: whatever slows the machine down slows all
of them. A round gives latencies (one call, waited for) and a block time (calls issued back to back, waited for once).
What is reported is the median over rounds with its interval, so one bad moment moves nothing; two models are compared
round by round (`ratio`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archs.errors import ArchError, first_line
from archs.segmenter import require_logits
from bench.engine.failures import free_memory
from bench.errors import BenchError
from bench.speed.machine import NOT_REPORTED, CpuLoad, EnergyMeter, energy_meter, joules_per_image
from bench.speed.protocol import MEMORY_FORMATS, SpeedProtocol, tensor_cores
from bench.speed.quantise import calibration_batches
from bench.speed.roofline import Roofline, RooflineMeter, Work, refuse_impossible, roofline_share
from bench.speed.rounds import Clock, Runner, time_rounds
from bench.speed.runtimes import ModelCache, input_type, possible_forms, prepare, refuse_missing, refuse_other_output
from bench.speed.work import compulsory_work
from bench.stats.medians import Median, median_interval

__all__ = ["Contender", "Median", "Speed", "SpeedProtocol", "median_interval", "race_isolated"]


@dataclass(frozen=True)
class Speed:
    """The speed of one model. Seconds for a call of `protocol.batch` images of `size`.

    `latency_rounds[r]`: the latencies of round r; `block_rounds[r]`: seconds a call in round r, issued back to back;
    `compile_seconds`: preparation and first call, which compiles (None in eager); `warm`: whether times had settled
    before the first round; `threads`: PyTorch's CPU threads during the measurement; `work`: what a call cannot do
    without; `roofline`: the device's own rates in the same rounds; `difference`: of the output from the trained
    network's in fp32, as a share of its largest value (None where it is that network itself); `joules`:
    of an image, calls back to back, None where the hardware does not report it; `energy_source`: which counter;
    `other_cores`: how many cores other processes had meanwhile, on average, None where that is unknown.
    """

    size: tuple[int, int]
    protocol: SpeedProtocol
    latency_rounds: tuple[tuple[float, ...], ...]
    block_rounds: tuple[float, ...]
    compile_seconds: float | None
    warmup_calls: int
    warm: bool
    threads: int
    work: Work | None = None
    roofline: Roofline | None = None
    difference: float | None = None
    joules: float | None = None
    energy_source: str = NOT_REPORTED
    other_cores: float | None = None

    @property
    def samples(self) -> list[float]:
        """Every latency, in the order measured."""
        return [seconds for round_ in self.latency_rounds for seconds in round_]

    @property
    def latency(self) -> Median:
        """Median latency of a call, with the interval of the rounds' medians."""
        return median_interval([median(round_) for round_ in self.latency_rounds])

    @property
    def throughput(self) -> Median:
        """Images a second, calls issued back to back."""
        return median_interval([self.protocol.batch / seconds for seconds in self.block_rounds])

    @property
    def seconds(self) -> Median:
        """Of a call issued back to back, the shorter of the two ways to time it."""
        return median_interval(list(self.block_rounds))

    @property
    def share(self) -> Median | None:
        """The least time that the device needs for the compulsory work over the measured one, calls back to back."""
        return roofline_share(self.work, self.roofline, self.seconds) if self.work and self.roofline else None

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
            "output_difference": self.difference,
            "joules_per_image": self.joules,
            "energy_source": self.energy_source,
            "other_cores": self.other_cores,
            **self._against_roofline(),
            "latency_rounds_ms": [[round(seconds * 1e3, 5) for seconds in one] for one in self.latency_rounds],
            "block_rounds_ms": [round(seconds * 1e3, 5) for seconds in self.block_rounds],
        }

    def _against_roofline(self) -> dict[str, Any]:
        work, roofline, share = self.work, self.roofline, self.share
        if not (work and roofline and share):
            return {"ceiling_share": None}
        return {
            "ceiling_share": share.value,
            "ceiling_share_low": share.low,
            "ceiling_share_high": share.high,
            "compulsory_macs": work.macs,
            "compulsory_bytes": work.bytes,
            "least_ms": work.least_seconds(roofline).value * 1e3,
            "bound_by": work.bound_by(roofline),
            "ceilings": roofline.to_dict(),
        }


@dataclass(frozen=True)
class Contender:
    """A network, the size of its images, and how it is run.

    `calibration`: scaled images of that size out of the training data, which int8 needs.
    """

    model: nn.Module
    size: tuple[int, int]
    protocol: SpeedProtocol
    calibration: Tensor | None = None


@dataclass(frozen=True)
class Raced:
    """The speeds of those that ran, and why the others did not, by label."""

    speeds: dict[str, Speed]
    failures: dict[str, str]


def race_isolated(
    contenders: Mapping[str, Contender],
    device: torch.device | str = "cpu",
    in_channels: int = 3,
    *,
    clock: Clock | None = None,
    on_ready: Callable[[int, int, str], None] = lambda done, total, note: None,
    models: ModelCache | None = None,
) -> Raced:
    """Measure copies of networks, in eval mode, in the same rounds; one that fails (for want of memory, say, or in the
    middle of a round) fails alone.

    Args:
        contenders: by label; they may differ in form, runtime, precision, batch and size.
        clock: None takes the one that waits for `device`.
        on_ready: told how many contenders are prepared, of how many, and what comes next.
        models: keeps what is made of the networks for who asks next; None keeps it for this race.

    Raises:
        BenchError: there is no contender, or they differ in threads, or in how long they are measured.
    """
    if not contenders:
        raise BenchError("there is no model to measure; give at least one")
    if len({contender.protocol.schedule for contender in contenders.values()}) > 1:
        raise BenchError("networks measured in the same rounds need the same threads, calls, rounds and seconds")
    device, schedule = torch.device(device), next(iter(contenders.values())).protocol
    clock = clock or Clock(device)
    models = models or ModelCache()
    entries: dict[str, _Entry] = {}
    failures: dict[str, str] = {}
    for label, contender in contenders.items():
        on_ready(len(entries) + len(failures), len(contenders), f"preparing {label}")
        with _isolated(label, failures), limited_threads(schedule.threads), torch.no_grad():
            entries[label] = _enter(label, contender, device, in_channels, clock, models)
    if not entries:
        return Raced({}, failures)
    on_ready(len(contenders), len(contenders), "timing")
    with limited_threads(schedule.threads), torch.inference_mode():
        meter = RooflineMeter(device, {contender.protocol.precision for contender in contenders.values()})
        load = CpuLoad()
        time_rounds([entry.runner for entry in entries.values()], meter, clock, schedule)
        others, roofline, energy = load.other_cores(), meter.roofline(), energy_meter(device)
        speeds: dict[str, Speed] = {}
        for label, entry in entries.items():
            with _isolated(label, failures):
                speeds[label] = entry.judged(label, roofline, energy, others)
    return Raced(speeds, failures)


@contextmanager
def _isolated(label: str, failures: dict[str, str]) -> Iterator[None]:
    """Note why a network fails, and let go of the memory that it had."""
    try:
        yield
    except Exception as error:  # whatever a network raises is the answer
        reason = first_line(error)
        failures[label] = reason if isinstance(error, BenchError) else f"{label} failed while it was timed ({reason})"
    else:
        return
    free_memory()


@dataclass(frozen=True)
class _Entry:
    """A contender that is ready."""

    contender: Contender
    runner: Runner
    work: Work
    compile_seconds: float | None
    difference: float | None

    def judged(self, label: str, roofline: Roofline, energy: EnergyMeter | None, others: float | None) -> Speed:
        """The speed.

        Raises:
            BenchError: the network failed in a round, or is faster than the device can be.
        """
        if self.runner.failure is not None:
            raise self.runner.failure
        speed = self.speed(roofline, energy, others)
        for seconds in (speed.seconds, speed.latency):
            refuse_impossible(label, self.work, roofline, seconds)
        return speed

    def speed(self, roofline: Roofline, energy: EnergyMeter | None, others: float | None) -> Speed:
        return Speed(
            size=self.contender.size,
            protocol=self.contender.protocol,
            latency_rounds=tuple(self.runner.latencies),
            block_rounds=tuple(self.runner.blocks),
            compile_seconds=self.compile_seconds,
            warmup_calls=self.runner.warmup_calls,
            warm=self.runner.warm,
            threads=torch.get_num_threads(),
            work=self.work,
            roofline=roofline,
            difference=self.difference,
            joules=joules_per_image(self.runner.call, self.contender.protocol.batch, energy),
            energy_source=energy.source if energy else NOT_REPORTED,
            other_cores=others,
        )


def _enter(
    label: str, contender: Contender, device: torch.device, in_channels: int, clock: Clock, models: ModelCache
) -> _Entry:
    """Prepare a contender, hold its output against the trained network's, and warm it up."""
    protocol = contender.protocol
    refuse_missing(protocol, device)
    x = example_input(contender, device, in_channels)
    try:
        start = time.perf_counter()
        ran = models.network(contender.model, x, protocol)
        ready = prepare(ran, x, protocol, models, contender.calibration)
        with tensor_cores(protocol.precision), torch.inference_mode():
            output = require_logits(ready.read(ready.call()), x).clone()  # the next call may write to the same place
        _wait(output)
        seconds = time.perf_counter() - start
    except BenchError:
        raise
    except ArchError as error:
        raise BenchError(f"{label} cannot be timed: {error}") from error
    except Exception as error:
        raise BenchError(
            f"{label} does not run on a {tuple(x.shape)} input in {protocol.precision}, {protocol.runtime}, on "
            f"{x.device.type} ({first_line(error)}); try another size, precision or runtime"
        ) from error
    itself = (protocol.runtime, protocol.form, protocol.precision) == ("eager", "trained", "fp32")
    far = None if itself else refuse_other_output(label, output, _trained_output(contender, x, models), protocol)
    work = compulsory_work(possible_forms(contender.model, ran, x, protocol, models), x, protocol.precision)
    runner = Runner(_in_precision(ready.call, protocol, device))
    with torch.inference_mode():
        runner.warm_up(clock, protocol.warmup_seconds)
    return _Entry(contender, runner, work, None if protocol.runtime == "eager" else seconds, far)


def _in_precision(call: Any, protocol: SpeedProtocol, device: torch.device) -> Any:
    """A GPU's switch for tf32 is the process's, so each contender sets its own; elsewhere the call stays as it is."""
    if device.type != "cuda":
        return call

    def switched() -> Any:
        with tensor_cores(protocol.precision):
            return call()

    return switched


def _trained_output(contender: Contender, x: Tensor, models: ModelCache) -> Tensor:
    plain, x = SpeedProtocol(), x.float().contiguous()
    with tensor_cores("fp32"):
        return models.network(contender.model, x, plain)(x)


def _wait(output: Tensor) -> None:
    if output.is_cuda:
        torch.cuda.synchronize(output.device)


def example_input(contender: Contender, device: torch.device, in_channels: int = 3) -> Tensor:
    """What a network is run on.

    Normal noise: zeros would meet shortcuts and denormals that images do not. For int8 images, since the ranges of its
    integers are those of images.
    """
    protocol, size = contender.protocol, contender.size
    if contender.calibration is not None and protocol.precision == "int8":
        x = torch.from_numpy(calibration_batches(contender.calibration, protocol.batch)[0])
    else:
        x = torch.randn(protocol.batch, in_channels, *size, generator=torch.Generator().manual_seed(0))
    return x.to(device, input_type(protocol)).to(memory_format=MEMORY_FORMATS[protocol.memory_format])


@contextmanager
def limited_threads(number: int | None) -> Iterator[None]:
    """So many threads of PyTorch, and of the runtimes that take its number; None leaves it."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
