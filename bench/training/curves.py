"""Training curves for TensorBoard, written by PyTorch's own writer while a training runs.

They show what a record's history holds, and the loss of every step. They determine nothing: a training gives the same
record with and without them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError

CURVES = "tensorboard"
"""The name of the tracker, and the folder of the curves beside that of the records; one folder a training in it."""
FILES = "events.out.tfevents.*"


def require_tracker(name: str) -> None:
    """Find out whether curves can be written, before any training.

    Raises:
        BenchError: there is no such tracker, or it is not installed.
    """
    if name != CURVES:
        raise BenchError(f"--log {name!r} is not known; give --log {CURVES}")
    _writer_class()


def curves_folder(curves: Path, label: str, key: str) -> Path:
    """The folder of one training of a study: readable in TensorBoard's list, and another one for another recipe."""
    return curves / re.sub(r"[^\w.=+@]+", "-", f"{label} {key[:8]}")


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """The curves of a training that is over, from the history of its record; written once."""
    if not any(folder.glob(FILES)):
        Curves(folder, history).close()


class Curves:
    """The curves of one training. What was written beyond the step from which it goes on is withdrawn.

    Args:
        folder: of this training alone; None writes nothing.
        history: validations of earlier sittings (see `TrainResult.history`), written where the folder has no curves.
        step: optimiser steps done in earlier sittings.

    Raises:
        BenchError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None, history: Sequence[Mapping[str, Any]] = (), step: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        begun = any(folder.glob(FILES))
        self._writer = _writer_class()(str(folder), purge_step=step + 1 if begun else None)
        for entry in () if begun else history:
            self.validation(entry, {})

    def loss(self, step: int, value: float) -> None:
        """The loss of one step."""
        if self._writer is not None:
            self._writer.add_scalar("train/loss", value, step)

    def validation(self, entry: Mapping[str, Any], by_class: Mapping[str, float]) -> None:
        """One entry of the history, and the validation F1 of each class that has one."""
        if self._writer is None:
            return
        tags = {"train/mean_loss": "loss", "train/lr": "lr", "val/macro_f1": "macro_f1", "val/macro_iou": "macro_iou"}
        values = {tag: entry[key] for tag, key in tags.items()} | {f"val_f1/{k}": f1 for k, f1 in by_class.items()}
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, entry["step"])
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BenchError(
            "TensorBoard is not installed: pip install 'lale-bench[tensorboard]', or leave out --log"
        ) from None
    return SummaryWriter
