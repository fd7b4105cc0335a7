"""`train`: one network, one recipe, one seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    DEFAULT_DATA,
    OUTPUT,
    PROGRESS,
    BudgetOption,
    DataOption,
    DeviceOption,
    FoldOption,
    JsonOption,
    LogOption,
    RecipeOption,
    SetOption,
    parse_fold,
    parse_settings,
    print_json,
    recipe_from,
    writable_folder,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from archs import ArchConfig
    from bench.data import DataSet
    from bench.training.recipe import Recipe

RUNS = Path("runs/train")


def train(
    name: Annotated[str, typer.Argument(help="An architecture's name, or the path of a saved config.")],
    data: DataOption = DEFAULT_DATA,
    budget: BudgetOption = "quick",
    fold: FoldOption = None,
    seed: Annotated[int, typer.Option(help="Of weights, tile order and augmentation.")] = 0,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of weights, config and checkpoints; one a run in `runs/train` by default.",
            callback=writable_folder,
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Start from these weights: ours, smp's, or an official checkpoint.")
    ] = None,
    settings: SetOption = None,
    recipe_settings: RecipeOption = None,
    log: LogOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the shares of a step's time, train nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train one network and score it on the test tiles.

    Writes `weights.safetensors` (best by validation), `config.json` and checkpoints; killed, the same command goes on.
    Without `--out` each run has a folder of its own, called after network, data, budget and seed.
    """
    import archs
    from bench.data.folds import open_fold
    from bench.engine.display import Display
    from bench.records.environment import resolve_device
    from bench.records.fingerprint import network_fingerprint
    from bench.training.checkpoint import save_weights
    from bench.training.curves import CURVES, require_tracker
    from bench.training.loop import initial_network
    from bench.training.metrics import scores
    from bench.training.trained import describe_training
    from bench.training.trainer import train as train_model
    from bench.training.weights import start_from, weights_digest

    if log is not None:
        require_tracker(log)
    config = archs.config(name, **parse_settings(settings))
    recipe = recipe_from(budget, recipe_settings)
    tiles = open_fold(data, parse_fold(fold))
    tiles.require_scorable()
    if "image_size" not in parse_settings(settings):
        config = archs.fit_image_size(config, tiles.tile_size)  # as in a study
    if profile:
        return _profile(config, tiles, recipe, as_json)
    model = initial_network(config, tiles.classes.num_classes, tiles.in_channels, recipe, seed)
    also = {"network": network_fingerprint(config, tiles.classes.num_classes, tiles.in_channels)}
    if weights is not None:
        PROGRESS.print(start_from(model, weights), markup=False, highlight=False)
        also["start"] = weights_digest(weights)
    out = out or RUNS / run_name(
        [name, tiles.name, budget, str(seed)],
        [settings, recipe_settings, fold, also.get("start"), data != tiles.name and tiles.fingerprint],
    )
    _refuse_other_network(out)
    out.mkdir(parents=True, exist_ok=True)
    with Display(1, console=PROGRESS, what="trainings") as display:
        display.begin(name, name)
        result = train_model(
            model,
            tiles,
            recipe,
            seed=seed,
            device=resolve_device(device),
            folder=out / "checkpoints",
            also=also,
            curves=out / CURVES if log else None,
            on_step=lambda step, total, loss: display.step(name, step, total, f"loss {loss:.3f}"),
        )
    if result.status == "failed":
        raise BenchError(f"the training of {name} failed: {result.reason}")
    save_weights(model, out / "weights.safetensors")
    archs.save_config(config, out / "config.json", **describe_training(tiles))
    assert result.test_confusions is not None, "it did not fail"
    found = scores(result.test_confusions.sum(axis=0))
    report: dict[str, Any] = {
        "name": name,
        "folder": str(out),
        "data": tiles.name,
        "fold": fold,
        "steps": result.steps,
        "best_step": result.best_step,
        "test_macro_f1": found.macro_f1,
        "test_macro_iou": found.macro_iou,
        "test_f1_by_class": {
            label: None if isnan(value) else float(value)  # a class in neither truth nor prediction has no F1
            for label, value in zip(tiles.classes.names, found.f1, strict=True)
        },
    }
    if as_json:
        return print_json(report)
    OUTPUT.print(f"test: macro F1 {found.macro_f1:.3f}, macro IoU {found.macro_iou:.3f} (best step {result.best_step})")
    for label, value in report["test_f1_by_class"].items():
        OUTPUT.print(f"  {label}: {'absent' if value is None else f'{value:.3f}'}", highlight=False)
    if log:
        OUTPUT.print(f"[dim]training curves: tensorboard --logdir {out / CURVES}[/]")
    return OUTPUT.print(f"[dim]weights and config: {out}[/]")


def run_name(words: Sequence[str], others: Sequence[Any]) -> str:
    """The folder of a run: words that people know it by, and a digest of whatever else was asked for, if anything."""
    name = re.sub(r"[^\w.+-]+", "_", "-".join(words)).strip("_.")
    if not any(others):
        return name
    return f"{name}-{hashlib.sha256(json.dumps(others).encode()).hexdigest()[:4]}"


def _refuse_other_network(out: Path) -> None:
    """A folder without checkpoints holds the network of another training, or of nobody's."""
    held = [name for name in ("weights.safetensors", "config.json") if (out / name).exists()]
    if held and not (out / "checkpoints").is_dir():
        raise BenchError(f"{out} holds {held[0]} of another network: give another --out")


def _profile(config: ArchConfig, tiles: DataSet, recipe: Recipe, as_json: bool) -> None:
    from rich.table import Column, Table

    from bench.training.profile import profile_training

    seconds = profile_training(config, tiles, recipe)
    if as_json:
        return print_json(seconds)
    table = Table("part", Column("ms a step", justify="right"), Column("share", justify="right"), box=None)
    for part, value in seconds.items():
        table.add_row(part, f"{1e3 * value:.1f}", f"{value / sum(seconds.values()):.1%}")
    return OUTPUT.print(table)
