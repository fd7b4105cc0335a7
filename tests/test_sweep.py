"""Batch sweeps and energy counters, on networks and counters whose answers are known."""

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.speed.machine import energy_meter, joules_per_image
from bench.speed.measure import Contender, SpeedProtocol
from bench.speed.sweep import sweep_batches

BRIEF = SpeedProtocol(calls=1, rounds=6, min_seconds=0, max_seconds=0.05, warmup_seconds=0.02, threads=1)


class Overhead(nn.Module):
    """Takes as long for four images as for one, twice as long for eight; has no memory for more than `most`."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most = most

    def forward(self, x):
        if len(x) > self.most:
            raise RuntimeError("out of memory")
        if x.device.type != "meta":
            time.sleep(0.004 * max(1, len(x) / 4))
        return x


def test_a_sweep_doubles_until_throughput_stops_growing():
    models = {"roomy": Overhead(), "tight": Overhead(most=2)}
    found = sweep_batches({label: Contender(model, (4, 4), BRIEF) for label, model in models.items()})
    tight = found["tight"]
    assert [point.batch for point in tight.points] == [1, 2, 4]
    assert tight.best.batch == 2
    assert "out of memory" in tight.ended
    assert tight.points[-1].to_dict() == {"batch": 4, "reason": tight.ended}
    assert [point.batch for point in found["roomy"].points][:3] == [1, 2, 4]
    assert found["roomy"].best.batch >= 4
    record = found["roomy"].to_dict()
    assert record["best_throughput"] == max(point["throughput"] for point in record["points"])
    assert json.loads(json.dumps(record)) == record


def test_a_sweep_ends_in_time_and_at_the_largest_batch():
    one = {"net": Contender(Overhead(), (4, 4), BRIEF)}
    assert sweep_batches(one, max_seconds=0)["net"].ended == "the time was up"
    found = sweep_batches(one, largest=2)["net"]
    assert (found.ended, len(found.points)) == ("2 is the largest batch tried", 2)


def package(root: Path, name: str, energy: int, largest: int = 10_000_000) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    return folder


def test_joules_of_all_packages_and_over_the_end_of_a_counter(tmp_path):
    first, second = package(tmp_path, "intel-rapl:0", 1_000_000), package(tmp_path, "intel-rapl:1", 9_500_000)
    package(tmp_path, "intel-rapl:0:0", 5)  # a part of the first, in its figure already

    def work() -> None:
        (first / "energy_uj").write_text("3000000")
        (second / "energy_uj").write_text("500000")

    meter = energy_meter(torch.device("cpu"), tmp_path)
    assert meter is not None and meter.source == "RAPL, whole packages"
    assert len(meter.ranges) == 2
    assert meter.joules_between(work) == pytest.approx(2.0 + 1.0)


def test_energy_is_of_an_image(tmp_path):
    folder = package(tmp_path, "intel-rapl:0", 0)

    def call() -> None:
        (folder / "energy_uj").write_text(str(int((folder / "energy_uj").read_text()) + 8000))

    meter = energy_meter(torch.device("cpu"), tmp_path)
    assert joules_per_image(call, 4, meter, seconds=0.01) == pytest.approx(0.002)
    assert joules_per_image(lambda: None, 4, meter, seconds=0) is None  # a counter that stands still says nothing


def test_without_a_counter_there_is_no_figure(tmp_path):
    assert energy_meter(torch.device("cpu"), tmp_path) is None
    (package(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    assert energy_meter(torch.device("cpu"), tmp_path) is None
    assert joules_per_image(lambda: None, 1, None) is None
