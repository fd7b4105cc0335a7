"""Tables hold every row, print what was measured, and read back to the raw values."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from bench.errors import BenchError
from bench.report.columns import is_missing
from bench.report.formats import also_writing
from bench.report.markup import escape_latex, escape_markdown, one_line
from bench.report.tables import COLUMNS, Column, Format, column, measured, rich_table, write_tables
from bench.report.timm import write_timm

QUICK = settings(max_examples=100, deadline=None)
NASTY = st.text(st.sampled_from("\\&%$#_{}~^<>|\"`'[]*-+=.±−–a1 \n\t)!:"), max_size=12) | st.text(max_size=12)
COLUMN_KEYS = ("variant", "params", "storage_bytes", "latency_ms", "f1")


@pytest.fixture
def frame():
    rows = [
        ("lale-s1", 1_605_383, 6_451_200, 3.21, 0.7469, 0.731, 0.757, "", ""),
        ("unet|b0_x", 6_251_759, 25_200_100, 1 / 3, 0.77234, 0.765, 0.781, "ok", None),
        ("lost", 99, None, None, None, None, None, "failed", "out of\nmemory & 50% [gone]"),
        ("odd", None, None, None, None, None, None, "skipped", "needs sides of 32"),
    ]
    keys = ["variant", "params", "storage_bytes", "latency_ms", "f1", "f1_low", "f1_high", "status", "reason"]
    return pd.DataFrame(rows, columns=keys)


@pytest.fixture
def written(frame, tmp_path):
    with also_writing(["tex"]):
        paths = write_tables(frame, [column(key) for key in COLUMN_KEYS], tmp_path / "new" / "table-v1.5", "All_of it")
    return {path.suffix[1:]: path for path in paths}


def html_rows(text):
    """The cells of a Markdown table as GitHub's rules read them."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]


def test_latex_is_written_on_demand(frame, tmp_path):
    paths = write_tables(frame, [column("variant")], tmp_path / "t")
    assert [path.name for path in paths] == ["t.csv", "t.md"]


def test_three_files_keep_the_whole_name(written):
    assert [path.name for path in written.values()] == ["table-v1.5.csv", "table-v1.5.md", "table-v1.5.tex"]
    assert {path.name for path in written["csv"].parent.iterdir()} == {path.name for path in written.values()}


def test_csv_reads_back_to_the_raw_values(written, frame):
    back = pd.read_csv(written["csv"], keep_default_na=False, na_values=[""])
    assert list(back.columns) == list(frame.columns)
    for key in ("params", "storage_bytes", "latency_ms", "f1", "f1_low", "f1_high"):
        expected = frame[key].astype(float)
        np.testing.assert_array_equal(back[key].to_numpy(float), expected.to_numpy())
    assert back["reason"].tolist()[2] == "out of\nmemory & 50% [gone]"
    assert "1605383,6451200,3.21," in written["csv"].read_text()


@QUICK
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=5))
def test_csv_is_lossless_for_any_float(tmp_path_factory, values):
    stem = tmp_path_factory.getbasetemp() / "lossless"
    path = write_tables(pd.DataFrame({"x": values}), [Column("x", "x", Format("g"))], stem)[0]
    lines = path.read_text().splitlines()[1:]
    assert [float(line.strip('"') or "nan") for line in lines] == pytest.approx(values, abs=0, rel=0, nan_ok=True)


def test_markdown_prints_units_intervals_best_and_notes(written):
    text = written["md"].read_text()
    head, *rows = html_rows(text)
    assert head == ["Variant", "Parameters (M) ↓", "Storage (MiB) ↓", "Latency (ms) ↓", "Macro F1 (%) ↑"]
    assert rows[0] == ["lale-s1", "<strong>1.61</strong>", "<strong>6.15</strong>", "3.21", "74.7 ± 1.3"]
    assert rows[1] == ["unet|b0_x", "6.25", "24.03", "<strong>0.33</strong>", "<strong>77.2 ± 0.8</strong>"]
    assert rows[2] == ["lost<sup>1</sup>", "0.00", "–", "–", "–"]
    assert rows[3] == ["odd<sup>2</sup>", "–", "–", "–", "–"]
    html = MarkdownIt("commonmark").render(text)
    assert "<sup>1</sup> failed: out of memory &amp; 50% [gone]" in html
    assert "<sup>2</sup> skipped: needs sides of 32" in html
    assert "half the width" in html


def test_latex_is_a_booktabs_table(written):
    text = written["tex"].read_text()
    assert r"\caption{All\_of it}" in text
    assert r"\label{tab:table-v1-5}" in text
    assert r"\begin{tabular}{lrrrr}" in text
    assert [text.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
    assert r"unet\textbar{}b0\_x & 6.25 & 24.03 & \textbf{0.33} & \textbf{77.2 $\pm$ 0.8} \\" in text
    assert r"lost\textsuperscript{1} & 0.00 & -- & -- & -- \\" in text
    assert r"\textsuperscript{1} failed: out of memory \& 50\% {[}gone{]}" in text


def test_terminal_shows_every_row_and_reason(frame):
    console = Console(file=io.StringIO(), width=120)
    console.print(rich_table(frame, [column(key) for key in COLUMN_KEYS], "Figures [bold]of[/] today"))
    text = console.file.getvalue()
    assert "Figures [bold]of[/] today" in text
    for part in ("unet|b0_x", "77.2 ± 0.8", "lost¹", "odd²", "50% [gone]", "sides of 32"):
        assert part in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_shows_whole_columns_and_names_those_that_it_leaves_out(width):
    frame = pd.DataFrame({"variant": ["lale-s1", "smp/linknet-efficientnet_b0"], "verdict": ["", "undecided"]})
    keys = ("variant", "family", "params", "macs", "storage_bytes", "f1", "verdict", "seeds")
    frame = frame.assign(family="lale", params=[1e6, 2e6], macs=[1e9, 2e9], storage_bytes=[1e7, 2e7], f1=0.5, seeds=3)
    console = Console(file=io.StringIO(), width=width)
    console.print(rich_table(frame, [column(key) for key in keys], "A caption of many words " * 8))
    lines = console.file.getvalue().splitlines()
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width and "…" not in text
    assert "smp/linknet-efficientnet_b0 " in text and "undecided" in text and " 50.0 " in text
    assert text.count("A caption of many words") == 8
    left = text.partition("Left out, since the terminal is not wide enough: ")[2]
    assert ("Family" in left) == (" lale " not in text)
    assert ("Storage" in left) == ("9.54" not in text)


def test_what_prints_the_same_is_equally_best_and_a_tie_of_all_is_no_win(tmp_path):
    frame = pd.DataFrame({"variant": list("abc"), "f1": [0.74691, 0.74709, 0.7], "params": [1e6, 1e6, 1e6]})
    path = write_tables(frame, [column(key) for key in ("variant", "f1", "params")], tmp_path / "t")[1]
    rows = html_rows(path.read_text())[1:]
    assert [row[1] for row in rows] == ["<strong>74.7</strong>", "<strong>74.7</strong>", "70.0"]
    assert [row[2] for row in rows] == ["1.00"] * 3


def test_a_failed_row_wins_nothing(tmp_path):
    frame = pd.DataFrame({"variant": list("abc"), "f1": [0.9, 0.5, 0.4], "status": ["failed", "", ""]})
    frame["reason"] = ["one seed lost", "", ""]
    rows = html_rows(write_tables(frame, [column("variant"), column("f1")], tmp_path / "t")[1].read_text())
    assert [row[1] for row in rows[1:]] == ["90.0", "<strong>50.0</strong>", "40.0"]


def test_a_row_of_which_trainings_are_to_come_wins_by_its_counts_alone(tmp_path):
    frame = pd.DataFrame({"variant": list("abc"), "f1": [0.9, 0.5, 0.4], "params": [1e6, 2e6, 3e6]})
    frame = frame.assign(status=["incomplete", "", ""], reason=["1 of 2 seeds not measured yet", "", ""])
    columns = [column(key) for key in ("variant", "f1", "params")]
    first, second, _ = html_rows(write_tables(frame, columns, tmp_path / "t")[1].read_text())[1:]
    assert (first[1:], second[1:]) == (["90.0", "<strong>1.00</strong>"], ["<strong>50.0</strong>", "2.00"])


def test_an_interval_far_off_its_value_prints_its_bounds():
    style = COLUMNS["latency_ms"].style
    assert style.with_interval(5.1, 5.0, 5.2) == "5.10 ± 0.10"
    assert style.with_interval(5.1, 5.04, 8.96) == "5.10 [5.04, 8.96]"


def test_effects_print_sign_and_bounds():
    style = COLUMNS["effect"].style
    assert style.with_interval(-0.0123, -0.02, 0.001) == "−1.2 [−2.0, +0.1]"
    assert style.text(-0.0001) == "+0.0"  # no negative zero
    assert style.with_interval(0.01, None, None) == "+1.0"


@QUICK
@given(NASTY)
def test_any_text_survives_a_markdown_cell(text):
    table = f"| h | h |\n| --- | --- |\n| {escape_markdown(text) or '–'} | end |\n"
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 4
    assert "".join(child.content for child in inline[2].children) == (one_line(text) or "–")
    assert {child.type for child in inline[2].children} <= {"text", "text_special"}


@QUICK
@given(NASTY)
def test_any_text_survives_a_markdown_paragraph(text):
    tokens = MarkdownIt("commonmark").parse(escape_markdown(text))
    inline = [token for token in tokens if token.type == "inline"]
    assert [t.type for t in tokens if t.type.endswith("open")] == ["paragraph_open"] * len(inline)
    assert "".join(child.content for token in inline for child in token.children) == one_line(text)


@QUICK
@given(NASTY)
def test_latex_holds_no_active_character(text):
    """Take away what is known to be harmless: no special character is left over."""
    harmless = r"\\(text[a-z]+|ldots)\{\d?\}|\\[&%$#_{}]|\$\\?[a-zA-Z\-]+\$|\{[\[\]*]\}"
    rest = re.sub(harmless, "", escape_latex(text))
    assert not re.search(r"[\\&%$#_^~<>|`\[\]*\n]", rest)
    assert not re.search(r"[{}]", rest.replace("-{}", "-"))
    assert one_line(text).count("--") == 0 or "-{}-" in escape_latex(text)


def test_names_that_differ_stay_different_in_latex():
    assert escape_latex("a_b--c") == r"a\_b-{}-c"
    assert escape_latex("−1.2 ± 0.3") == r"$-$1.2 $\pm$ 0.3"


def test_only_what_was_measured_is_offered(frame):
    frame["macs"] = np.nan
    assert [c.key for c in measured(frame, ["variant", "macs", "f1", "throughput"])] == ["variant", "f1"]


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, "", np.float32("nan"), np.inf])
def test_missing_is_missing(value):
    assert is_missing(value)
    assert COLUMNS["f1"].style.text(value) == "–"


def test_mistakes_are_sentences(frame, tmp_path):
    with pytest.raises(BenchError, match=r"no column 'speed'.*variant"):
        write_tables(frame, [Column("speed", "Speed")], tmp_path / "t")
    with pytest.raises(BenchError, match="at least one column"):
        write_tables(frame, [], tmp_path / "t")
    with pytest.raises(BenchError, match=r"unknown format 'furlongs'.*MiB"):
        Column("speed", "Speed", "furlongs")
    with pytest.raises(BenchError, match="no column 'speed'"):
        column("speed")
    assert not list(tmp_path.iterdir())


def test_timm_reads_our_rows_as_its_own(tmp_path):
    """The header is that of timm's `results/benchmark-infer-*.csv`, less `infer_macts`; units are timm's."""
    frame = pd.DataFrame(
        {
            "variant": ["fast", "failed"],
            "params": [1_567_496, None],
            "macs": [580_000_000, None],
            "throughput": [200.0, None],
            "f1": [0.632, None],
            "iou": [0.5, None],
        }
    )
    path = write_timm(frame, (256, 192), 8, tmp_path / "timm.csv")
    fast, failed = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    ours = ["macro_f1", "macro_iou"]
    timm = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs"
    assert list(fast) == timm.split(",") + ours
    assert {key: float(value) for key, value in fast.items() if key != "model"} == pytest.approx(
        {
            "infer_img_size": 256,
            "infer_samples_per_sec": 200,
            "infer_step_time": 40.0,  # ms of a batch of 8
            "infer_batch_size": 8,
            "param_count": 1.567496,
            "infer_gmacs": 0.58,
            "macro_f1": 63.2,
            "macro_iou": 50.0,
        }
    )
    assert failed["model"] == "failed"
    assert {failed[key] for key in ("infer_samples_per_sec", "infer_step_time", "param_count", "macro_f1")} == {""}
