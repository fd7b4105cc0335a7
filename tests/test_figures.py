"""Figures: every variant is in them, no label meets another, the same frame gives the same bytes."""

import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.data import Classes
from bench.errors import BenchError
from bench.report.columns import COLUMNS
from bench.report.figures.ablation import draw_ablation
from bench.report.figures.confusion import draw_confusion
from bench.report.figures.curves import draw_curves
from bench.report.figures.panels import draw_panels
from bench.report.figures.pareto import draw_fronts, draw_pareto
from bench.report.figures.per_class import draw_per_class
from bench.report.figures.scatter import annotate
from bench.report.figures.search import draw_hypervolume, draw_search
from bench.report.figures.style import axes, save, sheet, shortened, signs, text_size, wrapped
from bench.report.formats import also_writing
from bench.stats.pareto import pareto_front

CLASSES = Classes(("Water", "Land (unpaved)", "Road"), ((0, 90, 200), (150, 110, 60), (120, 120, 120)))


def texts(path):
    """What an SVG says: each line of text stands in a comment before its outlines, labels name their group."""
    return re.findall(r'(?:<!-- |id="label:)(.*?)(?: -->|")', path.read_text())


def check_files(paths, stem, width=1600):
    """A PNG of the width of a README at twice the resolution, and an SVG; nothing else is left behind."""
    assert [path.name for path in paths] == [f"{stem}.png", f"{stem}.svg"]
    with Image.open(paths[0]) as image:
        assert image.width == width
        pixels = np.asarray(image.convert("L"))
        assert pixels.std() > 5
        assert (pixels[[0, -1]] > 250).all()  # nothing is cut off above or below
        assert (pixels[:, [0, -1]] > 250).all()
    assert "<svg" in paths[1].read_text()[:1000]
    assert not list(paths[0].parent.glob(".*"))
    return texts(paths[1])


@pytest.fixture(autouse=True)
def vectors_too():
    """What a figure says is read from its SVG."""
    with also_writing(["svg"]):
        yield


@pytest.fixture
def frame():
    """Made-up variants with all that a frame may hold: intervals, equal points, failures, gaps."""
    rng = np.random.default_rng(0)
    count = 9
    table = pd.DataFrame({"variant": [f"net-{i:02d}_b0" for i in range(count)], "family": list("abcabcabc")})
    for key, scale in (("params", 1e6), ("macs", 1e9), ("latency_ms", 2.0), ("throughput", 900.0)):
        table[key] = scale * 10 ** rng.uniform(0, 1.4, count)
    table["f1"] = rng.uniform(0.6, 0.7, count)
    table["f1_low"], table["f1_high"] = table["f1"] - 0.01, table["f1"] + 0.02
    table["status"], table["reason"] = "", None
    table.loc[3, ["f1", "f1_low", "f1_high"]] = np.nan
    table.loc[3, ["status", "reason"]] = "failed", "the loss\nbecame $non-finite$"
    table.loc[5, "macs"] = np.nan
    return table


# Labels


def overlapping(boxes):
    return [
        (i, j)
        for i, a in enumerate(boxes)
        for j, b in enumerate(boxes[:i])
        if min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6
    ]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_drawn_labels_do_not_meet(log, seed, tmp_path):
    """The names of eight points on a front among twenty others: apart, inside the axes, legible."""
    rng = np.random.default_rng(seed)
    costs = 10 ** np.sort(rng.uniform(0, 1.2, 8))
    front = np.stack([costs, 60 + 8 * np.log10(costs) + np.sort(rng.uniform(0, 1, 8))], axis=1)
    rest = np.stack([10 ** rng.uniform(0.2, 1.3, 20), rng.uniform(50, 60, 20)], axis=1)
    points, names = np.concatenate([front, rest]), [f"family-{'x' * (i % 5)}{i}_b0" for i in range(28)]
    with sheet(8, 5) as figure:
        ax = axes(figure, 0.7, 0.2, 0.5, 0.5)
        if log:
            ax.set_xscale("log")
        ax.plot(*points.T, "o", ms=8)
        ax.set_xlim(0.8, 24)
        annotate(ax, points, names, range(8))
        save(figure, tmp_path / "labels")
        renderer = figure.canvas.get_renderer()
        boxes = [np.array(t.get_window_extent(renderer).extents) for t in ax.texts]
        edges = ax.get_window_extent(renderer).extents
    assert sorted(t.get_text() for t in ax.texts) == sorted(names[:8])
    assert overlapping(boxes) == []
    for box in boxes:
        assert (box[:2] >= edges[:2] - 1).all() and (box[2:] <= edges[2:] + 1).all()


# Each kind of figure


def test_pareto_names_its_front_its_base_and_who_is_missing(frame, tmp_path):
    frame["base"] = ["", *["net-00_b0"] * 8]
    said = check_files(draw_pareto(frame, "macs", tmp_path / "a.b", note="Terrain, 3 seeds."), "a.b")
    notes = " ".join(said)
    drawn = frame.drop([3, 5]).reset_index(drop=True)
    front = drawn.loc[pareto_front(drawn, "macs", "f1"), "variant"]
    assert {name for name in frame["variant"] if name in said} == {"net-00_b0", *front}
    assert "net-03_b0 (failed: the loss became $non-finite$)" in notes
    assert "net-05_b0 (no MACs)" in notes
    assert "Terrain, 3 seeds." in said
    assert {"a", "b", "c", "Pareto front", "95 % interval", "MACs (G)   ← better"} <= set(said)


@pytest.mark.parametrize(("x", "y"), [("throughput", "f1"), ("macs", "params")])
def test_any_two_directions_can_be_drawn(frame, tmp_path, x, y):
    said = check_files(draw_pareto(frame, x, tmp_path / "t", y=y), "t")
    front = frame.loc[pareto_front(frame, x, y, COLUMNS[x].better, COLUMNS[y].better), "variant"]
    assert set(front) <= set(said)


@pytest.mark.parametrize("macs", [1e8, 1e12])
def test_a_network_that_has_not_learned_does_not_stretch_the_axis(frame, tmp_path, macs):
    """It stands on the lower edge with its value; nothing is left out, nor cut off at the right edge."""
    frame.loc[0, ["f1", "f1_low", "f1_high", "macs"]] = 0.17, 0.15, 0.19, macs
    said = check_files(draw_pareto(frame, "macs", tmp_path / "t"), "t")
    assert "↓ net-00_b0: 17.0 %" in said
    assert not {"30", "40"} & set(said)  # ticks of the y axis
    frame.loc[0, "f1"] = 0.58  # a little below the others, the axis holds it
    assert not any("↓" in text for text in check_files(draw_pareto(frame, "macs", tmp_path / "t"), "t"))


def test_fronts_are_drawn_for_every_cost_that_was_measured(frame, tmp_path):
    frame = frame[:3].assign(storage_bytes=np.nan)
    names = [path.stem for path in draw_fronts(frame, tmp_path / "f")][::2]
    assert names == ["f-params", "f-macs", "f-latency_ms", "f-throughput"]
    assert draw_fronts(frame.assign(f1=np.nan), tmp_path / "g") == []


def test_pareto_of_nothing_still_says_who_is_missing(frame, tmp_path):
    frame["f1"] = np.nan
    said = check_files(draw_pareto(frame, "macs", tmp_path / "t"), "t")
    assert "nothing measured yet" in said
    assert all(name in " ".join(said) for name in frame["variant"])


def test_pareto_of_one_variant(frame, tmp_path):
    assert "net-00_b0" in check_files(draw_pareto(frame[:1], "params", tmp_path / "t"), "t")


def effects():
    rows = [
        ("norm", "norm=layernorm", 0.012, 0.004, 0.02, "better", 1e6, 2000),
        ("norm", "norm=batchnorm", -0.03, -0.04, -0.02, "worse", 0, 0),
        ("stem", "stem=patchify", 0.001, -0.01, 0.012, "undecided", -2e7, 1e5),
        ("stem", "stem=conv7x7", None, None, None, None, 0, 0),
    ]
    keys = ["factor", "variant", "effect", "effect_low", "effect_high", "verdict", "delta_macs", "delta_params"]
    frame = pd.DataFrame(rows, columns=keys)
    frame["status"] = ["", "", "", "failed"]
    frame["reason"] = ["", "", "", "out of memory"]
    return frame


def test_ablation_groups_and_keeps_what_failed(tmp_path):
    said = check_files(draw_ablation(effects(), tmp_path / "t", base="lale-s1", note="3 seeds."), "t")
    order = [t for t in said if t in ("norm", "stem") or "=" in t]
    assert order[:6] == ["norm", "norm=layernorm", "norm=batchnorm", "stem", "stem=patchify", "stem=conv7x7"]
    assert {"+1.2 [+0.4, +2.0]", "−3.0 [−4.0, −2.0]", "failed: out of memory", "−0.02 G", "+0.10 M"} <= set(said)
    assert {"better", "worse", "undecided"} <= set(said)
    assert "Without a full result: stem=conv7x7: failed: out of memory." in said


def test_ablation_without_a_column_is_a_sentence(tmp_path):
    with pytest.raises(BenchError, match="no column 'verdict'"):
        draw_ablation(effects().drop(columns="verdict"), tmp_path / "t")


def test_twenty_variants_fit_the_class_table(tmp_path):
    rng = np.random.default_rng(0)
    scores = {f"smp/unet-encoder_{i}": rng.uniform(0.3, 0.9, 7) for i in range(19)} | {"lale-lost": None}
    scores["smp/unet-encoder_4"][2] = np.nan
    names = ["Tree", "Shrub", "Grass", "Crop", "Built-up", "Barren", "Water"]
    paths = draw_per_class(scores, names, tmp_path / "t", reasons={"lale-lost": "failed: out of memory"})
    said = check_files(paths, "t")
    assert set(scores) <= set(said)
    assert {*names, "Macro", "absent", "failed: out of memory"} <= set(said)
    for values in scores.values():
        if values is not None:
            present = values[np.isfinite(values)]
            assert {f"{100 * v:.1f}" for v in (*present, present.mean())} <= set(said)


def test_scores_of_another_number_of_classes_are_refused(tmp_path):
    with pytest.raises(BenchError, match="a has 2 scores for 3 classes"):
        draw_per_class({"a": [0.1, 0.2]}, CLASSES.names, tmp_path / "t")


def test_confusion_shows_row_shares(tmp_path):
    matrix = np.array([[900, 99, 1], [0, 0, 0], [500, 0, 1500]])
    paths = draw_confusion(matrix, CLASSES.names, tmp_path / "t")
    said = check_files(paths, "t", width=1040)
    assert {"90", "9.9", "0.1", "25", "75", "no pixel of this class"} <= set(said)
    assert {"33.3 %", "0.0 %", "66.7 %"} <= set(said)
    with pytest.raises(BenchError, match="3x3"):
        draw_confusion(matrix[:2], CLASSES.names, tmp_path / "t")


def test_panels_show_classes_and_scores_of_labelled_pixels(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, 48, 64, 3), dtype=np.uint8)
    truths = rng.integers(0, 3, (2, 48, 64), dtype=np.uint8)
    half = truths.copy()
    half[:, :24] = (half[:, :24] + 1) % 3
    truths[0, 24:36] = 255  # of the first tile a quarter less is labelled, and that was right
    paths = draw_panels(images, truths, {"all_right": truths, "half": half}, CLASSES, tmp_path / "t", tiles=["p", "q"])
    said = check_files(paths, "t")
    assert {"Image", "Truth", "all_right", "half", *CLASSES.names, "not labelled", "Tiles: p, q."} <= set(said)
    assert [t for t in said if "right" in t and "%" in t] == ["100 % right", "33 % right", "100 % right", "50 % right"]
    with pytest.raises(BenchError, match=r"half is \(1, 48, 64\)"):
        draw_panels(images, truths, {"half": half[:1]}, CLASSES, tmp_path / "t")


def test_many_variants_widen_the_panels(tmp_path):
    masks = np.zeros((1, 16, 16), np.uint8)
    images = np.full((1, 16, 16, 3), 90, np.uint8)
    paths = draw_panels(images, masks, {f"variant {i}": masks for i in range(9)}, CLASSES, tmp_path / "t")
    said = check_files(paths, "t", width=2942)
    assert {f"variant {i}" for i in range(9)} <= set(said)
    assert "not labelled" not in said


@pytest.fixture
def trials():
    rng = np.random.default_rng(1)
    macs = 1e9 * rng.uniform(0.1, 0.55, 30)
    table = pd.DataFrame({"variant": [f"lale-{i:08x}" for i in range(30)], "macs": macs})
    table["f1"] = 0.5 + 0.2 * macs / 1e9 + rng.normal(0, 0.02, 30)
    table["known"] = ["lale-s1"] + [""] * 29
    table["status"], table["reason"] = "", ""
    table.loc[[7, 9], "f1"] = np.nan
    table.loc[[7, 9], ["status", "reason"]] = "failed", "The loss became non-finite."
    return table


def test_search_names_its_front_and_what_was_known(trials, tmp_path):
    said = check_files(draw_search(trials, "macs", tmp_path / "t", limit=0.6e9), "t")
    best = trials.loc[trials["f1"].idxmax(), "variant"]
    assert {"lale-s1", best, "known before", "beyond the budget", "failed, at its cost"} <= set(said)
    assert "2 × failed: The loss became non-finite." in said
    assert "Macro F1 on validation tiles (%)   better →" in said


def test_search_without_known_configs_budget_or_failures(trials, tmp_path):
    said = check_files(draw_search(trials.drop([7, 9]).drop(columns="known"), "macs", tmp_path / "t"), "t")
    assert not {"known before", "beyond the budget", "failed, at its cost"} & set(said)


def test_hypervolume_states_its_reference(trials, tmp_path):
    said = check_files(draw_hypervolume(trials, "macs", tmp_path / "t", reference=(0.6e9, 0.4)), "t")
    assert "Hypervolume (% × G)   better →" in said
    assert any("MACs (G) 0.60" in t and "(%) 40.0" in t for t in said)


def history(top, count=8):
    return [{"step": 100 * i, "loss": 1 / i, "macro_f1": top * (1 - 0.5**i)} for i in range(1, count + 1)]


@pytest.mark.parametrize(("count", "width"), [(1, 840), (3, 1576), (5, 1600)])
def test_curves_have_a_panel_a_variant(tmp_path, count, width):
    histories = {f"net-{i}": [history(0.5 + 0.03 * i), history(0.55)] for i in range(count - 1)} | {"lost": []}
    paths = draw_curves(histories, tmp_path / "t", reasons={"lost": "failed: out of memory"})
    said = check_files(paths, "t", width=width)
    assert set(histories) <= set(said)
    assert "failed: out of memory" in said
    assert any("Not finished: lost (failed: out of memory)." in t for t in said)


def test_curves_survive_an_exploding_loss_and_a_single_validation(tmp_path):
    bad = [*history(0.5), {"step": 900, "loss": float("inf"), "macro_f1": 0.1}]
    check_files(draw_curves({"a": [bad], "b": [history(0.4, 1)]}, tmp_path / "t"), "t", width=1092)
    with pytest.raises(BenchError, match="no training"):
        draw_curves({}, tmp_path / "t")


# What all have in common


def test_one_format_unless_others_are_asked_for(tmp_path):
    def written(name):
        with sheet(2, 2) as figure:
            return [path.name for path in save(figure, tmp_path / name)]

    with also_writing(["pdf"]):
        assert written("a") == ["a.png", "a.svg", "a.pdf"]
    assert written("a") == ["a.png", "a.svg"]  # the second by this file's fixture
    with pytest.raises(BenchError, match="'jpg' is not known; there are: csv, md, tex, png, svg, pdf"):
        also_writing(["jpg"]).__enter__()


def test_bytes_depend_on_the_frame_alone(frame, tmp_path):
    """Not on the day, the version or a reader's own settings, which stay as they are."""
    png, svg = expected = [path.read_bytes() for path in draw_pareto(frame[:4], "macs", tmp_path / "a")]
    assert b"<dc:date>" not in svg
    assert b"matplotlib" not in png.lower()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        before = dict(mpl.rcParams)
        assert [path.read_bytes() for path in draw_pareto(frame[:4], "macs", tmp_path / "b")] == expected
        assert dict(mpl.rcParams) == before


def test_matplotlib_comes_with_the_first_figure_and_pyplot_never():
    modules = ["pareto", "ablation", "per_class", "confusion", "panels", "search", "curves"]
    code = "import bench.report.figures, bench.report.tables, bench.stats.pareto, sys; "
    code += "assert 'matplotlib' not in sys.modules; "
    code += "".join(f"import bench.report.figures.{name}; " for name in modules)
    code += "assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_notes_fit_the_width_and_lose_no_word():
    with sheet(1, 1):
        words = "Failed: " + "an-unbroken-name-" * 9 + " and some more words that go on and on and on."
        lines = wrapped([words, "", "Second."], 3.0)
        assert "".join(lines).replace(" ", "") == (words + "Second.").replace(" ", "")
        assert all(text_size(line, 8.5)[0] <= 3.0 for line in lines if " " in line)
        assert shortened("short", 2.0) == "short"
        cut = shortened(words, 2.0)
        assert cut.endswith("…") and text_size(cut, 8.5)[0] <= 2.0


def test_families_are_told_apart_by_colour_and_marker():
    looks = signs(f"family {i}" for i in range(20))
    assert len(set(looks.values())) == 20
    first = list(looks.values())[:7]
    assert len({colour for colour, _ in first}) == len({marker for _, marker in first}) == 7


def test_every_quantity_of_a_figure_says_which_way_is_better():
    for key in ("params", "macs", "storage_bytes", "latency_ms", "throughput", "activations", "f1"):
        assert COLUMNS[key].better in ("low", "high")
