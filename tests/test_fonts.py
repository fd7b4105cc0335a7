"""Class names in scripts that the default font lacks are never drawn as boxes."""

import warnings

import numpy as np
import pandas as pd
import pytest

from bench.errors import DataWarning
from bench.report.figures import fonts
from bench.report.figures.ablation import draw_ablation
from bench.report.figures.confusion import draw_confusion
from bench.report.figures.curves import draw_curves
from bench.report.figures.pareto import draw_pareto
from bench.report.figures.per_class import draw_per_class

NAMES = ["水面", "Дорога", "café"]


def _forget():
    fonts.families.cache_clear()
    fonts._letters.cache_clear()
    fonts.drawn.cache_clear()


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine without any other font."""
    monkeypatch.setattr(fonts, "_OTHER_SCRIPTS", ())
    _forget()
    yield
    _forget()


def test_a_name_without_a_font_is_shown_by_its_index_and_told(only_dejavu):
    with pytest.warns(DataWarning, match="no installed font has the letters of 水面: figures show the index"):
        assert fonts.drawn_names(NAMES) == ["class 0", "Дорога", "café"]


def test_figures_draw_no_letter_that_a_font_lacks(only_dejavu, tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        draw_confusion(np.eye(3, dtype=int), NAMES, tmp_path / "confusion")
        draw_per_class({"a": [0.1, 0.2, 0.3]}, NAMES, tmp_path / "per_class")
    assert [one.category for one in told] == [DataWarning, DataWarning]  # none of matplotlib's on missing glyphs


def test_an_installed_font_of_another_script_is_used(monkeypatch):
    """A font that comes with matplotlib stands for one that a user installed."""
    letter = "\U0001d49c"
    monkeypatch.setattr(fonts, "_OTHER_SCRIPTS", ("not installed", "STIXGeneral"))
    _forget()
    try:
        assert fonts.families() == [fonts.DEFAULT, "STIXGeneral"]
        assert fonts.drawable(letter)
    finally:
        _forget()


def test_latin_and_greek_need_no_other_font(only_dejavu):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts.drawn_names(["Water", "Δάσος", "Straße"]) == ["Water", "Δάσος", "Straße"]


LABEL = "水网-b0"


def frames():
    """Every figure with a label of a variant, a title and a note in a script without a font."""
    points = pd.DataFrame({"variant": [LABEL, "other"], "family": [LABEL, "b"], "f1": [0.5, 0.6], "macs": [1e9, 2e9],
                           "status": "ok", "reason": ""})  # fmt: skip
    effects = pd.DataFrame({"variant": [LABEL, "b"], "factor": ["水", "other"], "f1": [0.5, 0.4],
                            "effect": [0.0, -0.1], "effect_low": [0.0, -0.2], "effect_high": [0.0, -0.05],
                            "verdict": ["", "worse"]})  # fmt: skip
    curve = {LABEL: [[{"step": 1, "loss": 1.0, "macro_f1": 0.1}, {"step": 2, "loss": 0.5, "macro_f1": 0.2}]]}
    words = {"title": "标题", "note": "注"}
    yield "pareto", lambda stem: draw_pareto(points, "macs", stem, **words)
    yield "ablation", lambda stem: draw_ablation(effects, stem, base=LABEL, **words)
    yield "curves", lambda stem: draw_curves(curve, stem, **words)
    yield "per_class", lambda stem: draw_per_class({LABEL: [0.1, 0.2, 0.3]}, list("abc"), stem, **words)


@pytest.mark.parametrize(("name", "draw"), list(frames()), ids=lambda value: value if isinstance(value, str) else "")
def test_labels_and_titles_without_a_font_show_code_points(only_dejavu, tmp_path, name, draw):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        draw(tmp_path / name)
    assert told and {one.category for one in told} == {DataWarning}  # none of matplotlib's on missing glyphs
    sentences = "".join(str(one.message) for one in told)
    assert LABEL in sentences and "标题" in sentences and "注" in sentences


def test_two_labels_stay_two(only_dejavu):
    with pytest.warns(
        DataWarning, match="no installed font has the letters of 水网-b0: figures show their code points"
    ):
        assert fonts.drawn(LABEL) == r"\u6c34\u7f51-b0"
    with pytest.warns(DataWarning):
        assert fonts.drawn("水田-b0") != fonts.drawn(LABEL)
    assert fonts.drawn("Δάσος 2") == "Δάσος 2"
