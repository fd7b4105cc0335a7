"""Fonts for names in every script: DejaVu Sans, then what the machine has; an index where no font has a letter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names

from bench.errors import DataWarning

DEFAULT = "DejaVu Sans"  # comes with matplotlib: Latin, Greek and Cyrillic look the same everywhere
_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans SC", "Noto Sans JP",
    "Noto Sans KR", "Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "PingFang SC",
    "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "IPAexGothic", "NanumGothic", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Nirmala UI",
)  # fmt: skip


@cache
def families() -> list[str]:
    """The default font, and those installed that have other scripts, in the order in which a letter is looked up."""
    installed = set(get_font_names())
    return [DEFAULT, *(name for name in _OTHER_SCRIPTS if name in installed)]


@cache
def _letters() -> frozenset[int]:
    paths = [findfont(FontProperties(family=[name])) for name in families()]
    return frozenset(letter for path in paths for letter in get_font(path).get_charmap())


def drawable(text: str) -> bool:
    """Whether the fonts of the figures have every letter."""
    return all(ord(letter) in _letters() or letter.isspace() for letter in text)


@cache
def drawn(text: str) -> str:
    """A text as figures show it: letters that no installed font has by their code points, with a warning."""
    if drawable(text):
        return text
    sentence = f"no installed font has the letters of {text}: figures show their code points instead"
    warnings.warn(f"{sentence}; install one that has them, as Noto Sans CJK", DataWarning, stacklevel=2)
    return "".join(letter if drawable(letter) else f"\\u{ord(letter):04x}" for letter in text)


def drawn_names(names: Sequence[str]) -> list[str]:
    """The names of classes as figures show them: "class 3" for one that no installed font can draw, with a warning."""
    lacking = [name for name in names if not drawable(name)]
    if lacking:
        listed = ", ".join(lacking)
        sentence = f"no installed font has the letters of {listed}: figures show the index of the class instead"
        warnings.warn(f"{sentence}; install one that has them, as Noto Sans CJK", DataWarning, stacklevel=2)
    return [name if name not in lacking else f"class {i}" for i, name in enumerate(names)]
