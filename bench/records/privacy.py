"""Records travel: no host, user or absolute path may stand in them.

The guard errs on the side of letting a figure through where a machine is called like a common word ("ubuntu",
"train"): a study must not stop because of its host's name. Absolute paths and fields that are named after a host
or a user are refused wherever they stand.
"""

import getpass
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.records.canonical import is_packed

PRIVATE_FIELDS = frozenset(
    {"host", "hostname", "host_name", "fqdn", "user", "username", "user_name", "login", "home", "cwd"}
)
_START = r"""(?:(?<=[\s"'`(\[{<=,;:|])|^)"""
_POSIX_PATH = re.compile(_START + r"""(?:\w+:/{2,3})?(?:/|~/)(?:[^/\s"'`,;:)\]}>]+/)+[^/\s"'`,;:)\]}>]*""")
_QUOTED_PATH = re.compile(r"""(?<=')~?/[^']*/[^']*(?=')|(?<=")~?/[^"]*/[^"]*(?=")""")  # blanks and all
_WINDOWS_PATH = re.compile(r"""(?<![A-Za-z0-9])[A-Za-z]:\\[^\s"'`,;:)\]}>]+|\\\\[^\\\s]+\\[^\s"'`,;:)\]}>]+""")
WITHHELD = "(left out: it named a place on the machine)"
_COMMON_USERS = frozenset({"root", "user", "admin", "ubuntu", "runner", "test", "data", "app", "nobody"})


def private_parts(value: Any, where: str = "record") -> list[str]:
    """The fields of a JSON value that name this machine, its user or a place on it, each as "field: what".

    Args:
        value: plain JSON; packed arrays inside are passed over.
        where: the value's own dotted name.
    """
    return [f"{name}: {found}" for name, text, field in _texts(value, where) if (found := _private(text, field))]


def anonymised(text: str) -> str:
    """The text with absolute paths cut down to their last name, and without this machine's name.

    Relative paths stay, since they tell a reader which file of a data set is meant.
    """
    for pattern in (_QUOTED_PATH, _POSIX_PATH, _WINDOWS_PATH):
        text = pattern.sub(lambda match: re.split(r"[/\\]", match[0].rstrip("/\\"))[-1], text)
    for host in _hosts():
        text = re.sub(_word(host), "HOST", text)
    if text.startswith(("/", "~/")):  # a bare "/name"
        text = text.lstrip("~/")
    return WITHHELD if _private(text, "") else text


def _texts(value: Any, where: str, field: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text of a JSON value, keys included, as (dotted name, text, name of the field it stands in)."""
    if isinstance(value, str):
        yield where, value, field
    elif isinstance(value, dict) and not is_packed(value):
        for key, item in value.items():
            yield f"{where}.{key}", key, ""
            yield from _texts(item, f"{where}.{key}", key)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _texts(item, f"{where}[{i}]", field)


def _private(text: str, field: str) -> str:
    if field.lower() in PRIVATE_FIELDS and text:
        return "a field of this name tells of the machine or its user"
    if text.startswith(("/", "~/")) or _POSIX_PATH.search(text) or _WINDOWS_PATH.search(text):
        return "an absolute path"
    if any(re.search(_word(host), text) for host in _hosts()):
        return "this machine's name"
    segments = re.split(r"[/\\]", text)
    if len(segments) > 2 and _user() in segments:  # two segments are a model's name, as smp/unet-resnet18
        return "a path with the user's name"
    return ""


def _hosts() -> list[str]:
    """The machine's names that no ordinary word could be taken for."""
    full = socket.gethostname()
    return [name for name in dict.fromkeys((full, full.split(".")[0])) if _telling(name)]


def _telling(name: str) -> bool:
    return len(name) >= 5 and bool(re.search(r"[0-9.-]", name)) and name != "localhost"


def _word(name: str) -> str:
    return rf"(?<![\w.-]){re.escape(name)}(?![\w-])"


def _user() -> str | None:
    """The user's name where it is one that tells something."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry has no name to leak
        name = Path.home().name
    return name if len(name) > 2 and name not in _COMMON_USERS else None
