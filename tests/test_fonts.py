"""Class names in scripts that the default font lacks are never drawn as boxes."""

import warnings

import numpy as np
import pytest

from bench.errors import DataWarning
from bench.report.figures import fonts
from bench.report.figures.confusion import draw_confusion
from bench.report.figures.per_class import draw_per_class

NAMES = ["水面", "Дорога", "café"]


def _forget():
    fonts.families.cache_clear()
    fonts._letters.cache_clear()


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
