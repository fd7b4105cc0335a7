"""The HTML report: one file that holds every row, merges what was measured once, and works in a browser."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from chromium import chromium

from bench.cli.app import run
from bench.cli.reporting import _condition
from bench.report.columns import Column
from bench.report.page import Network, SearchSection, StudySection, TableSection, merged, write_page
from bench.training.recipe import RECIPES

RESULTS = Path(__file__).parents[1] / "results"
HOSTILE = "</script><b>not bold</b>"


def study(name="first", condition="a land", keys=None, **columns):
    """Three networks, one of which failed, with all that a page can show of them."""
    frame = pd.DataFrame(
        {
            "variant": ["small", "large", HOSTILE],
            "family": ["one", "two", "two"],
            "base": ["", "small", "small"],
            "f1": [0.61, 0.68, np.nan],
            "f1_low": [0.58, 0.66, np.nan],
            "f1_high": [0.64, 0.7, np.nan],
            "params": [1e6, 12e6, 3e6],
            "macs": [5e8, 9e9, np.nan],
            "latency_ms": [3.0, 8.0, np.nan],
            "deployed_macs": [4e8, 8e9, np.nan],
            "effect": [np.nan, 0.07, np.nan],
            "effect_low": [np.nan, 0.02, np.nan],
            "effect_high": [np.nan, 0.12, np.nan],
            "p": [np.nan, 0.004, np.nan],
            "verdict": [None, "better", None],
            "status": ["", "", "failed"],
            "reason": ["", "", "out of memory"],
            **columns,
        }
    )
    keys = keys or {"small": ("k1", "k2"), "large": ("k3",), HOSTILE: ("k4",)}
    return StudySection(
        name=name,
        question="Which is better?",
        caption="Made-up figures.",
        findings=["Highest macro F1: large."],
        condition=condition,
        frame=frame,
        networks={label: Network(own, {"family": "x"}, f"lale-bench study {name}") for label, own in keys.items()},
        speed="A machine, 2 threads.",
        class_names=["Water", "Road"],
        class_colours=["#0000ff", "#888888"],
        per_class={"small": [0.9, 0.3], "large": [0.9, float("nan")]},
        curves={"small": [[(10, 0.3, 1.0), (20, 0.5, None)]], "large": [[(10, 0.4, float("inf")), (20, 0.6, 0.5)]]},
        tiles=["p", "q"],
        pictures={"Image": np.zeros((2, 8, 8, 3), np.uint8), "small": np.full((2, 8, 8, 3), 200, np.uint8)},
    )


def search():
    trials = [
        {"variant": f"t{i}", "family": "one", "macs": 1e9 + i * 1e8, "f1": 0.5 + 0.01 * i, "status": "", "reason": ""}
        for i in range(5)
    ]
    trials.append({"variant": "lost", "family": "one", "macs": 1e9, "f1": None, "status": "failed", "reason": "NaN"})
    return SearchSection("search", "6 trials.", ["5 on the front."], trials, "macs", 2e9)


def other():
    frame = pd.DataFrame({"paper": ["LALE", "BELDE"], "share": [0.5, None]})
    columns = [Column("paper", "Paper"), Column("share", "Confirmed", "percent")]
    return TableSection("claims", "Are they true?", "All.", ["Half."], frame, columns)


def document(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


# Merging


def test_what_shares_a_record_is_one_row_with_the_verdicts_of_both():
    again = study("second", keys={"small": ("k2",), "large": ("other",), HOSTILE: ("k4",)})
    rows = merged([study(), again])
    assert [row["variant"] for row in rows] == ["small", "large", HOSTILE, "large"]
    assert rows[0]["studies"] == ["first", "second"] and rows[0]["keys"] == ["k1", "k2"]
    assert [len(row["verdicts"]) for row in rows] == [0, 1, 0, 1]
    assert [row["is_base"] for row in rows] == [True, False, False, False]


def test_under_other_conditions_nothing_is_merged():
    assert len(merged([study(), study("second", condition="another land")])) == 6


def test_two_labels_of_one_study_stay_two_rows_though_they_are_one_network():
    twins = study(keys={"small": ("k1",), "large": ("k1",), HOSTILE: ("k4",)})
    rows = merged([twins, twins])
    assert [(row["variant"], len(row["studies"])) for row in rows] == [("small", 2), ("large", 2), (HOSTILE, 2)]


def test_each_row_has_the_protocol_of_its_own_speed():
    other_batch = replace(
        study("second", keys={"small": ("k9",), "large": ("k3",), HOSTILE: ("k4",)}), speed="Batch 8."
    )
    rows = merged([study(), other_batch])
    assert [(row["variant"], row["speed"]) for row in rows] == [
        ("small", "A machine, 2 threads."), ("large", "A machine, 2 threads."), (HOSTILE, ""), ("small", "Batch 8."),
    ]  # fmt: skip


def test_studies_under_other_recipes_are_of_other_conditions():
    def told(**changes):
        recipe = replace(RECIPES["standard"], **changes).to_dict()
        data = {"name": "a", "fingerprint": "f" * 32}
        return _condition(SimpleNamespace(recipe=recipe, data=data, seeds=(0, 1), folds=0, size=(64, 64)))

    changed = [{}, {"lr": 0.1}, {"schedule": "constant"}, {"ema": 0.5}, {"steps": 500}]
    assert len({told(**one) for one in changed}) == len(changed)
    assert "(recipe standard, lr=0.1)" in told(lr=0.1)


def test_what_either_study_measured_is_in_the_row():
    counted = study(f1=[np.nan] * 3, f1_low=[np.nan] * 3, f1_high=[np.nan] * 3, params=[1e6, 12e6, 3e6])
    scored = study("second", params=[np.nan] * 3)
    for order in ([counted, scored], [scored, counted]):
        small = merged(order)[0]
        assert (small["f1"], small["params"], small["command"]) == (0.61, 1e6, "lale-bench study second")


# The file


def test_every_row_reason_and_figure_is_in_the_file(tmp_path):
    path = write_page(tmp_path / "new" / "r.html", f"Title {HOSTILE}", [study()], [search()], [other()])
    found = document(path)
    assert {row["variant"] for row in found["rows"]} == {"small", "large", HOSTILE}
    assert found["rows"][2]["reason"] == "out of memory" and found["rows"][2]["macs"] is None
    assert found["searches"][0]["trials"][-1]["reason"] == "NaN"
    assert found["studies"][0]["per_class"]["large"] == [0.9, None]
    assert found["tables"][0]["rows"] == [{"paper": "LALE", "share": 0.5}, {"paper": "BELDE", "share": None}]


def test_the_file_needs_nothing_else(tmp_path):
    text = write_page(tmp_path / "r.html", HOSTILE, [study()], [search()], [other()]).read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text.split("<script>")[0])
    assert "//cdn" not in text and "import(" not in text and "fetch(" not in text
    assert text.count("</script>") == 2  # names break out of neither the data nor the heading
    assert "<b>not bold" not in text


# The command


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_results_is_named(tmp_path, capsys, folder):
    assert run(["report", str(tmp_path / folder), "-o", str(tmp_path / "r.html")]) == 1
    assert "holds neither a study nor a search" in capsys.readouterr().err


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The report of the committed reference run."""
    path = tmp_path_factory.mktemp("report") / "dubai.html"
    assert run(["report", str(RESULTS / "dubai"), "-o", str(path)]) == 0
    return path


def test_the_reference_run_in_one_file_of_few_megabytes(reference):
    assert reference.stat().st_size < 8e6
    found = document(reference)
    studies = {study["name"] for study in found["studies"]}
    assert {"benchmark", "ablation", "winners"} <= studies
    assert {one["name"] for one in found["searches"]} == {"search", "search-latency", "search-activations"}
    by_name = {row["variant"]: row for row in found["rows"] if "benchmark" in row["studies"]}
    of_base = [set(row["studies"]) for row in found["rows"] if row["variant"] == "lale-s1"]
    assert any(len(row["studies"]) > 1 for row in found["rows"])  # the same trainings: one row
    for other in ("winners", "ablation"):  # other seeds: rows of their own
        assert not any(studies >= {"benchmark", other} for studies in of_base)
    assert set().union(*of_base) >= {"benchmark", "ablation"}
    assert by_name["lale-s1"]["config"]["family"] == "lale"
    assert by_name["lale-s1"]["command"].startswith("lale-bench study ")
    skipped = [row for row in found["rows"] if row["status"] == "skipped"]
    assert skipped and all(row["reason"] for row in skipped)
    speeds = [row["speed"] for row in found["rows"] if row["speed"]]
    assert speeds and all(word in said for said in speeds for word in ("threads", "batch 1 and 8", "fp32"))


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser, tmp_path):
    path = write_page(tmp_path / "r.html", "Report", [study(), study("second", "another land")], [search()], [other()])
    browser.get(path.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def all_of(page, selector):
    return page.find_elements("css selector", selector)


def choose(page, selector, value):
    script = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'));"
    )
    page.execute_script(script, selector, value)


def names(page):
    return [element.text for element in all_of(page, "#table tbody th")]


def test_every_section_is_there(page):
    wanted = ["Front", "Table", "Findings and conditions", "Effects", "Per class", "Learning curves", "Predictions"]
    found = [link.text for link in all_of(page, "nav a")]
    assert found == [*wanted, "Search", "claims", "What failed"]
    assert "out of memory" in all_of(page, "#failures")[0].text and "NaN" in all_of(page, "#failures")[0].text
    assert "better" in all_of(page, "#effects table")[0].text


def test_axes_change(page):
    def labels():
        return [text.text for text in all_of(page, "#chart svg text")]

    assert "MACs (G) ← better" in " ".join(labels()).replace("   ", " ")
    before = [mark.get_attribute("outerHTML") for mark in all_of(page, "#chart .point")]
    choose(page, "#axis-x", "params")
    choose(page, "#axis-y", "latency_ms")
    joined = " ".join(labels())
    assert "Parameters (M)" in joined and "Latency (ms)" in joined and "Macro F1" not in joined
    assert [mark.get_attribute("outerHTML") for mark in all_of(page, "#chart .point")] != before
    assert "A machine, 2 threads." in all_of(page, "#count")[0].text  # conditions stand beside every speed


def test_a_filter_filters_chart_and_table(page):
    assert sorted(names(page)) == ["large", "small"]  # only what has a score, until asked otherwise
    all_of(page, "#filter")[0].send_keys("LARGE")
    assert names(page) == ["large"] and len(all_of(page, "#chart .point")) == 1
    all_of(page, "#filter")[0].clear()
    all_of(page, "#is-scored")[0].click()
    all_of(page, "#filter")[0].send_keys(" ")
    assert HOSTILE in names(page) and len(names(page)) == 3
    assert "out of memory" in all_of(page, "#count")[0].text  # what the chart cannot show, and why


def test_headers_sort(page):
    def header(name):
        return next(button for button in all_of(page, "#table thead button") if button.text.startswith(name))

    assert names(page) == ["large", "small"]
    header("Parameters").click()
    assert names(page) == ["small", "large"]
    header("Parameters").click()
    assert names(page) == ["large", "small"]


def test_costs_of_the_deployed_form(page):
    all_of(page, "#is-deployed")[0].click()
    assert "MACs, deployed (G)" in " ".join(text.text for text in all_of(page, "#chart svg text"))


def test_keyboard_opens_the_config_and_the_command(page):
    from selenium.webdriver.common.keys import Keys

    point = all_of(page, "#chart .point")[0]
    page.execute_script("arguments[0].focus()", point)
    assert all_of(page, "#tip")[0].is_displayed()
    point.send_keys(Keys.ENTER)
    shown = all_of(page, "dialog[open]")[0].text
    assert "lale-bench study first" in shown and '"family": "x"' in shown
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not all_of(page, "dialog[open]")


@pytest.mark.parametrize("width", [360, 820, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reference_fits_every_screen(browser, reference, width, scheme):
    """Nothing is wider than the screen, and text is told from its ground."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(reference.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert len(all_of(browser, "#chart .point")) > 10
    ink, paper = (
        browser.execute_script(f"return getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor")
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert abs(light[0] - light[1]) > 400
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
