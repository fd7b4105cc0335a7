"""How long a network takes for the land: from its throughput, recorded or raced here, and the windows of the land."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

import archs
from bench.choose.known import KnownNetwork, KnownSet, KnownSpeed, Machine
from bench.choose.reading import speeds_of
from bench.data import DataSet
from bench.engine import run_cells
from bench.records import RecordStore
from bench.records.environment import environment
from bench.scenes.windows import largest_batch, tiling
from bench.speed.comparison import RunConfig, comparison_cell, missing
from bench.speed.protocol import SpeedProtocol
from bench.study.protocol import RECORDS

LARGEST_SCENE = 20_000
"""Side in pixels of the scenes that land is thought to be cut into; a larger one changes the share of windows that
is of use by less than a per cent."""
OWN_RUNTIMES = ("eager", "compile", "autotune", "cudagraphs")


@dataclass(frozen=True)
class Land:
    """Land as windows of scenes.

    Attributes:
        pixels: of the land.
        side: (height, width) of a window.
        useful: share of the computed pixels that is in the map; the rest is overlap and filling.
    """

    pixels: float
    side: tuple[int, int]
    useful: float

    @classmethod
    def of(cls, pixels: float, data: KnownSet) -> "Land":
        """The windows that `predict` lays by default for networks trained on the tiles of `data`."""
        length = min(LARGEST_SCENE, max(1, round(pixels**0.5)))
        found = tiling(length, length, data.tile_size)
        window = tiling(LARGEST_SCENE, LARGEST_SCENE, data.tile_size).side
        return cls(pixels, window, length**2 / (len(found) * found.side[0] * found.side[1]))

    @property
    def computed(self) -> float:
        """Pixels that go through the network."""
        return self.pixels / self.useful

    def seconds(self, speed: KnownSpeed, throughput: float) -> float:
        """The network's own time at so many images a second of the speed's size."""
        return self.computed / (throughput * speed.size[0] * speed.size[1])

    def joules(self, speed: KnownSpeed) -> float | None:
        """The device's energy; None where it was not counted."""
        images = self.computed / (speed.size[0] * speed.size[1])
        return None if speed.joules is None else speed.joules * images


@dataclass(frozen=True)
class Race:
    """How the networks are timed here.

    Attributes:
        runtimes, precisions: every network in each pair of them, see `bench.speed.SpeedProtocol`.
        device: "cpu", "cuda" or "cuda:1".
        seconds: of timed calls, over all networks.
        out: folder of the results; what is recorded there is not timed again.
        tiles: the opened data set, on which int8 is calibrated; None where it is not here.
    """

    runtimes: Sequence[str]
    precisions: Sequence[str]
    device: str
    seconds: float
    out: Path
    tiles: DataSet | None = None

    def protocol(self, network: KnownNetwork, runtime: str, precision: str, side: tuple[int, int]) -> SpeedProtocol:
        """The deployed form, unless it was counted that there is none, at the batch that `predict` takes."""
        return SpeedProtocol(
            batch=largest_batch(side),
            form="trained" if "params" in network.costs and "deployed_params" not in network.costs else "deployed",
            runtime=runtime,
            precision=precision,
            memory_format="channels_last" if runtime in OWN_RUNTIMES else "contiguous",
            threads=None if _is_gpu(self.device) else torch.get_num_threads(),
            calls=2,
            rounds=6,
            max_seconds=self.seconds,
            warmup_seconds=1.0,
        )


@dataclass(frozen=True)
class Raced:
    """What a race found.

    Attributes:
        speeds: of the networks that ran.
        failures: by label (network, runtime, precision), why the others did not.
        earlier: whether it had been recorded before.
    """

    speeds: tuple[KnownSpeed, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    earlier: bool = False

    @property
    def sentences(self) -> list[str]:
        """What to know of its figures."""
        again = (
            "The race was recorded before; for a new one give another --out." if self.earlier and self.speeds else ""
        )
        failed = [f"Not timed: {label} ({reason})." for label, reason in self.failures.items()]
        return [sentence for sentence in (again, self._disturbed, *failed) if sentence]

    @property
    def _disturbed(self) -> str:
        """A sentence if other processes took cores that the networks needed; empty if there were enough."""
        first = next(iter(self.speeds), None)
        if first is None or not first.disturbed:
            return ""
        return (
            f"Background CPU load: other processes used {first.other_cores:.1f} of {first.cores} cores beside "
            f"the {first.threads} of the race: the times are too long, and not alike for all runtimes."
        )


def available(device: str) -> list[str]:
    """The runtimes that need no long preparation and are installed here."""
    wanted = ("eager", "compile") if _is_gpu(device) else ("eager", "onnxruntime", "openvino")
    return [runtime for runtime in wanted if not missing(SpeedProtocol(runtime=runtime), device)]


def race(networks: Sequence[KnownNetwork], side: tuple[int, int], data: KnownSet, how: Race) -> Raced:
    """Time the networks in windows of `side`, all in the same rounds, and record it.

    Networks whose architecture is not registered here fail alone, as do those that a runtime cannot run.
    """
    runs: dict[str, RunConfig] = {}
    failures: dict[str, str] = {}
    for network in networks:
        try:
            runs |= _runs(network, side, how)
        except archs.ArchError as error:
            failures[network.name] = f"{error}; `--plugin` registers architectures of your own"
    if not runs:
        return Raced((), failures)
    cell = comparison_cell(runs, "race of candidates", side, data.num_classes, how.device, data.in_channels, how.tiles)
    store = RecordStore(how.out / RECORDS)
    earlier = cell.key in store
    run_cells([cell], store, environment=environment(how.device))
    record = store.get(cell.key)
    if record is None or record.status == "failed":
        return Raced((), {**failures, "the race": record.reason if record else "it was not recorded"}, earlier)
    return Raced(tuple(speeds_of(record)), {**failures, **record.result["missing"]}, earlier)


def _is_gpu(device: str) -> bool:
    """Whether it is a GPU, whichever of the machine's."""
    return torch.device(device).type == "cuda"


def _runs(network: KnownNetwork, side: tuple[int, int], how: Race) -> dict[str, RunConfig]:
    config = archs.from_dict(dict(network.config))
    return {
        f"{network.name}, {runtime}, {precision}": RunConfig(config, how.protocol(network, runtime, precision, side))
        for runtime in how.runtimes
        for precision in how.precisions
    }


def this_machine(device: str) -> Machine:
    """What recorded speeds are held against."""
    where = environment(device)
    return Machine(where["device_kind"], where["threads"])
