"""Train one network by one recipe under one seed: the loop, and the record of what came out."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from archs import ArchConfig
from bench.data.dataset import DataSet
from bench.records import pack_array
from bench.training.checkpoint import (
    TrainState,
    best_path,
    load_checkpoint,
    load_weights,
    run_signature,
    save_checkpoint,
    save_weights,
)
from bench.training.curves import Curves
from bench.training.evaluate import NonFiniteError, evaluate, evaluate_with_boundaries
from bench.training.loop import LossWatch, descend, initial_network, make_loss, seed_step, set_rate, training_batch
from bench.training.metrics import scores
from bench.training.recipe import Recipe, learning_rate, should_stop
from bench.training.tiles import place_tiles

OnStep = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps at most, the loss as last read from the device)."""


@dataclass(frozen=True)
class TrainResult:
    """What one training run came to; the model itself is left with its best weights."""

    status: Literal["ok", "failed"]
    reason: str
    """why it failed, in one sentence; empty when it did not"""
    steps: int
    """optimiser steps done: fewer than the recipe's after an early stop or a failure"""
    best_step: int
    """the step of the weights kept, of the best validation macro F1 or of the last; 0 if none was reached"""
    history: list[dict[str, Any]]
    """one entry a validation: step, loss (mean since the last), lr, macro_f1, macro_iou"""
    val_confusion: Int64[np.ndarray, "c c"] | None
    """pooled over the validation tiles, at the best step"""
    test_confusions: Int64[np.ndarray, "n c c"] | None
    """one a test tile, with the best weights; None if the test was not asked for or the run failed"""
    test_boundary_confusions: Int64[np.ndarray, "n c c"] | None
    """the same near the truth's boundaries: `bench.training.metrics.boundary_band`"""
    seconds: float
    """training and validation, over all sittings"""
    peak_bytes: int | None
    """most GPU memory allocated in this sitting; None on a CPU, where the process shares its memory"""
    threads: list[int]
    """PyTorch's threads: several numbers where the run was resumed with another one"""

    def figures(self) -> dict[str, Any]:
        """What a record holds of the run: plain JSON, matrices packed."""
        found: dict[str, Any] = {
            "steps": self.steps,
            "best_step": self.best_step,
            "history": self.history,
            "train_seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "threads": self.threads,
        }
        for name in ("val_confusion", "test_confusions", "test_boundary_confusions"):
            if (matrix := getattr(self, name)) is not None:
                pooled = scores(matrix if matrix.ndim == 2 else matrix.sum(axis=0))
                found[name] = pack_array(matrix)
                found[f"{name.split('_confusion')[0]}_scores"] = {
                    score: getattr(pooled, score) for score in ("macro_f1", "macro_iou", "accuracy")
                }
        return found


def train_config(
    config: ArchConfig,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    *,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    on_step: OnStep | None = None,
    test: bool = True,
    curves: Path | None = None,
) -> tuple[nn.Module, TrainResult]:
    """Build the config's network for the data's bands under `seed`, then `train` it under it; network and result."""
    model = initial_network(config, data.classes.num_classes, data.in_channels, recipe, seed)
    result = train(
        model, data, recipe, seed=seed, device=device, folder=folder, on_step=on_step, test=test, curves=curves
    )
    return model, result


def train(
    model: nn.Module,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    on_step: OnStep | None = None,
    test: bool = True,
    also: Mapping[str, str] | None = None,
    curves: Path | None = None,
) -> TrainResult:
    """Train a network and leave it with the weights of its best validation macro F1, or as the recipe selects.

    On a CPU equal arguments give equal results, with equal threads to the bit; on a GPU gradients of bilinear resizing
    are added up in another order each time. With a `folder`, checkpoints are written there, and a run that was killed
    goes on from the last one to the same result. The test split is looked at once, at the end, with the best weights
    (`test=False`: not at all). A loss, gradient or logit that is not finite ends the run with status "failed". `also`:
    what else tells the run from others in the same folder, as the digest of the weights that it starts from. `curves`:
    a folder for the training's curves (`bench.training.curves`).

    Raises `BenchError` for a folder that cannot be written or holds another run, a crop larger than the tiles and
    a data set without the splits needed; an exception of `on_step` passes through, the last checkpoint being safe.
    """
    device = torch.device(device)
    if test:
        data["test"]  # a data set without it is refused before the training, not after
    data.require_scorable()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        run = _Run(model, data, recipe, seed, device, folder, also or {})
        with closing(Curves(curves, run.state.history, run.state.step)) as run.curves:
            reason = run.train(on_step or (lambda *progress: None))
        run.restore_best()
        return run.result(reason, test and not reason)


def shorten_norm_memory(model: nn.Module, steps: int) -> None:
    """Let no batch norm remember longer than a tenth of the training.

    A batch norm is evaluated with running averages that begin at 0 and 1. EfficientNet's momentum of 0.01 is made for
    long trainings: after 150 steps a fifth of what it evaluates with is still the initial value, and a network that
    has learned scores as if it had not. So the momentum is at least 10 / `steps`, which leaves PyTorch's 0.1 as it
    is from 100 steps on, and 0.01 from 1,000.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, min(1.0, 10 / steps))


class MovingAverage(nn.Module):
    """A copy of the network that becomes the moving average of its weights and floating-point buffers (batch norm's
    statistics among them), with `min(decay, (1 + n) / (10 + n))` after n updates, so that a short training soon
    forgets its initial weights. The first update copies."""

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        # On the CPU, whatever the network's device: reading a number from a GPU waits until the device has caught up.
        self.register_buffer("n_averaged", torch.tensor(0, device="cpu"))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the network as it is after a step."""
        updates = int(self.n_averaged)
        share = min(self._decay, (1 + updates) / (10 + updates))
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        moved = [pair for pair in pairs if updates and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (updates and pair[0].is_floating_point())]
        if moved:
            torch._foreach_lerp_([average for average, _ in moved], [newest for _, newest in moved], 1 - share)
        if copied:
            torch._foreach_copy_([average for average, _ in copied], [newest for _, newest in copied])
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Weights and buffers."""
    return chain(model.parameters(), model.buffers())


class _Run:
    """One sitting of one run: the network, its optimiser, the tiles, and the state that a checkpoint keeps."""

    def __init__(
        self,
        model: nn.Module,
        data: DataSet,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        folder: Path | None,
        also: Mapping[str, str],
    ) -> None:
        self.model, self.data, self.recipe, self.seed = model, data, recipe, seed
        self.device, self.folder, self.also = device, folder, also
        self.tiles, self.val = (place_tiles(data[split], device, data.bands) for split in ("train", "val"))
        self.loss = make_loss(recipe, data.classes.ignore_index)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model.to(device).to(memory_format=layout)
        shorten_norm_memory(model, recipe.steps)
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self.average = MovingAverage(model, recipe.ema) if recipe.ema else None
        self.scored = model if self.average is None else self.average.module
        """what is validated, kept and tested"""
        self.kept = model if self.average is None else nn.ModuleDict({"model": model, "average": self.average})
        """what a checkpoint holds"""
        self.best: dict[str, Tensor] = {}
        self.curves = Curves(None)
        self.state = self._begin()
        self.watch = LossWatch(device, self.state.loss_sum)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def _begin(self) -> TrainState:
        """The state of the folder's checkpoint, model and optimiser with it, or a fresh one."""
        determinants = {"recipe": self.recipe.to_dict(), "data": self.data.fingerprint, "seed": self.seed, **self.also}
        run = run_signature(self.model, determinants)
        found = self.folder and load_checkpoint(self.folder, self.kept, self.optimiser, run)
        state = found or TrainState(run)
        if state.threads[-1:] != [torch.get_num_threads()]:
            state.threads.append(torch.get_num_threads())
        return state

    def train(self, on_step: OnStep) -> str:
        """Steps until the budget or the early stop; the reason of a failure, or nothing."""
        started = time.perf_counter() - self.state.seconds
        self.model.train()
        while not self._finished():
            self._step()
            failure = self._look()
            self.state.seconds = time.perf_counter() - started
            if failure:
                return failure
            self._keep()
            on_step(self.state.step, self.recipe.steps, self.watch.newest)
        return ""

    def _finished(self) -> bool:
        return self.state.step >= self.recipe.steps or (
            self._at_validation() and should_stop(self.recipe, self.state.validations)
        )

    def _at_validation(self) -> bool:
        step = self.state.step
        return step > 0 and (step % self.recipe.eval_every == 0 or step == self.recipe.steps)

    def _step(self) -> None:
        step = self.state.step
        seed_step(self.seed, step)
        set_rate(self.optimiser, learning_rate(self.recipe, step, self.state.validations))
        batch, truth = training_batch(self.tiles, self.recipe, self.seed, step)
        loss, norm = descend(self.model, self.optimiser, self.loss, self.recipe, batch, truth)
        if self.average is not None:
            self.average.update(self.model)
        self.state.step += 1
        self.watch.add(self.state.step, loss, norm)

    def _look(self) -> str:
        """Read the loss if it is time, validate if it is time; a failure's reason, or nothing."""
        validate = self._at_validation()
        if validate or self.state.step % self.watch.read_every == 0:
            failure = self.watch.failure()
            if failure:
                return failure
            self.curves.loss(self.state.step, self.watch.newest)
        try:
            if validate:
                self._validate()
        except NonFiniteError:
            return f"The logits became non-finite by step {self.state.step}."
        return ""

    def _validate(self) -> None:
        """Add an entry to the history; keep the weights if the recipe selects them so far."""
        state = self.state
        confusion = evaluate(self.scored, self.val, self.data.classes, self.recipe).sum(axis=0)
        self.model.train()
        result = scores(confusion)
        better = self.recipe.select == "last" or result.macro_f1 > max(state.validations, default=-1.0)
        state.history.append(
            {
                "step": state.step,
                "loss": float(self.watch.total) / (state.step - state.last_validation),
                "lr": self.optimiser.param_groups[0]["lr"],
                "macro_f1": result.macro_f1,
                "macro_iou": result.macro_iou,
            }
        )
        self.watch.restart()
        f1 = zip(self.data.classes.names, map(float, result.f1), strict=True)
        self.curves.validation(state.history[-1], {name: value for name, value in f1 if not math.isnan(value)})
        if better:
            state.best_step, state.best_confusion = state.step, confusion.tolist()
            self._keep_best()

    def _keep_best(self) -> None:
        self.best = {name: value.detach().clone() for name, value in self.scored.state_dict().items()}
        if self.folder is not None:
            save_weights(self.scored, best_path(self.folder, self.state.step))

    def _keep(self) -> None:
        """Write a checkpoint where the recipe wants one."""
        every = self.recipe.checkpoint_every
        due = self._at_validation() or (every is not None and self.state.step % every == 0)
        if self.folder is not None and due:
            self.state.loss_sum = float(self.watch.total)
            save_checkpoint(self.folder, self.kept, self.optimiser, self.state)

    def restore_best(self) -> None:
        """Load the best weights into the model; a run that failed before its first validation has none."""
        if self.best:
            self.model.load_state_dict(self.best)
        elif self.state.best_step and self.folder is not None:  # found in an earlier sitting
            load_weights(self.model, best_path(self.folder, self.state.best_step))

    def result(self, reason: str, test: bool) -> TrainResult:
        """The record of the run, with the test if it is asked for."""
        state, best = self.state, self.state.best_confusion
        tested = boundaries = None
        try:
            if test:
                tested, boundaries = self._test()
        except NonFiniteError:
            reason = "The logits of the best weights are not finite on the test tiles."
        self.model.eval().to(memory_format=torch.contiguous_format)
        return TrainResult(
            status="failed" if reason else "ok",
            reason=reason,
            steps=state.step,
            best_step=state.best_step,
            history=state.history,
            val_confusion=None if best is None else np.array(best, dtype=np.int64),
            test_confusions=tested,
            test_boundary_confusions=boundaries,
            seconds=state.seconds,
            threads=state.threads,
            peak_bytes=torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None,
        )

    def _test(self) -> tuple[np.ndarray, np.ndarray]:
        tiles = place_tiles(self.data["test"], self.device, self.data.bands)
        return evaluate_with_boundaries(self.model, tiles, self.data.classes, self.recipe)
