"""What is known of networks, in short: scores, costs, comparisons and speeds (`bench.choose.reading` reads them).

A table of the committed results lies inside the package (`committed`), so that an installed suite knows them too.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bench.records.canonical import canonical_json
from bench.speed.machine import TOLERABLE

TABLE = Path(__file__).with_name("known.json")
"""What the committed results know; `python docs/fill_pages.py` writes it anew."""
NOT_TRAINED = "not trained"
SIGNIFICANT = 6  # digits of a figure in the table of the package


@dataclass(frozen=True)
class KnownSet:
    """A data set that studies were made on.

    Attributes:
        name, fingerprint: see `bench.data.DataSet`.
        tile_size: (height, width) in pixels.
        num_classes, in_channels: of its networks.
        gsd_m: side of a pixel on the ground in metres; None where it is not known.
        scope: what scores on its test tiles hold for; empty where the manifest does not say.
    """

    name: str
    fingerprint: str
    tile_size: tuple[int, int]
    num_classes: int
    in_channels: int
    gsd_m: float | None = None
    scope: str = ""


@dataclass(frozen=True)
class Score:
    """Macro F1 on the test tiles, a share, the mean of `trainings`; its 95 % interval over trainings on these test
    images, None where one training tells nothing of chance."""

    f1: float
    low: float | None
    high: float | None
    trainings: int


@dataclass(frozen=True)
class KnownNetwork:
    """A network of a study.

    Attributes:
        name: as registered, else as the study calls it.
        config: plain JSON, fields with their default left out.
        costs: params, macs, storage_bytes and, of the deployed form, deployed_params, deployed_macs and
            deployed_file_bytes; what was not counted is left out.
        scores: by the precision in which the test tiles were predicted, first that of the training; "int8 openvino" and
            the like are of one training's weights in that precision and runtime.
        missing: why there is no score; empty where there is one.
    """

    name: str
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    scores: Mapping[str, Score]
    missing: str = ""

    @property
    def identity(self) -> str:
        """Equal for equal configs."""
        return canonical_json(self.config)


@dataclass(frozen=True)
class KnownComparison:
    """A study's verdict on a network against its base, both by their place in the study; `scenes` is the verdict for
    other scenes, empty where there is none."""

    variant: int
    base: int
    verdict: str
    scenes: str = ""


@dataclass(frozen=True)
class KnownStudy:
    """A study of variants: its networks and its verdicts on them."""

    name: str
    data: KnownSet
    recipe: Mapping[str, Any]
    networks: tuple[KnownNetwork, ...]
    comparisons: tuple[KnownComparison, ...]

    @property
    def training(self) -> str:
        """How its networks were trained, in words."""
        recipe = self.recipe
        crop = f"crops of {recipe['crop']} px" if recipe["crop"] else "whole tiles"
        return f"{recipe['steps']} steps of {recipe['batch']} {crop}, {recipe['precision']}"

    @cached_property
    def recipe_key(self) -> str:
        """Equal for equal recipes."""
        return canonical_json(self.recipe)


class Machine(NamedTuple):
    """What a speed is held against: the model of the processor or GPU, and the CPU threads."""

    device: str
    threads: int


@dataclass(frozen=True)
class KnownSpeed:
    """A speed of a network in one run config.

    Attributes:
        config: as that of a `KnownNetwork`.
        size: (height, width) of the images; num_classes, in_channels: of the network.
        form, runtime, precision, memory_format, batch, threads: how it was run, see `bench.speed.SpeedProtocol`.
        device: model of the processor or GPU.
        throughput, low, high: images a second with their 95 % interval.
        joules: of an image; None where the hardware does not count them.
        other_cores: that other processes had meanwhile; None where that is unknown.
        cores: that this process might use.
    """

    config: Mapping[str, Any]
    size: tuple[int, int]
    num_classes: int
    in_channels: int
    form: str
    runtime: str
    precision: str
    memory_format: str
    batch: int
    threads: int
    device: str
    throughput: float
    low: float
    high: float
    joules: float | None = None
    other_cores: float | None = None
    cores: int | None = None

    @property
    def disturbed(self) -> bool:
        """Whether other processes used cores that its threads needed; False where that is unknown."""
        if self.other_cores is None or self.cores is None:
            return False
        return self.other_cores + self.threads > self.cores + TOLERABLE

    @property
    def identity(self) -> str:
        """Equal for equal configs."""
        return canonical_json(self.config)

    @property
    def machine(self) -> Machine:
        """Where it was measured."""
        return Machine(self.device, self.threads)


@dataclass(frozen=True)
class Known:
    """All of it."""

    studies: tuple[KnownStudy, ...]
    speeds: tuple[KnownSpeed, ...]

    @property
    def sets(self) -> tuple[KnownSet, ...]:
        """The data sets on which there are scores."""
        scored = [study.data for study in self.studies if any(network.scores for network in study.networks)]
        return tuple({one.fingerprint: one for one in scored}.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Known":
        """What `to_dict` made plain."""
        return cls(tuple(map(_study_from, document["studies"])), tuple(map(_speed_from, document["speeds"])))


# --- the table inside the package


def committed() -> Known:
    """What the committed results know."""
    return Known.from_dict(json.loads(TABLE.read_text(encoding="utf-8")))


def table_text(known: Known) -> str:
    """The content of the package's table: JSON, a line for each network, comparison and speed."""
    document = _rounded(known.to_dict())
    studies = ",\n".join(_study_text(study) for study in document["studies"])
    speeds = ",\n".join(map(json.dumps, document["speeds"]))
    return f'{{"studies": [\n{studies}],\n"speeds": [\n{speeds}]}}\n'


def _study_text(study: Mapping[str, Any]) -> str:
    lists = {key: ",\n".join(map(json.dumps, study[key])) for key in ("networks", "comparisons")}
    head = json.dumps({key: value for key, value in study.items() if key not in lists})[:-1]
    return head + "".join(f',\n"{key}": [\n{lines}]' for key, lines in lists.items()) + "}"


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value


def _study_from(plain: Mapping[str, Any]) -> KnownStudy:
    data = {**plain["data"], "tile_size": tuple(plain["data"]["tile_size"])}
    networks = [
        KnownNetwork(**{**row, "scores": {key: Score(**score) for key, score in row["scores"].items()}})
        for row in plain["networks"]
    ]
    comparisons = tuple(KnownComparison(**row) for row in plain["comparisons"])
    return KnownStudy(plain["name"], KnownSet(**data), plain["recipe"], tuple(networks), comparisons)


def _speed_from(plain: Mapping[str, Any]) -> KnownSpeed:
    return KnownSpeed(**{**plain, "size": tuple(plain["size"])})
