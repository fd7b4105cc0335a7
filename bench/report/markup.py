"""Any text as it is, in LaTeX and in Markdown: whatever a reason or a name holds, it shows and does nothing."""

import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after a line's \\ a bare [ would open its optional argument
    "]": "{]}",
    "*": "{*}",  # and a bare * would be part of the \\
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "Δ": r"$\Delta$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
}

_MARKDOWN = frozenset("\\`*_{}<>#|~&$^")
_LINK = re.compile(r"\][(\[:]")  # without one of these, brackets are only brackets
_LIST_OR_RULE = re.compile(r"^(\d*)([.)](?=\s|$)|[-+=](?=[-+=\s]|$))")  # at the start of a paragraph


def one_line(text: str) -> str:
    """Control characters and line breaks become single blanks, so that no text breaks out of its row."""
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    return " ".join(visible.split())


def escape_latex(text: str) -> str:
    """Text for a LaTeX document (needs textcomp, which LaTeX loads by itself since 2020)."""
    escaped = "".join(_LATEX.get(c, c) for c in one_line(text))
    return re.sub(r"-(?=-)", "-{}", escaped) if "--" in text else escaped


def escape_markdown(text: str) -> str:
    """Text for a GitHub Markdown paragraph or table cell; underscores inside words and plain brackets stay readable."""
    line = one_line(text)
    special = _MARKDOWN | set("[]" if _LINK.search(line) else "")
    escaped = "".join(
        f"\\{c}" if c in special and not (c == "_" and _inside_word(line, i)) else c for i, c in enumerate(line)
    )
    return _LIST_OR_RULE.sub(r"\1\\\2", escaped)


def _inside_word(text: str, i: int) -> bool:
    """An underscore between letters or digits opens no emphasis in GitHub's Markdown."""
    return 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
