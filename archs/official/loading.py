"""Official checkpoints into our networks: the authors' files, under their names and wrappers, in place.

A `.pth` is read by PyTorch's restricted unpickler, which runs no code of the file; beside tensors and plain data only
the classes of `HARMLESS` may stand in it. Safetensors files are read too. Either may be bare or wrapped.
"""

import argparse
import pathlib
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from archs.errors import ArchError, first_line
from archs.official import lemevit, lwganet
from archs.segmenter import Segmenter

# Where the authors' scripts keep the tensors, in the order in which their loaders look.
WRAPPERS = ("state_dict", "state_dict_ema", "model", "network")
# What their training wrappers write before every name; whatever else comes before is another part of a network.
PREFIXES = re.compile(r"^(?:module\.|net\.|backbone\.)+")
# Training scripts keep their arguments and scores beside the tensors: plain data, read and thrown away.
HARMLESS = (
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
)
FAMILIES: dict[str, ModuleType] = {"lwganet": lwganet, "lemevit": lemevit}


@dataclass(frozen=True)
class LoadReport:
    """What a checkpoint did to a network; names are the network's, but for `ignored`.

    Attributes:
        path: of the file.
        wrapper: the entry of the file that held the tensors; empty for a bare file.
        loaded: tensors that now hold the file's values.
        kept: tensors that the file does not have (decoder, output norms, a head of other classes), left as they were.
        ignored: entries of the file that this form of the network has no place for, under the file's names.
    """

    path: Path
    wrapper: str
    loaded: tuple[str, ...]
    kept: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} tensors of {self.path} loaded, {len(self.kept)} of the network left at their initial "
            f"values ({_modules(self.kept)}), {len(self.ignored)} of the file not needed ({_modules(self.ignored)})"
        )


def _modules(names: Iterable[str]) -> str:
    """The outermost modules of these names."""
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names)) or "none"


def load_official(model: nn.Module, path: str | Path) -> LoadReport:
    """Fill the encoder of `model` from a checkpoint that its authors published, in place and all or nothing.

    Args:
        model: a segmentation network, a backbone or a classifier of a family that has official checkpoints.
        path: a `.pth` or safetensors file, of a classifier or of the dense-prediction form.

    Raises:
        ArchError: no official checkpoint is known for this network, the file cannot be read safely, or a tensor of the
            encoder is missing, left over or of another shape (the sentence lists each). The model is as it was.
    """
    prefix, body = ("encoder.", model.encoder) if isinstance(model, Segmenter) else ("", model)
    family = FAMILIES.get(getattr(getattr(body, "config", None), "family", ""))
    if family is None:
        raise ArchError(
            f"no official checkpoint is known for {type(body).__name__}; there are some for {', '.join(FAMILIES)}"
        )
    if getattr(model, "deployed", False):
        raise ArchError("a deployed network has lost the layers of a checkpoint: load it first, then `archs.deploy`")
    wrapper, found = unwrap(read_checkpoint(path))
    fit = _fit(body, family, found)
    if fit.problems:
        raise ArchError(_sentence(path, body, fit))
    own = body.state_dict()
    with torch.no_grad():
        for name, tensor in fit.values.items():
            own[name].copy_(tensor)
    loaded = tuple(prefix + name for name in fit.values)
    filled = set(loaded)
    kept = tuple(name for name in model.state_dict() if name not in filled)
    return LoadReport(Path(path), wrapper, loaded, kept, tuple(fit.ignored))


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """The contents of a checkpoint file, read without running any code that it may carry.

    Raises:
        ArchError: the file is missing, damaged, holds something else than tensors and plain data, or is no dict.
    """
    path = Path(path)
    try:
        content = load_file(path) if is_safetensors(path) else _unpickle(path)
    except OSError as error:
        raise ArchError(f"the checkpoint {path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        raise ArchError(
            f"the checkpoint {path} is refused: it holds more than tensors and plain data ({_refused(error)}), and "
            "reading that could run code; give a file of tensors alone"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ArchError(
            f"the checkpoint {path} is damaged or cut short ({first_line(error)}); download it again"
        ) from None
    if not isinstance(content, Mapping):
        raise ArchError(f"the checkpoint {path} holds a {type(content).__name__}, not a dict of tensors")
    return content


def is_safetensors(path: str | Path) -> bool:
    """Whether a file begins as safetensors files do: the length of a JSON header, then the header."""
    with Path(path).open("rb") as file:
        return file.read(9)[8:] == b"{"


def _unpickle(path: Path) -> Any:
    with torch.serialization.safe_globals(list[Any](HARMLESS)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")  # unknown instructions are refused anyway
        return torch.load(path, map_location="cpu", weights_only=True)


def _refused(error: Exception) -> str:
    """The class or function that the restricted unpickler stopped at, from its long advice."""
    named = re.search(r"(?:GLOBAL|Unsupported (?:class|global|operand)|function) ([\w.]+)", str(error))
    return named.group(1) if named else str(error).splitlines()[0]


def unwrap(content: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The entry that holds the tensors (empty if the file is bare), and its entries without training prefixes.

    Raises:
        ArchError: two entries have one name once the prefixes are off.
    """
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), "")
    found: dict[str, Any] = {}
    for name, value in (content[wrapper] if wrapper else content).items():
        bare = PREFIXES.sub("", str(name))
        if bare in found:
            raise ArchError(f"the checkpoint holds {bare} twice, under different prefixes; give one network's file")
        found[bare] = value
    return wrapper, found


@dataclass(frozen=True)
class _Fit:
    """How the entries of a file and the tensors of a network meet; `problems` are lines about what does not."""

    values: dict[str, Tensor]
    ignored: list[str]
    problems: list[str]


def _fit(body: nn.Module, family: ModuleType, found: Mapping[str, Any]) -> _Fit:
    key_map = _with_counters(family.official_key_map(body.config), found)
    own = body.state_dict()
    values: dict[str, Tensor] = {}
    ignored: list[str] = []
    problems: list[str] = []
    for theirs, value in found.items():
        ours = key_map.get(theirs)
        if ours in own and _same_shape(value, own[ours]):
            values[ours] = value
        elif ours in own and not ours.startswith(HEAD):
            problems.append(f"{theirs}: {_shape(value)} in the file, {_shape(own[ours])} in the network")
        elif ours not in own and _is_left_over(theirs, ours, key_map, family):
            problems.append(f"{theirs}: in the file, not in the network")
        else:
            ignored.append(theirs)
    optional = _absent_groups(family, key_map, found)
    for theirs, ours in key_map.items():
        if ours in own and theirs not in found and not ours.startswith(optional):
            problems.append(f"{theirs}: not in the file")
    return _Fit(values, ignored, problems)


def _is_left_over(theirs: str, ours: str | None, key_map: Mapping[str, str], family: ModuleType) -> bool:
    """Whether an entry that the network has no tensor for should have had one."""
    if ours is not None:
        return not ours.startswith((*HEAD, *family.ONE_FORM_ONLY))
    return _of_encoder(theirs, key_map) and not family.DROPPABLE.search(theirs)


HEAD = ("head.",)  # a head of another number of classes is no misfit: it stays


def _with_counters(key_map: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, str]:
    """The map with the batch counters beside the running means, where the file has them."""
    counters = {}
    for theirs, ours in key_map.items():
        if theirs.endswith(".running_mean"):
            counter = theirs.replace("running_mean", "num_batches_tracked")
            if counter in found:
                counters[counter] = ours.replace("running_mean", "num_batches_tracked")
    return {**key_map, **counters}


def _absent_groups(family: ModuleType, key_map: Mapping[str, str], found: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups of tensors that only one form has, of which the file has none at all."""
    present = {key_map[name] for name in found if name in key_map}
    return tuple(group for group in family.ONE_FORM_ONLY if not any(name.startswith(group) for name in present))


def _of_encoder(name: str, key_map: Mapping[str, str]) -> bool:
    """Whether a name that the map lacks belongs to the encoder all the same, as blocks of a deeper variant do."""
    return name.partition(".")[0] in {known.partition(".")[0] for known in key_map}


def _same_shape(value: Any, own: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == own.shape


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "x".join(map(str, value.shape)) or "scalar"


def _other_bands(problems: list[str]) -> tuple[str, str] | None:
    """The bands of file and network, where the stem's input is all that differs."""
    found = re.search(r": \d+x(\d+)x(\d+x\d+) in the file, \d+x(\d+)x(\d+x\d+) in the network$", problems[0])
    if len(problems) > 1 or found is None or found[2] != found[4]:
        return None
    return found[1], found[3]


def _sentence(path: str | Path, body: nn.Module, fit: _Fit) -> str:
    if not fit.values:
        return f"the checkpoint {path} is of another architecture: it has none of the tensors of {type(body).__name__}"
    if bands := _other_bands(fit.problems):
        return f"the checkpoint {path} was made for {bands[0]} bands and this {type(body).__name__} takes {bands[1]}"
    count = f"{len(fit.problems)} tensors differ" if len(fit.problems) > 1 else "1 tensor differs"
    listed = "\n  ".join(fit.problems)
    return (
        f"the checkpoint {path} does not fit this {type(body).__name__}, which is left as it was; choose the variant "
        f"that it was made for. {count}:\n  {listed}"
    )
