"""Training state on disk: safetensors only, each file written whole by an atomic rename, nothing unpickled.

A checkpoint is one file, so it can never be half of one step and half of another: the tensors are the weights
("weights/NAME") and the optimiser's ("optimiser/INDEX/FIELD"), the metadata holds everything else as JSON. The best
weights lie beside it in a file named by their step, which the checkpoint refers to.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.training.weights import check_fit, read_weights

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class TrainState:
    """Everything of a run that is neither a weight nor the optimiser's; JSON-able."""

    run: str
    """hash of what determines the run: another run's checkpoint is refused"""
    step: int = 0
    """optimiser steps done"""
    loss_sum: float = 0.0
    """training loss summed over the steps since the last validation"""
    history: list[dict[str, Any]] = field(default_factory=list)
    """one entry a validation: step, loss, lr, macro_f1, macro_iou"""
    best_step: int = 0
    best_confusion: list[list[int]] | None = None
    """pooled validation confusion at the best step"""
    seconds: float = 0.0
    """training and validation so far, over all sittings"""
    threads: list[int] = field(default_factory=list)
    """of PyTorch, in each sitting that had another number than the one before"""

    @property
    def validations(self) -> list[float]:
        """Macro F1 of every validation so far."""
        return [entry["macro_f1"] for entry in self.history]

    @property
    def last_validation(self) -> int:
        """Step of the newest validation, 0 before the first."""
        return self.history[-1]["step"] if self.history else 0


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the model's weights and buffers as safetensors; raises `BenchError` when the folder cannot be written."""
    _write(path, save(_plain(model.state_dict())))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights of a safetensors or `.pth` file into a model of the same architecture.

    Raises `BenchError`, with the model left as it was, when the file is no such file or holds another architecture's
    weights.
    """
    weights = read_weights(path)
    check_fit(model, weights, path)
    model.load_state_dict(weights)


def save_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: TrainState) -> None:
    """Replace the folder's checkpoint by this one, whole; after an error the one before is intact."""
    tensors = {f"weights/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimiser/{key}": value for key, value in _moments(optimiser)}
    _write(folder / CHECKPOINT, save(_plain(tensors), metadata={"state": json.dumps(asdict(state))}))
    _drop_older_best(folder, state.best_step)


def load_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, run: str) -> TrainState | None:
    """Restore model, optimiser and state from the folder; None, and nothing touched, where there is no checkpoint.

    Raises `BenchError` when the checkpoint is of another run (`run` differs) or cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state, tensors = _read(path)
    if state.run != run:
        raise BenchError(
            f"The checkpoint {path} is of another run (its architecture, recipe, data, seed or starting weights "
            "differ); give another folder, as --out, or delete this checkpoint."
        )
    weights = {name.removeprefix("weights/"): v for name, v in tensors.items() if name.startswith("weights/")}
    check_fit(model, weights, path)
    model.load_state_dict(weights)
    _restore_moments(optimiser, tensors)
    return state


def best_path(folder: Path, step: int) -> Path:
    """The file of the best weights, found at `step`."""
    return folder / f"best-{step:06d}.safetensors"


def run_signature(model: nn.Module, determinants: Mapping[str, Any]) -> str:
    """Hash of what determines a run: the model as it prints, its tensors' names and shapes, the determinants."""
    printed = re.sub(r"0x[0-9a-f]+", "", repr(model))  # a function's address differs from process to process
    shapes = [(name, list(value.shape)) for name, value in model.state_dict().items()]
    text = json.dumps([printed, shapes, dict(determinants)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory (safetensors refuses tied or strided tensors)."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def _moments(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            yield f"{index}/{name}", value


def _restore_moments(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = _parameters(optimiser)
    for name, value in tensors.items():
        if not name.startswith("optimiser/"):
            continue
        _, index, quantity = name.split("/")
        parameter = parameters[int(index)]
        # A moment must lie in memory as its parameter does: fused kernels walk both as flat arrays.
        same_shape = value.shape == parameter.shape
        held = torch.empty_like(parameter) if same_shape else torch.empty_like(value, device=parameter.device)
        optimiser.state[parameter][quantity] = held.copy_(value)


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _read(path: Path) -> tuple[TrainState, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            state = TrainState(**json.loads((file.metadata() or {})["state"]))
            return state, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BenchError(f"The checkpoint {path} cannot be read ({error}); delete it to start anew.") from error


def _drop_older_best(folder: Path, step: int) -> None:
    """Only once the new checkpoint is in place: until then the old one may still be needed with its best weights."""
    for path in folder.glob("best-*.safetensors"):
        if path != best_path(folder, step):
            path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise BenchError(
            f"Cannot write {path.name} in the folder {path.parent} ({error.strerror}); what was there is intact: "
            "make room or give another folder."
        ) from error
