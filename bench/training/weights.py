"""Weights from files into networks: ours, however they were wrapped; a library's; those that authors published."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from archs import ArchError
from archs.official.loading import FAMILIES, WRAPPERS, load_official, read_checkpoint
from archs.segmenter import Segmenter
from bench.errors import BenchError

# What DataParallel and `torch.compile` write before every name.
PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")
# What thop leaves in a network that it has counted.
LEFTOVERS = re.compile(r"(?:^|\.)total_(?:ops|params)$")
LFS_POINTER = b"version https://git-lfs"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or `.pth` file by name, without what training wrappers and counters add.

    Nothing of the file is run: a `.pth` goes through PyTorch's restricted unpickler.

    Raises:
        BenchError: the file is missing, empty, a Git LFS pointer, damaged, or holds more than tensors.
    """
    _refuse_no_weights(path)
    try:
        content = read_checkpoint(path)
    except ArchError as error:
        raise BenchError(f"{path} is no readable safetensors file or .pth of tensors alone: {error}") from None
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), "")
    tensors = {PREFIXES.sub("", str(name)): value for name, value in (content[wrapper] if wrapper else content).items()}
    return {name: v for name, v in tensors.items() if isinstance(v, Tensor) and not LEFTOVERS.search(name)}


def _refuse_no_weights(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise BenchError(f"There is no weights file {path}; give the path of a .safetensors or .pth file.") from None
    except OSError as error:
        raise BenchError(f"The weights file {path} cannot be read ({error.strerror}).") from None
    if not start:
        raise BenchError(f"The weights file {path} is empty: a download or a copy was cut short; fetch it again.")
    if start == LFS_POINTER:
        raise BenchError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` where it came from.")


def start_from(model: nn.Module, path: Path) -> str:
    """Fill a network with the weights that a training starts from; what was done, in one sentence.

    Weights under the network's own names (or a library's, which has the same network inside) must fit, except that
    layers for another number of classes keep their initial values. Others are tried as an official checkpoint.

    Raises:
        BenchError: the file cannot be read, or does not fit; the model is as it was.
    """
    found = read_weights(path)
    own = model.state_dict()
    weights = found if found.keys() & own.keys() else {f"network.{name}": value for name, value in found.items()}
    if weights.keys() & own.keys():
        return _fill(model, weights, path)
    body = model.encoder if isinstance(model, Segmenter) else model
    if getattr(getattr(body, "config", None), "family", "") in FAMILIES:
        return str(load_official(model, path))
    check_fit(model, found, path)
    raise AssertionError  # a file without one name of the network does not fit


def _fill(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> str:
    own = model.state_dict()
    heads = [name for name in own if name in weights and _other_classes(own[name], weights[name])]
    rest = {name: own[name] if name in heads else value for name, value in weights.items()}
    check_fit(model, rest, path)
    model.load_state_dict(rest)
    if not heads:
        return f"all {len(own)} tensors of {path} loaded"
    was, now = weights[heads[0]].shape[0], own[heads[0]].shape[0]
    return (
        f"{len(own) - len(heads)} tensors of {path} loaded; {', '.join(heads)} left at initial values, since the file "
        f"has them for {was} classes and the data have {now}"
    )


def _other_classes(own: Tensor, found: Tensor) -> bool:
    """Whether two tensors differ in their first dimension alone, which is that of the classes in a last layer."""
    return own.ndim == found.ndim > 0 and own.shape[0] != found.shape[0] and own.shape[1:] == found.shape[1:]


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Find out whether weights are those of a network.

    Raises:
        BenchError: they are not; one sentence says how far they are apart, with the first name as the example.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    misshaped = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if not (missing or unexpected or misshaped):
        return
    example = (misshaped or missing or unexpected)[0]
    raise BenchError(
        f"The weights in {path} are of another architecture: {len(missing)} of the model's {len(own)} tensors are "
        f"missing, {len(unexpected)} are unexpected, {len(misshaped)} have another shape (first: {example}); "
        "create the model with the config they were trained with."
    )


def weights_digest(path: Path) -> str:
    """SHA-256 of a weights file: which weights a training started from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
