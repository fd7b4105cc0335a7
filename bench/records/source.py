"""The code of a network, as far as it is neither ours nor a versioned library's: its source without its layout.

Source is compared by tokens, which are the same under every Python that the suite runs on; a syntax tree or bytecode
would not be.
"""

import ast
import functools
import hashlib
import inspect
import io
import sys
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from importlib import metadata
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

INSTALLED = ("site-packages", "dist-packages")
PLAIN = (bool, int, float, str)
MANY = list | tuple | dict | set | frozenset
_IGNORED = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)
_BLOCKS = {tokenize.NEWLINE: "\n", tokenize.INDENT: "<indent>", tokenize.DEDENT: "<dedent>"}


def normalised(source: str) -> str:
    """Source without comments, docstrings, blank lines and the amounts of its blanks; equal strings spelled alike."""
    source = textwrap.dedent(source)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    words = _without_docstrings(_words(tokens, source.splitlines(keepends=True)))
    return " ".join(words)


def _words(tokens: Iterable[tokenize.TokenInfo], lines: list[str]) -> Iterator[str]:
    """One word a token. An f-string is one word, as it was one token until Python 3.11."""
    start, depth = (0, 0), 0
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if name in ("FSTRING_START", "TSTRING_START"):
            start, depth = (start if depth else token.start), depth + 1
        elif name in ("FSTRING_END", "TSTRING_END"):
            depth -= 1
            if not depth:
                yield _between(lines, start, token.end)
        elif not depth and token.type not in _IGNORED:
            yield _BLOCKS.get(token.type) or _word(token)


def _word(token: tokenize.TokenInfo) -> str:
    if token.type != tokenize.STRING:
        return token.string
    try:
        return ascii(ast.literal_eval(token.string))
    except (ValueError, SyntaxError):  # an f-string before Python 3.12
        return token.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    middle = "".join(lines[start[0] : end[0] - 1])
    return lines[start[0] - 1][start[1] :] + middle + lines[end[0] - 1][: end[1]]


def _without_docstrings(words: Iterable[str]) -> Iterator[str]:
    """Leaves out a string that is a statement of its own."""
    statement: list[str] = []
    for word in words:
        if word in ("<indent>", "<dedent>"):
            yield word
            continue
        statement.append(word)
        if word == "\n":
            if not (len(statement) == 2 and statement[0][0] in "'\""):
                yield from statement
            statement = []
    yield from statement


class SourceReader:
    """Collects the source that objects are made of: theirs, and that of all they name, and so on.

    What an own function or class names in its code is looked up where the code would find it; numbers, text and arrays
    found so count by their value, classes and functions by their source, own objects by their class and attributes,
    what belongs to an installed distribution by its version. Of a decorated function each layer counts.

    Attributes:
        texts: the source, normalised, one entry a function, and the values of constants.
        libraries: `name==version` of the installed distributions met.

    Args:
        trusted: packages whose code is vouched for otherwise.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self.trusted = frozenset(trusted)
        self.texts: set[str] = set()
        self.libraries: set[str] = set()
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # alive, so that no id is given twice

    def is_own(self, thing: Any) -> bool:
        """Whether the class or function is neither trusted nor installed nor Python's."""
        # A decorator gives its wrapper the name of the module that it wraps; its globals are those of its own module.
        wrapper = isinstance(thing, FunctionType) and hasattr(thing, "__wrapped__")
        module = thing.__globals__.get("__name__") if wrapper else getattr(thing, "__module__", None)
        top = (module or "builtins").partition(".")[0]
        if top in self.trusted or (top in sys.stdlib_module_names and top != "__main__"):
            return False
        library = installed_version(module)
        if library:
            self.libraries.add(library)
        return not library

    def read(self, thing: Any, *, methods_only: bool = False) -> None:
        """Add a class, a function, a constant or an object; of a class, with `methods_only`, its functions alone."""
        if id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        self._kept.append(thing)
        if isinstance(thing, type):
            self._read_class(thing, methods_only)
        elif isinstance(thing, FunctionType):
            self._read_function(thing)
        elif isinstance(thing, PLAIN):
            self.texts.add(f"constant {thing!a}")
        elif isinstance(thing, MANY):
            self._read_many(thing)
        elif _is_array(thing):
            self.texts.add(_array(thing))
        else:
            self._read_object(thing)

    def _read_function(self, function: FunctionType) -> None:
        if self.is_own(function):
            self.texts.add(_source(function))
            self._follow(function)
        if hasattr(function, "__wrapped__"):
            self.read(function.__wrapped__)

    def _read_object(self, thing: Any) -> None:
        """Whatever is called in another's place by what it calls; an object of an own class by all that it holds."""
        if isinstance(thing, functools.partial):
            self.read(thing.func)
            self._read_given(thing.args, thing.keywords)
        elif isinstance(thing, MethodType):
            self.read(thing.__func__)
            self.read(thing.__self__)
        elif hasattr(thing, "__wrapped__"):  # functools.lru_cache
            self.read(thing.__wrapped__)
        elif self.is_own(type(thing)):
            self.read(type(thing))
            self._read_given(vars(thing) if hasattr(thing, "__dict__") else {})

    def _read_given(self, *things: MANY) -> None:
        for many in things:
            if many:
                self._read_many(many)

    def _read_many(self, things: MANY) -> None:
        """Plain values count in their order, those of a set sorted, what else is inside by itself."""
        items = [part for pair in things.items() for part in pair] if isinstance(things, dict) else list(things)
        if isinstance(things, set | frozenset):
            items.sort(key=ascii)
        plain = [item for item in items if isinstance(item, PLAIN)]
        self.texts.add(f"constants {plain!a}")
        for item in items:
            if not isinstance(item, PLAIN):
                self.read(item)

    def _read_class(self, cls: type, methods_only: bool) -> None:
        if not self.is_own(cls):
            return
        for name, value in sorted(vars(cls).items()):
            for function in _functions(value):
                self.read(function)
            if isinstance(value, type | functools.partial):
                self.read(value)
            elif not methods_only and not name.startswith("__"):
                self._read_attribute(name, value)
        for base in cls.__bases__:
            self.read(base, methods_only=methods_only)

    def _read_attribute(self, name: str, value: Any) -> None:
        if isinstance(value, PLAIN):
            self.texts.add(f"{name} = {value!a}")
        elif isinstance(value, MANY) or _is_array(value):
            self.texts.add(f"{name} = {_told(value)}")
            self.read(value)

    def _follow(self, function: FunctionType) -> None:
        """Read what a function's code names."""
        names = set(_names(function.__code__))
        known = dict(function.__globals__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                known[name] = cell.cell_contents
            except ValueError:  # not bound yet
                continue
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        found = [known[name] for name in names if name in known] + defaults
        for value in found:
            if isinstance(value, ModuleType):
                self._read_module(value, names)
            elif not isinstance(value, property):
                self.read(value)

    def _read_module(self, module: ModuleType, names: set[str]) -> None:
        top = module.__name__.partition(".")[0]
        if top in self.trusted or top in sys.stdlib_module_names:
            return
        library = installed_version(module.__name__)
        if library:
            self.libraries.add(library)
            return
        for name in names & vars(module).keys():
            self.read(vars(module)[name])


def _functions(value: Any) -> list[FunctionType]:
    """The functions behind a class attribute, less those that a dataclass was given."""
    if isinstance(value, property):
        candidates = [value.fget, value.fset]
    elif isinstance(value, functools.cached_property):
        candidates = [value.func]
    else:
        candidates = [getattr(value, "__func__", value)]
    found = [one if isinstance(one, FunctionType) else getattr(one, "__wrapped__", None) for one in candidates]
    return [one for one in found if isinstance(one, FunctionType) and not _is_generated(one)]


def _is_generated(function: FunctionType) -> bool:
    return inspect.unwrap(function).__code__.co_filename == "<string>"


def _told(value: Any) -> str:
    """A value as text: what is no plain value is told by its type, since it is read by itself."""
    if isinstance(value, PLAIN) or value is None:
        return ascii(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_told(key)}: {_told(item)}" for key, item in value.items()) + "}"
    if isinstance(value, MANY):
        parts = [_told(item) for item in value]
        return f"{type(value).__name__}({', '.join(sorted(parts) if isinstance(value, set | frozenset) else parts)})"
    return _array(value) if _is_array(value) else type(value).__qualname__


def _is_array(value: Any) -> bool:
    """Whether it is a tensor, or an array of numpy."""
    return any(
        cls.__module__ in ("torch", "numpy") and cls.__name__ in ("Tensor", "ndarray") for cls in type(value).__mro__
    )


def _array(array: Any) -> str:
    """Type, shape and values; of a tensor without values, or with values in a layout of its own, no values."""
    import numpy as np
    import torch

    if isinstance(array, torch.Tensor):
        bare = array.is_meta or array.layout is not torch.strided
        content = b"" if bare else array.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        content = np.ascontiguousarray(array).tobytes()
    return f"array {array.dtype} {list(array.shape)} {hashlib.sha256(content).hexdigest()}"


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


_read: dict[int, tuple[str, CodeType]] = {}


def _source(function: FunctionType) -> str:
    """The normalised source of what runs: read once, since the file may be edited while the old code is in memory.

    A module that is loaded again brings new code objects, by which its source is read again.
    """
    code = function.__code__
    if id(code) not in _read:
        try:
            text = normalised(inspect.getsource(code))
        except (OSError, TypeError):  # typed in, or made by `exec`: its bytecode, which another Python does not share
            text = _bytecode(code)
        _read[id(code)] = (text, code)  # alive, so that no id is given twice
    return _read[id(code)][0]


def _bytecode(code: CodeType) -> str:
    constants = [_bytecode(one) if isinstance(one, CodeType) else ascii(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


@functools.lru_cache(maxsize=4096)
def installed_version(module: str) -> str:
    """`name==version` of the installed distribution that a module belongs to; empty where it lies in no such place."""
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None) or ""
    if not any(place in file for place in INSTALLED):
        return ""
    top = module.partition(".")[0]
    owners = _distributions().get(top, [top])
    try:
        return f"{owners[0]}=={metadata.version(owners[0])}"
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())
