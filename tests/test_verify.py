"""The check of check figures, and the static figures of studies."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import Tensor, nn

import archs
from bench.counting.cells import static_figures
from bench.counting.verify import verify


class Classifier(nn.Module):
    """One layer; asked to, it does what neither fvcore nor the exact counter can follow."""

    def __init__(self, num_classes: int, in_channels: int, kernel: int, reads_values: bool) -> None:
        super().__init__()
        self.reads_values = reads_values
        self.conv = nn.Conv2d(in_channels, num_classes, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.reads_values and x.sum().item() > 1e9:
            x = -x
        return self.conv(x)


@dataclass(frozen=True)
class TinyConfig:
    family: ClassVar[str] = "test-tiny"
    kernel: int = 1
    reads_values: bool = False

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        return Classifier(num_classes, in_channels, self.kernel, self.reads_values)


@pytest.fixture
def registered(monkeypatch):
    """Register a tiny architecture with some checks for one test."""
    from archs import registry

    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))

    def register(*checks, config=TinyConfig()):
        provenance = archs.Provenance(paper="none", year=2026, source="tests", licence="MIT")
        archs.register("test-tiny", config, provenance, checks=checks)

    return register


def test_right_figures_pass_and_wrong_ones_fail(registered):
    registered(
        archs.Check("params", 21, "by hand"),
        archs.Check("macs", 21 * 8 * 8, "by hand", size=(8, 8)),
        archs.Check("fvcore_macs", 21 * 8 * 8, "by hand", size=(8, 8)),
        archs.Check("thop_macs", 21 * 4 * 6, "by hand", size=(4, 6)),
        archs.Check("paper_mib", 84 / 2**20, "by hand"),
        archs.Check("params", 9, "by hand, 3 classes", num_classes=3),
        archs.Check("params", 22, "a wrong figure"),
        archs.Check("macs", 21 * 64 - 2, "a wrong figure", size=(8, 8), tolerance=1),
        archs.Check("macs", 21 * 64 - 2, "close enough", size=(8, 8), tolerance=2),
    )
    results = list(verify(["test-tiny"]))
    assert len(results) == 9
    assert {r.source for r in results if not r.ok} == {"a wrong figure"}
    assert {r.found for r in results if r.quantity == "params"} == {21, 9}


def test_results_come_one_by_one(registered):
    registered(archs.Check("params", 21, "by hand"), archs.Check("no such quantity", 1, "by hand"))
    results = verify(["test-tiny", "no such name"])
    assert next(results).ok
    unknown = next(results)
    assert (unknown.ok, unknown.found) == (False, None)
    assert "no instrument measures 'no such quantity'" in unknown.problem
    with pytest.raises(archs.ArchError):
        next(results)


def test_a_counter_that_fails_is_a_failed_check_and_the_rest_go_on(registered):
    checks = archs.Check("macs", 21 * 64, "by hand", size=(8, 8)), archs.Check("params", 21, "by hand")
    registered(*checks, config=TinyConfig(reads_values=True))
    macs, params = verify(["test-tiny"])
    assert (macs.ok, macs.found) == (False, None)
    assert "cannot be counted" in macs.problem
    assert params.ok


@pytest.mark.parametrize("name", ["lale-s1", "lale-b-s1-k7"])
def test_the_registrys_figures_hold(name):
    results = list(verify([name]))
    assert {r.quantity for r in results} >= {"params", "macs", "fvcore_macs"}
    assert [r for r in results if not r.ok] == []


def test_static_figures_are_plain_json_and_consistent():
    found = static_figures(archs.config("lale-s1"), (64, 64), num_classes=5)
    assert json.loads(json.dumps(found)) == found
    assert found["failures"] == {}
    assert found["params"] == sum(found["params_by_part"].values()) == 1_567_109 - 2 * 129
    assert found["macs"] == sum(found["macs_by_part"].values()) == sum(found["macs_by_operator"].values())
    assert found["fvcore_macs"] == sum(found["fvcore_by_operator"].values())
    assert found["storage_bytes"] == found["storage_bytes_by_type"]["float32"]
    assert found["unknown_operators"] == {}
    assert found["activation_bytes"] == 4 * found["activations"]


def test_static_figures_of_a_config_and_of_its_network_agree():
    config = TinyConfig(kernel=3)
    assert static_figures(config, (32, 32)) == static_figures(config.build(7, 3), (32, 32))


def test_a_failing_counter_leaves_its_reason_and_the_others_their_figures():
    found = static_figures(TinyConfig(reads_values=True), (8, 8))
    assert found["macs"] is None
    assert found["macs_by_part"] is None
    assert "cannot be counted" in found["failures"]["macs"]
    assert list(found["failures"]) == ["macs", "deployed"]
    assert "has no deployed form" in found["failures"]["deployed"]
    assert found["deployed_macs"] is found["deployed_params"] is found["deployed_file_bytes"] is None
    assert found["fvcore_macs"] == found["thop_macs"] == 21 * 64
    assert found["params"] == 21
    assert found["storage_bytes"] > 84


def test_static_figures_of_the_deployed_form():
    found = static_figures(archs.config("lale-s1"), (256, 256))
    assert found["macs"] == 576_323_584
    assert found["deployed_macs"] == 307_888_128
    network = archs.deploy(archs.create("lale-s1"))
    assert found["deployed_params"] == sum(p.numel() for p in network.parameters()) < found["params"]
    assert found["deployed_file_bytes"] > 4 * found["deployed_params"]
    assert 0 < found["deployed_launches"] < found["launches"]


def test_a_network_that_cannot_be_taken_apart_keeps_its_other_figures(monkeypatch):
    def stumble(model, size=None, in_channels=None):
        raise KeyError("no such node")

    monkeypatch.setattr(archs, "deploy", stumble)
    found = static_figures(TinyConfig(kernel=3), (8, 8))
    assert found["failures"]["deployed"].endswith("has no deployed form: 'no such node'")
    assert found["macs"] == found["params"] * 64


def test_static_figures_of_other_channels():
    found = static_figures(TinyConfig(kernel=3), (8, 8), num_classes=2, in_channels=5)
    assert (found["params"], found["macs"]) == (90, 90 * 64)
