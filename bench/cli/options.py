"""Options that several commands share, and what their text stands for."""

import ast
import json
import runpy
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.errors import BenchError, DataWarning
from bench.training.recipe import RECIPES, Recipe, recipe_named

DEFAULT_DATA = "world"
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="`world` (real land, embedded), `world:tile=64`; `terrain` (generated), `terrain:size=128,seed=1`; or a "
        "folder of tiles `{train,val,test}/{images,masks}`.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="`auto` takes a GPU where there is one; `cpu`, `cuda`, `cuda:1`.")]
BudgetOption = Annotated[
    str, typer.Option(help=f"How long to train: {', '.join(RECIPES)}. `paper` is the authors' recipe (days on a CPU).")
]
SeedsOption = Annotated[str, typer.Option(help="How many seeds (`3` is 0, 1, 2), or which (`4,5,6`).")]
FoldOption = Annotated[
    str | None,
    typer.Option(help="One fold of so many, as `2/5`: whole scenes are tested that the other folds train on."),
]


def run_file(path: Path, name: str) -> dict[str, Any]:
    """What a Python file of the user's defines; it may import what lies beside it, as if it were run by `python`.

    Raises:
        BenchError: it raises an error, told with its place in that file.
    """
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return runpy.run_path(str(path), run_name=name)
    except BenchError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        from archs.errors import ArchError, first_line  # here, since it loads torch

        if isinstance(error, ArchError):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = getattr(error, "lineno", None) or (frames[-1].lineno if frames else 1)
        raise BenchError(f"{path}, line {line}: {type(error).__name__}: {first_line(error)}") from error


def writable_folder(path: Path | None) -> Path | None:
    """Refuses a folder for results that cannot be made or written, before any work; for `typer.Option(callback=...)`.

    Raises:
        BenchError: it or a folder above it is a file, or may not be written.
    """
    if path is None:
        return None
    above = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if not above.is_dir():
        raise BenchError(f"{path} cannot be a folder of results, since {above} is a file; give another path")
    try:
        with tempfile.TemporaryFile(dir=above):
            return path
    except OSError as error:
        raise BenchError(f"{path} cannot be written ({error.strerror}: {above}); give another path") from None


def writable_file(path: Path | None) -> Path | None:
    """Refuses a file that cannot be written, before any work; for `callback=` of an option or argument.

    Raises:
        BenchError: it is a folder, or its own folder cannot be written.
    """
    if path is None:
        return None
    if path.is_dir():
        raise BenchError(f"{path} is a folder; give the path of a file to write")
    writable_folder(path.absolute().parent)
    return path


OutOption = Annotated[
    Path,
    typer.Option(help="Folder of the results; records in it are never measured twice.", callback=writable_folder),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the config to change, as `norm=layernorm`; repeatable."),
]
RecipeOption = Annotated[
    list[str] | None,
    typer.Option("--recipe", help="A field of the training recipe to change, as `steps=2000`; repeatable."),
]
LogOption = Annotated[
    str | None,
    typer.Option("--log", help="`tensorboard`: write curves of loss, learning rate and validation F1 while it trains."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, for scripts.")]
SizeOption = Annotated[
    int, typer.Option(min=1, help="Side in pixels of the input at which counts and speed are taken.")
]

DELTA_HELP = (
    "Points of macro F1 up to which a lower precision counts as equivalent to fp32, and the most that OpenVINO's int8 "
    "may lose on the validation tiles before operators are put back into float."
)

FILE_WIDTH = 160  # columns of a table that goes to a file or a pipe, which has no width of its own
PROGRESS = Console(stderr=True)
OUTPUT = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)


_OTHER_WARNINGS = warnings.showwarning


def show_data_warnings() -> None:
    """From now on print what is doubtful about data sets as sentences on standard error."""
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **also: Any) -> None:
    if issubclass(category, DataWarning):
        PROGRESS.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)
    else:
        _OTHER_WARNINGS(message, category, *where)


def parse_seeds(text: str, first: int = 0) -> tuple[int, ...]:
    """`3` is (0, 1, 2), or three from `first` on; `4,5` is (4, 5), and `5,` is (5,).

    Raises:
        BenchError: it is neither.
    """
    try:
        numbers = tuple(int(part) for part in text.strip().removesuffix(",").split(","))
    except ValueError:
        raise BenchError(f"--seeds {text!r} is no number; give how many, as 3, or which, as 4,5,6") from None
    seeds = numbers if "," in text else tuple(range(first, first + numbers[0]))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise BenchError(f"--seeds {text!r} names no seeds; give how many, as 3, or different ones, as 4,5,6")
    return seeds


def parse_fold(text: str | None) -> tuple[int, int] | None:
    """`2/5` is (2, 5); None is no fold.

    Raises:
        BenchError: it is neither.
    """
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise BenchError(f"--fold {text!r} is no fold; write 2/5 for the second of five")
    return int(number), int(count)


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """`["norm=layernorm", "depths=1,2,1,1"]` as fields and their values: numbers, lists, true/false/none, or text.

    Raises:
        BenchError: one has no `=`.
    """
    found = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not equals:
            raise BenchError(f"{setting!r} sets nothing; write it as field=value")
        found[name.strip()] = parse_value(text.strip())
    return found


WORDS = {"true": True, "false": False, "none": None}


def parse_value(text: str) -> Any:
    """A number, a list of numbers, true, false, none, or the text itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def recipe_from(budget: str, settings: list[str] | None = None, precision: str | None = None) -> Recipe:
    """The recipe of a budget, with the fields of `settings` (see `parse_settings`) and the precision changed.

    Raises:
        BenchError: an unknown budget or field, or a value that a recipe refuses.
    """
    changes = parse_settings(settings) | ({"precision": precision} if precision else {})
    return Recipe.from_dict(recipe_named(budget).to_dict() | changes)


def in_float_sentences(row: Mapping[str, Any]) -> Iterator[str]:
    """What an int8 network computes in float, and what accuracy control did to it."""
    from bench.scenes.accuracy_control import Restoration

    if kept := row.get("operators_in_float"):
        yield f"operators that stay in float: {', '.join(f'{count} {kind}' for kind, count in kept.items())}"
    if controlled := row.get("accuracy_control"):
        yield str(Restoration(**controlled))


def print_json(value: Any) -> None:
    """Plain JSON on standard output, nothing else; what is not a finite number is null, as JSON has no other word."""
    from bench.records import plain_json

    plain = plain_json(json.loads(json.dumps(value, default=str)), "output", non_finite="null")
    json.dump(plain, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
