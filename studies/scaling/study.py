"""How do cost, memory and latency grow with the image and the batch, and where does attention dominate?

Counts are exact, on the meta device, so that 4096 pixels a side cost no more than 128. A network is timed at the sides
at which it needs fewer MACs an image than a limit; the others are shown as not timed, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

import archs
from bench.records import Record
from bench.speed.measure import SpeedProtocol
from bench.study import Layout, Report, Results, Setting
from studies.scaling.growth import growth_cell, latency_cell
from studies.scaling.report import point, report_growth

NETWORKS = (
    "lale-s1",
    "lale-s4",
    "lemevit-tiny+mlp",
    "lwganet-l0+mlp",
    "lemore",
    "smp/segformer-mit_b0",
    "smp/dpt-deit3_base_patch16_224",
    "smp/dpt-efficientformer_l1",
    "smp/linknet-efficientnet_b0",
    "timm/mobilenetv4_conv_small+mlp",
)
PROTOCOL = SpeedProtocol(batch=1, calls=2, rounds=6, min_seconds=0.2, max_seconds=10.0, warmup_seconds=0.5)
MOST_MACS = {"cpu": 4e9, "cuda": 2e12}


@dataclass(frozen=True)
class Scaling:
    """The study: networks, sides, batches, and which sides are timed.

    Attributes:
        sides: in pixels; of MACs and memory.
        batches: of memory and MACs, at `batch_side`.
        timed: the sides at which latency is measured.
        most_macs: by type of device, the most MACs an image that are timed.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    networks: tuple[str, ...] = NETWORKS
    sides: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096)
    batches: tuple[int, ...] = (1, 4, 16)
    batch_side: int = 256
    timed: tuple[int, ...] = (128, 256, 512)
    num_classes: int = 7
    protocol: SpeedProtocol = PROTOCOL
    name: str = "scaling"
    question: str = "How do cost, memory and latency grow with the image, and where does attention take over?"

    def layout(self, setting: Setting) -> Layout:
        """One count a network, side and batch, and one latency a side, of all networks interleaved."""
        configs = {name: archs.config(name) for name in self.networks}
        found = {}
        for name, config in configs.items():
            for side, batch in self._points():
                cell = growth_cell(config, name, (side, side), self.num_classes, batch)
                found[f"{name}, side {side}, batch {batch}"] = cell
        device = setting.device
        most = MOST_MACS[device.partition(":")[0]]
        for side in self.timed:
            cell = latency_cell(configs, (side, side), self.num_classes, self.protocol, device, most)
            found[f"latency, side {side}"] = cell
        return Layout(found)

    def report(self, results: Results) -> Report:
        """Exponents, sides from which attention dominates, tables and figure."""
        records = results.records
        points = [self._point(records, name, side, batch) for name in self.networks for side, batch in self._points()]
        families = {name: archs.family_of(archs.config(name)) for name in self.networks}
        return report_growth(pd.DataFrame(points), families, self.batch_side, results.folder)

    def _points(self) -> list[tuple[int, int]]:
        return [(side, 1) for side in self.sides] + [(self.batch_side, batch) for batch in self.batches if batch > 1]

    def _point(self, records: Mapping[str, Record], name: str, side: int, batch: int) -> dict[str, Any]:
        counted, timed = records.get(f"{name}, side {side}, batch {batch}"), records.get(f"latency, side {side}")
        result = timed.result if timed is not None and batch == 1 else {}
        untimed = "not timed yet" if timed is None else timed.reason
        untimed = untimed if side in self.timed else "this side is not timed"
        return point(
            name, side, batch,
            counts=counted.result if counted is not None and counted.status == "ok" else None,
            reason="not counted yet" if counted is None else counted.reason,
            latency=result.get("speeds", {}).get(name),
            untimed=result.get("skipped", {}).get(name) or untimed,
        )  # fmt: skip


STUDY = Scaling()
