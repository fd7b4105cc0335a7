"""The rooms of the package: who imports whom, function-level imports included, and what stands where.

Imports under `if TYPE_CHECKING:` are left out: they never run.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = 8
HEAVY = ("torch", "pandas", "optuna", "matplotlib", "scipy", "sklearn", "timm", "archs")
FAMILIES = re.compile(r"(?<![a-z])(lale|lwganet|lemevit|lemore)(?![a-z])", re.IGNORECASE)
OWN_NAME = re.compile(r"lale[-_]bench", re.IGNORECASE)  # the package, its command, its environment variables

OPEN_IMPORTS: set[tuple[str, str]] = set()
OPEN_NAMES: set[str] = set()


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    """`archs`, `studies`, or a folder or file of `bench`; `bench` itself is no room."""
    return "/".join(parts[: 2 if parts[0] == "bench" else 1])


def home(path: Path) -> str:
    return room(path.relative_to(ROOT).with_suffix("").parts)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below that can run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from running(child)


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules that a file imports anywhere, as dotted names."""
    found = set()
    for node in running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def edges() -> dict[tuple[str, str], list[str]]:
    """(room, room that it imports) -> where."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in [path for package in ("archs", "bench", "studies") for path in sources(package)]:
        for name in imports(path):
            parts = tuple(name.split("."))
            if parts[0] in ("archs", "bench", "studies") and parts != ("bench",) and room(parts) != home(path):
                found.setdefault((home(path), room(parts)), []).append(f"{path.relative_to(ROOT)}: {name}")
    return found


def floors(pairs: set[tuple[str, str]]) -> list[set[str]]:
    """Rooms by floor, the lowest first; what is left over when no more can be placed is a circle."""
    left = {one for pair in pairs for one in pair}
    found: list[set[str]] = []
    while left:
        below = set().union(*found) if found else set()
        ready = {one for one in left if all(to in below for at, to in pairs if at == one)}
        assert ready, f"rooms that import each other: {sorted(left)}"
        found.append(ready)
        left -= ready
    return found


def test_nothing_stands_loose_in_bench():
    assert {path.name for path in (ROOT / "bench").glob("*.py")} == {"__init__.py", "errors.py"}


def test_rooms_make_no_circle_and_few_floors():
    pairs = set(edges()) - OPEN_IMPORTS
    storeys = floors(pairs)
    assert len(storeys) <= FLOORS, storeys
    assert {("archs", "bench")} & {(at, to.split("/")[0]) for at, to in pairs} == set()


def test_nobody_below_knows_the_studies():
    """`lale-bench` finds them by name, so that anyone's own are as good as ours."""
    assert [where for (_, to), where in edges().items() if to == "studies"] == []


def test_what_is_open_is_still_open():
    assert set(edges()) >= OPEN_IMPORTS, "mended: take it off the list"
    assert {str(path.relative_to(ROOT)) for path in naming_families()} >= OPEN_NAMES, "mended: take it off the list"


def naming_families() -> dict[Path, list[str]]:
    """Modules of `bench` that name an architecture family in code: an identifier or a text that is no docstring."""
    found: dict[Path, list[str]] = {}
    for path in sources("bench"):
        for word in code_words(ast.parse(path.read_text(encoding="utf-8"))):
            if FAMILIES.search(OWN_NAME.sub("", word)):
                found.setdefault(path, []).append(word)
    return found


def code_words(tree: ast.Module) -> Iterator[str]:
    """Texts and identifiers; docstrings and other texts that stand alone are left out."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias | ast.FunctionDef | ast.ClassDef):
            yield node.name


def test_no_module_of_bench_names_a_family():
    found = {str(path.relative_to(ROOT)): words for path, words in naming_families().items()}
    assert {path: words for path, words in found.items() if path not in OPEN_NAMES} == {}


def test_the_checks_find_what_they_look_for():
    tree = ast.parse(
        '"""LALE in a docstring."""\nbase = archs.config("lale-s1")\nENV = "LALE_BENCH_CACHE"\nlale_cost()'
    )
    assert [word for word in code_words(tree) if FAMILIES.search(OWN_NAME.sub("", word))] == ["lale-s1", "lale_cost"]
    assert floors({("a", "b"), ("b", "c"), ("a", "c")}) == [{"c"}, {"b"}, {"a"}]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from bench.cli.app import run; "
        "names = ('study', 'search', 'train', 'list', 'data', 'choose'); "
        "codes = [run(['--help']), *(run([name, '--help']) for name in names)]; "
        f"print([name for name in {HEAVY} if name in sys.modules], codes)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] [0, 0, 0, 0, 0, 0, 0]"
