"""Growth: exact counts over sides and batches, exponents, and where attention takes over."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archs
from bench.engine import CellContext
from bench.speed.measure import SpeedProtocol
from bench.study import Setting, Study, load_results, plan_study, run_study, write_report
from studies.scaling.growth import fit_growth, growth_cell, latency_cell, takeover_side
from studies.scaling.report import growth_frame, report_growth
from studies.scaling.report import point as make_point
from studies.scaling.study import STUDY

CONTEXT = CellContext(Path(), lambda done, total, note: None)
QUICK = SpeedProtocol(calls=1, rounds=6, min_seconds=0.01, max_seconds=1.0, warmup_seconds=0.1)


@given(st.floats(0.5, 5), st.floats(1, 1e9))
def test_a_power_law_is_found_exactly(exponent, factor):
    sides = [128, 256, 512, 1024]
    growth = fit_growth(sides, [factor * side**exponent for side in sides])
    assert growth.exponent == pytest.approx(exponent, abs=1e-6)
    assert growth.last == pytest.approx(exponent, abs=1e-6)
    assert growth.high - growth.low < 1e-5


def test_a_mixture_of_powers_has_an_interval_and_a_steeper_end():
    sides = [4096, 128, 256, 512, 1024, 2048]  # in any order
    growth = fit_growth(sides, [1e3 * side**2 + 1e-3 * side**4 for side in sides])
    assert 2 < growth.low < growth.exponent < growth.high
    assert growth.exponent < growth.last < 4


def test_too_few_sides_give_no_fit_or_no_interval():
    assert fit_growth([128], [1.0]) is None
    two = fit_growth([128, 256], [1.0, 8.0])
    assert (two.exponent, two.low, two.high) == (pytest.approx(3), None, None)


def test_takeover_lies_where_the_ratio_reaches_one():
    sides = [128, 256, 512, 1024, 2048]
    shares = [side**4 / (side**4 + 700**2 * side**2) for side in sides]
    assert takeover_side(sides, shares) == pytest.approx(700)
    assert takeover_side(sides, [0.0] * 5) is None
    assert takeover_side(sides, [0.6] * 5) == 128
    assert takeover_side(sides[::-1], shares[::-1]) == pytest.approx(700)


def run_growth(name, side, batch=1):
    return growth_cell(archs.config(name), name, (side, side), 7, batch).run(CONTEXT)


def test_a_convolutional_network_is_linear_in_pixels_and_images():
    small, large, four = (run_growth("timm/mobilenetv4_conv_small+mlp", *at) for at in ((128,), (256,), (128, 4)))
    assert large["macs"] == 4 * small["macs"]
    assert four["macs"] == 4 * small["macs"]
    assert large["attention_macs"] == 0
    assert four["peak_activation_bytes"] == 4 * small["peak_activation_bytes"]


def test_self_attention_is_quadratic_in_pixels():
    small, large = run_growth("lale-s1", 128), run_growth("lale-s1", 256)
    assert large["attention_macs"] == 16 * small["attention_macs"] == 18_874_368
    assert large["macs"] - large["attention_macs"] == 4 * (small["macs"] - small["attention_macs"])


def test_a_network_tied_to_a_size_is_rebuilt_for_each_or_refused():
    small, large = run_growth("lemore", 128), run_growth("lemore", 256)
    assert large["params"] == 1_538_519
    assert large["params"] > small["params"]
    with pytest.raises(archs.ArchError, match="cannot be built for 128x128"):
        run_growth("smp/dpt-efficientformer_l1", 128)


def test_latency_leaves_out_what_is_too_much_and_says_so():
    configs = {name: archs.config(name) for name in ("lale-s1", "lale-s4", "smp/dpt-efficientformer_l1")}
    found = latency_cell(configs, (64, 64), 7, QUICK, "cpu", most_macs=5e7).run(CONTEXT)
    assert set(found["speeds"]) == {"lale-s1"}
    assert found["speeds"]["lale-s1"]["latency_low"] <= found["speeds"]["lale-s1"]["latency_ms"]
    assert "above the limit of 0.05 for timing" in found["skipped"]["lale-s4"]
    assert "cannot be built for 64x64" in found["skipped"]["smp/dpt-efficientformer_l1"]


def point(side, macs, attention=0, batch=1, variant="net", reason=""):
    counts = {"params": 1, "macs": macs, "attention_macs": attention, "peak_activation_bytes": 4 * side**2 * batch,
              "activation_bytes": 1, "launches": 1}  # fmt: skip
    return make_point(variant, side, batch, None if reason else counts, reason, untimed="too large")


def test_a_point_without_counts_keeps_its_reason():
    frame = pd.DataFrame([point(128, 10), point(256, 40), point(128, 0, variant="tied", reason="it is tied")])
    assert frame["reason"].tolist() == ["", "", "it is tied"]
    growth = growth_frame(frame, {"net": "a", "tied": "b"}, 128).set_index("variant")
    assert growth.loc["net", "macs_growth"] == pytest.approx(2)
    assert growth.loc["tied", "status"] == "not applicable"
    assert growth.loc["tied", "reason"] == "at 1 of 1 points: it is tied"


def test_memory_over_the_batch_has_its_own_exponent():
    frame = pd.DataFrame([point(128, 10), point(128, 40, batch=4), point(256, 40)])
    assert growth_frame(frame, {"net": "a"}, 128)["batch_growth"].tolist() == [pytest.approx(1)]


def test_the_report_names_takeover_and_gaps(tmp_path):
    points = [point(side, side**2 + side**4 // 10**5, side**4 // 10**5) for side in (128, 256, 512, 1024)]
    points.append(point(128, 0, variant="tied", reason="it is tied"))
    report = report_growth(pd.DataFrame(points), {"net": "a", "tied": "b"}, 128, tmp_path)
    text = " ".join(report.findings)
    assert "exceed 50 % of the MACs: net from 31" in text
    assert "tied: at 1 of 1 points: it is tied" in text
    assert {path.name for path in report.files} >= {
        "growth.csv",
        "growth.md",
        "scaling.png",
    }
    assert len(pd.read_csv(tmp_path / "points.csv")) == len(points)


def test_the_study_of_two_networks_end_to_end(tmp_path):
    assert isinstance(STUDY, Study)
    networks = ("lale-s1", "smp/dpt-efficientformer_l1")
    study = replace(
        STUDY, networks=networks, sides=(64, 128), batches=(1, 2), batch_side=64, timed=(64,), protocol=QUICK
    )
    plan = plan_study(study, Setting(out=tmp_path))
    run_study(plan)
    assert len(load_results(plan.folder).records) == len(plan.cells) == 7
    report = write_report(plan.folder, study=study)
    rows = report.frame.set_index("variant")
    assert 2 < rows.loc["lale-s1", "macs_growth"] < 4
    assert rows.loc["smp/dpt-efficientformer_l1", "status"] == "not applicable"
    timed = pd.read_csv(plan.folder / "points.csv").set_index(["variant", "side", "batch"])
    assert timed.loc[("lale-s1", 64, 1), "latency_ms"] > 0
    assert timed.loc[("lale-s1", 128, 1), "untimed"] == "this side is not timed"
