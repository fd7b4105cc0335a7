"""Every rule of the audit, with rows made for it."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from studies.claims.judgement import (
    CONFIRMED,
    IMPOSSIBLE,
    MIXED,
    UNCONFIRMED,
    UNTESTABLE,
    VERDICTS,
    Finding,
    Network,
    agrees,
    compare,
    judge,
    judge_headline,
    within,
)
from studies.claims.published import (
    Headline,
    Peak,
    Row,
    half_last_digit,
    read_headlines,
    read_peaks,
    read_published,
)
from studies.claims.report import claims_frame, paper_of, report_claims, summary

PUBLISHED = Path(__file__).parent.parent / "studies" / "claims"

ROW = Row("Net", "S", "Land", "params", "1.6", "M", "256", "Net paper, table 1", "", "", "", "")
PEAKS = (Peak("Card", "tensor cores", "fp16", "100", ""), Peak("Card", "plain cores", "fp32", "10", ""))
COUNTS = {
    "params": 1_567_109,
    "macs": 576_323_584,
    "macs_by_operator": {"convolution": 557_449_216, "bmm": 18_874_368},
    "fvcore_macs": 585_498_624,
    "thop_macs": 600_000_000,
    "paper_mib": 5.979,
    "storage_bytes": 6_300_000,
    "launches": 157,
}
NETWORK = Network("net", COUNTS)
CLAIM = Headline("Net", "smaller", "params", "reference over system", "Net", "S", "M", "Big", "", "Land", "4", "x", "a")


def verdict(row, network=NETWORK, rows=()):
    return judge(row, network, PEAKS, rows)


@pytest.mark.parametrize(("text", "half"), [("17", 0.5), ("0.59", 0.005), ("1.60", 0.005), ("687.8", 0.05)])
def test_the_tolerance_is_half_of_the_last_printed_digit(text, half):
    assert half_last_digit(text) == pytest.approx(half)


@given(st.decimals(0, 10_000, places=2), st.floats(-0.00499, 0.00499))
def test_a_figure_confirms_what_it_rounds_to_and_nothing_else(printed, away):
    value = float(printed)
    assert within(value + away, value, 0.005)
    assert not within(value + 0.0051, value, 0.005)
    assert not within(value - 0.0051, value, 0.005)


@pytest.mark.parametrize(
    ("metric", "value", "expected", "counter"),
    [
        ("params", "1.6", CONFIRMED, "all parameters"),
        ("params", "1.57", CONFIRMED, "all parameters"),
        ("params", "1.56", UNCONFIRMED, "all parameters"),
        ("macs", "0.58", CONFIRMED, "exact"),
        ("macs", "0.59", CONFIRMED, "fvcore"),
        ("macs", "0.557", CONFIRMED, "exact without attention products"),
        ("macs", "0.600", CONFIRMED, "thop"),
        ("macs", "0.610", UNCONFIRMED, "thop"),
        ("storage", "5.98", CONFIRMED, "parameters and buffers, MiB"),
        ("storage", "6.30", CONFIRMED, "safetensors file, MB"),
        ("storage", "7", UNCONFIRMED, "safetensors file, MB"),
    ],
)
def test_counts(metric, value, expected, counter):
    found = verdict(replace(ROW, metric=metric, value=value))
    assert (found.verdict, found.counter) == (expected, counter)


def test_an_unconfirmed_count_shows_ours_and_how_far_it_is():
    found = verdict(replace(ROW, value="2.0"))
    assert found.ours == pytest.approx(1.567109)
    assert "differs by 28 %" in found.why


def test_a_reconstruction_can_agree_but_not_refute():
    ours = replace(NETWORK, reconstruction=True)
    assert verdict(ROW, ours).verdict == CONFIRMED
    assert "a reconstruction" in verdict(ROW, ours).why
    missed = verdict(replace(ROW, value="2.0"), ours)
    assert missed.verdict == UNTESTABLE
    assert "differs by 28 %" in missed.why


def test_a_counter_that_failed_is_passed_over():
    counts = {**COUNTS, "fvcore_macs": None, "thop_macs": None}
    assert verdict(replace(ROW, metric="macs", value="0.59"), Network("net", counts)).verdict == UNCONFIRMED
    assert (
        verdict(replace(ROW, metric="macs", value="0.58"), Network("net", {"macs": 576_323_584})).verdict == CONFIRMED
    )


def test_without_a_network_or_a_count_nothing_is_decided():
    assert verdict(ROW, Network()) == Finding(UNTESTABLE, "the suite has no network of this name")
    assert verdict(ROW, Network("net", None, "counting failed: no memory")).why == "counting failed: no memory"
    assert verdict(replace(ROW, metric="macs"), Network("net", {"params": 1})).verdict == UNTESTABLE


def rate(value, device="Card", precision="", metric="throughput", batch=""):
    unit = "samples/s" if metric == "throughput" else "ms"
    return replace(ROW, metric=metric, value=value, unit=unit, device=device, precision=precision, batch=batch)


def test_a_rate_beyond_the_peak_is_impossible_and_says_the_physics():
    most = 100e12 / (2 * COUNTS["macs"])  # about 86,757 images a second
    found = verdict(rate(str(round(most) + 2)))
    assert found.verdict == IMPOSSIBLE
    assert found.share > 1
    assert "0.58 GMAC x 2" in found.why
    assert "the peak of Card is 100 in fp16" in found.why


def test_a_rate_within_the_peak_and_the_rounding_is_not_impossible():
    most = 100e12 / (2 * COUNTS["macs"])
    assert verdict(rate(str(round(most)))).verdict == UNTESTABLE  # within half of the last digit
    below = verdict(rate("40000"))
    assert below.verdict == UNTESTABLE
    assert below.share == pytest.approx(40000 * 2 * COUNTS["macs"] / 100e12)


def test_a_rate_beyond_one_part_of_the_device_says_so():
    assert "above its plain cores (4.61 " not in verdict(rate("40000", precision="fp16")).why
    assert "above its plain cores (461 %)" in verdict(rate("40000")).why


def test_the_precision_chooses_the_peak():
    assert verdict(rate("40000", precision="fp32")).verdict == IMPOSSIBLE
    assert verdict(rate("40000", precision="fp16")).verdict == UNTESTABLE
    assert verdict(rate("40000", precision="bf16")).why == "the peak rate of Card is not known"


def test_a_latency_is_a_rate():
    least = 2 * COUNTS["macs"] / 100e12 * 1e3  # ms an image: 0.0115
    assert verdict(rate("0.005", metric="latency")).verdict == IMPOSSIBLE
    assert verdict(rate("0.01", metric="latency")).verdict == UNTESTABLE  # 0.0115 rounds to it
    assert verdict(rate("0.02", metric="latency")).share == pytest.approx(least / 0.02)
    assert verdict(rate("0.020", metric="latency", batch="2")).verdict == IMPOSSIBLE


def test_a_rate_without_device_peak_or_count_is_not_tested():
    assert verdict(rate("1", device="")).why == "the device is not stated"
    assert verdict(rate("1", device="Other")).why == "the peak rate of Other is not known"
    assert verdict(rate("1e9"), Network()).verdict == UNTESTABLE


@pytest.mark.parametrize("metric", ["F1", "F1 tumour", "mIoU", "IoU water", "top-1", "OA", "mAP"])
def test_accuracy_needs_the_data(metric):
    assert verdict(replace(ROW, metric=metric, value="77")).why == "needs Land and the authors' training"


def test_what_nothing_measures_is_said():
    assert verdict(replace(ROW, metric="memory")).why == "memory of the authors' run is not measured here"


def iou(value, f1="80.0"):
    partner = replace(ROW, metric="F1", value=f1)
    return verdict(replace(ROW, metric="IoU", value=value), rows=[replace(partner, variant="M"), partner])


def test_an_iou_that_its_f1_excludes_is_impossible():
    assert iou("66.0").verdict == IMPOSSIBLE  # 0.8 / 1.2 is the least
    assert "from 66.60 to 80.05 only" in iou("66.0").why
    assert iou("80.2").verdict == IMPOSSIBLE
    assert iou("66.6").verdict == UNTESTABLE
    assert "consistent with its F1" in iou("70.0").why


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_no_real_f1_and_iou_are_called_impossible(f1s):
    mean_f1 = 100 * sum(f1s) / len(f1s)
    mean_iou = 100 * sum(f / (2 - f) for f in f1s) / len(f1s)
    assert iou(f"{mean_iou:.2f}", f"{mean_f1:.2f}").verdict == UNTESTABLE


# --- headlines --------------------------------------------------------------------------------------------------


def table(*figures):
    """Rows of (system, variant, value), with networks of that many million parameters (None: not counted)."""
    rows = [replace(ROW, system=s, variant=v, value=printed) for s, v, printed, _ in figures]
    networks = [Network() if own is None else Network(s, {"params": own * 1e6}) for s, _, _, own in figures]
    return rows, networks


def told(claim, rows, networks, findings=None):
    return judge_headline(
        claim, rows, findings or [verdict(*pair) for pair in zip(rows, networks, strict=True)], networks
    )


def test_a_ratio_that_our_counts_give_is_confirmed():
    rows, networks = table(("Net", "S", "1.6", 1.6), ("Net", "M", "2.6", 2.6), ("Big", "", "6.4", 6.4))
    assert told(CLAIM, rows, networks).verdict == CONFIRMED


def test_a_ratio_that_holds_of_another_variant_is_mixed():
    rows, networks = table(("Net", "S", "1.0", 1.0), ("Net", "M", "1.6", 1.6), ("Big", "", "6.4", 6.4))
    found = told(CLAIM, rows, networks)
    assert found.verdict == MIXED
    assert found.why == "Net S: 6.40 x; true of Net M: 4.00 x"


def test_a_ratio_of_no_variant_is_not_confirmed():
    rows, networks = table(("Net", "S", "1.0", 1.0), ("Net", "M", "1.1", 1.1), ("Big", "", "6.4", 6.4))
    found = told(CLAIM, rows, networks)
    assert (found.verdict, found.ours) == (UNCONFIRMED, pytest.approx(6.4))


def test_a_ratio_of_printed_figures_counts_where_both_are_confirmed():
    claim = replace(CLAIM, value="4.5", others="")
    figures = (("Net", "S", "1.6", 1.649), ("Big", "", "7.2", 7.16))  # 4.5 as printed, 4.34 exactly
    rows, networks = table(*figures)
    assert told(claim, rows, networks).verdict == CONFIRMED
    rows, networks = table(("Net", "S", "1.6", 1.66), ("Big", "", "7.2", 7.16))
    assert told(claim, rows, networks).verdict == UNCONFIRMED


def test_a_claim_made_of_an_impossible_figure_is_impossible():
    claim = replace(CLAIM, quantity="throughput", relation="system over reference", value="2")
    rows = [rate("20000"), replace(rate("10000"), system="Big", variant="")]
    findings = [Finding(UNTESTABLE, "x"), Finding(IMPOSSIBLE, "beyond the card")]
    found = told(claim, rows, [NETWORK, NETWORK], findings)
    assert found.verdict == IMPOSSIBLE
    assert found.why.endswith("beyond the card")


def test_a_claim_on_accuracy_is_held_against_its_own_table():
    claim = replace(CLAIM, quantity="F1", relation="reference minus system", value="2.6", unit="points")

    def of(small, medium):
        rows, networks = table(("Net", "S", small, None), ("Net", "M", medium, None), ("Big", "", "77.31", None))
        return told(claim, [replace(row, metric="F1") for row in rows], networks)

    assert of("74.69", "75.88").verdict == UNTESTABLE
    assert "2.62 points, which agrees; needs Land" in of("74.69", "75.88").why
    assert of("75.88", "74.69").verdict == MIXED
    assert of("75.88", "75.88").verdict == UNCONFIRMED


def test_a_claim_without_a_named_reference_is_not_tested():
    rows, networks = table(("Net", "S", "1.6", 1.6))
    assert told(CLAIM, rows, networks).why == "the reference is not named, or has no published figure"


@pytest.mark.parametrize(
    ("relation", "value"),
    [
        ("reference over system", 4.0),
        ("system over reference", 0.25),
        ("reference minus system", 6.0),
        ("system minus reference", -6.0),
        ("system above reference", 0.25),
        ("system below reference", 0.25),
    ],
)
def test_relations(relation, value):
    assert compare(relation, 2.0, 8.0) == value


def test_orders_have_no_tolerance():
    above, below = (replace(CLAIM, relation=f"system {word} reference", value="1") for word in ("above", "below"))
    assert agrees(above, 1.01)
    assert agrees(below, 0.99)
    assert not agrees(above, 1.0)
    assert not agrees(below, 1.0)


def test_an_order_by_our_counts():
    rows, networks = table(("Net", "S", "1.6", 1.6), ("Big", "", "6.4", 6.4))
    assert (
        told(replace(CLAIM, relation="system below reference", value="1", others=""), rows, networks).verdict
        == CONFIRMED
    )
    assert (
        told(replace(CLAIM, relation="system above reference", value="1", others=""), rows, networks).verdict
        == UNCONFIRMED
    )


# --- files, tables, figure --------------------------------------------------------------------------------------


def test_the_published_files_can_be_read_and_belong_together():
    rows, headlines = read_published(PUBLISHED / "published.csv"), read_headlines(PUBLISHED / "headlines.csv")
    peaks = read_peaks(PUBLISHED / "devices.csv")
    assert len(rows) > 400
    assert {headline.paper for headline in headlines} == {"LALE", "LWGANet", "LeMeViT", "LeMoRe"}
    assert {row.device for row in rows} - {""} == {peak.device for peak in peaks}
    assert all(row.source for row in [*rows, *headlines, *peaks])
    keys = [(r.system, r.variant, r.dataset, r.metric, r.device, r.source) for r in rows]
    assert len(set(keys)) == len(keys)


def test_a_damaged_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "published.csv"
    names = ",".join(vars(ROW))
    path.write_text(f"{names}\n{'x,' * 4}many,{',' * 6}\n", encoding="utf-8")
    with pytest.raises(BenchError, match=r"published.csv, line 2: .*many"):
        read_published(path)
    path.write_text("system\nx\n", encoding="utf-8")
    with pytest.raises(BenchError, match="lacks the column 'batch'"):
        read_published(path)
    with pytest.raises(BenchError, match="cannot be read"):
        read_published(tmp_path / "none.csv")


def test_an_unknown_relation_is_refused(tmp_path):
    path = tmp_path / "headlines.csv"
    line = ",".join({**vars(CLAIM), "relation": "better than"}.values())
    path.write_text(f"{','.join(vars(CLAIM))}\n{line}\n", encoding="utf-8")
    with pytest.raises(BenchError, match="the relation 'better than' is none of"):
        read_headlines(path)


def test_papers_by_source():
    assert paper_of("LWGANet (arXiv 2501.10040), ablation table") == "LWGANet"
    assert paper_of("project page") == "LALE"


def test_the_report_holds_every_figure(tmp_path):
    rows = [
        ROW,
        replace(ROW, metric="macs", value="9"),
        rate("90000"),
        rate("400"),
        replace(ROW, metric="F1", value="70"),
    ]
    report = report_claims(rows, [CLAIM], PEAKS, [NETWORK] * len(rows), tmp_path)
    frame = pd.read_csv(tmp_path / "claims.csv")
    assert len(frame) == len(rows) + 1
    assert frame["verdict"].tolist() == [UNTESTABLE, CONFIRMED, UNCONFIRMED, IMPOSSIBLE, UNTESTABLE, UNTESTABLE]
    assert {path.name for path in report.files} >= {
        "claims.md",
        "claims-rates.png",
    }
    assert any("90000 samples/s x 0.58 GMAC" in sentence for sentence in report.findings)
    assert "1 confirmed, 1 not confirmed, 0 mixed variants, 1 impossible" in report.findings[0]


def test_the_summary_adds_up():
    found = [Finding(verdict, "") for verdict in VERDICTS]
    frame = claims_frame([replace(ROW, metric=f"m{i}") for i in range(len(found))], found, [CLAIM], [found[0]])
    counts = summary(frame).set_index("paper")
    assert counts.loc["all", "figures"] == len(found) + 1
    assert (counts.drop(index="all").sum() == counts.loc["all"]).all()


def test_launches_tell_a_clock_that_did_not_wait(tmp_path):
    def of(product):
        rows, networks = [], []
        for i in range(7):
            launches = 100 + 20 * i
            rows.append(rate(str(round(product(i) / launches)), device="Card"))
            networks.append(Network(f"n{i}", {**COUNTS, "macs": 10**6 * 2**i, "launches": launches}))
        rows = [replace(row, variant=str(i)) for i, row in enumerate(rows)]
        return " ".join(report_claims(rows, [], PEAKS, networks, tmp_path).findings)

    assert "between 25 and 26 million a second" in of(lambda i: 25e6 + 1e5 * i)
    assert "launches" not in of(lambda i: 25e6 / 2**i)
