"""Where a training's time goes: seconds a step by what is computed, forward and backward apart."""

from collections import defaultdict
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from archs import ArchConfig
from bench.data import DataSet
from bench.training.evaluate import evaluate
from bench.training.loop import descend, initial_network, make_loss, training_batch
from bench.training.metrics import boundary_confusion
from bench.training.recipe import Recipe
from bench.training.tiles import place_tiles

STEPS = 5
BATCH, VALIDATION, BANDS = "batch and augmentation", "validation", "boundary bands of the test"
LOSS, OTHER = "loss", "sums, copies and the rest"
KINDS = (  # the first whose word is in an operator's name, from the innermost outwards
    ("norm", ("RMSNorm", "batch_norm", "layer_norm", "group_norm", "NativeBatchNorm", "NativeLayerNorm")),
    ("activation", ("StarReLU", "relu", "threshold", "clamp_min", "gelu", "silu", "Relu", "Gelu", "Silu")),
    ("resizing", ("upsample", "Upsample")),
    ("matrix products", ("bmm", "addmm", "aten::mm", "baddbmm")),
    ("gradient clipping", ("vector_norm", "_foreach_norm", "clip_grad")),
    ("optimiser", ("Optimizer.", "adamw")),
)


def profile_training(config: ArchConfig, data: DataSet, recipe: Recipe) -> dict[str, float]:
    """Seconds a step of a training on this CPU with the threads of this process, by part, the largest first.

    A validation counts by its share of the steps between two of them; the test's boundary bands, which are drawn once,
    by their share of all steps. Times are the profiler's, which itself takes some.
    """
    model = initial_network(config, data.classes.num_classes, data.in_channels, recipe, 0)
    model.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, fused=True)
    loss = make_loss(recipe, data.classes.ignore_index)
    train, val = (place_tiles(data[split], torch.device("cpu"), data.bands) for split in ("train", "val"))
    masks = torch.from_numpy(data["test"].masks[:])

    def measured_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        with record_function(LOSS):
            return loss(logits, truth)

    def step(number: int) -> None:
        with record_function(BATCH):
            batch = training_batch(train, recipe, 0, number)
        descend(model, optimiser, measured_loss, recipe, *batch)

    step(0)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for number in range(STEPS):
            step(number + 1)
        with record_function(VALIDATION):
            evaluate(model, val, data.classes, recipe)
        with record_function(BANDS):
            boundary_confusion(masks, masks, data.classes.num_classes, data.classes.ignore_index)
    return _seconds(profiler.events(), {VALIDATION: recipe.eval_every, BANDS: recipe.steps})


def _seconds(events: Any, steps: dict[str, int]) -> dict[str, float]:
    """Each operator's own time under the part that it belongs to, over the steps that such a part serves."""
    found: dict[str, float] = defaultdict(float)
    for event in events:
        part = _part(event)
        found[part] += event.self_cpu_time_total * 1e-6 / steps.get(part, STEPS)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _part(event: Any) -> str:
    chain = [event]
    while chain[-1].cpu_parent is not None:
        chain.append(chain[-1].cpu_parent)
    if (outermost := chain[-1].name) in (BATCH, LOSS, VALIDATION, BANDS):
        return outermost
    backward = any(link.name.startswith("autograd::") for link in chain)
    kind = next((kind for link in chain if (kind := _kind(link))), OTHER)
    return f"{kind}, backward" if backward else kind


def _kind(event: Any) -> str:
    if "convolution" in event.name and event.input_shapes:
        weight = event.input_shapes[2 if "backward" in event.name else 1]
        return "depthwise convolution" if len(weight) == 4 and weight[1] == 1 else "convolution"
    return next((kind for kind, words in KINDS if any(word in event.name for word in words)), "")
