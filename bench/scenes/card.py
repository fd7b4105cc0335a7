"""A trained network as a folder to pass on: config, weights in half precision, and a card of what it can do."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import archs
from bench.counting import count_macs, count_params
from bench.errors import BenchError
from bench.records.atomic import write_atomically
from bench.records.fingerprint import is_ours
from bench.training.trained import CONFIG, WEIGHTS, TrainedNetwork, open_trained

CARD = "README.md"
WEAK = 0.3  # F1 of a class under which the card says that the network is not good at it
LOADING = """\
```python
import archs
from safetensors.torch import load_file

network = archs.create("{folder}/config.json", num_classes={classes}, in_channels={bands}).eval()
network.load_state_dict(load_file("{folder}/weights.safetensors"))
logits = network(image)  # (N, {bands}, H, W) of scaled pixels
```

A pixel is scaled as `((x - low) / (high - low) - mean) / deviation`, by the figures of its band in `config.json`.
"""


def publish(
    trained: TrainedNetwork, folder: Path, score: Callable[[TrainedNetwork], Mapping[str, Any]], licence: str = ""
) -> Path:
    """Copy a network into `folder`, weights in float16 (what was a float becomes one, counters stay), with a card.

    Args:
        trained: the network.
        folder: nothing is written there before the network is scored.
        score: of what is passed on, as `bench.scenes.evaluation` gives it.
        licence: of the weights, as their maker names it.

    Returns:
        The path of the card.

    Raises:
        BenchError: it has no weights, the folder holds another network, or it cannot be scored.
    """
    from safetensors.torch import load_file, save

    if trained.weights.suffix != ".safetensors":
        raise BenchError(f"{trained.name} holds no weights that could be passed on: give the folder of its training")
    halved = {
        name: value.half() if value.is_floating_point() else value for name, value in load_file(trained.weights).items()
    }
    files = {WEIGHTS: save(halved), CONFIG: trained.path.read_bytes()}
    there = {name: folder / name for name in files if (folder / name).exists()}
    if any(path.read_bytes() != files[name] for name, path in there.items()):
        raise BenchError(f"{folder} holds another network, which would be lost: give a folder of its own")
    with TemporaryDirectory() as aside:
        draft = Path(aside) / folder.name
        for name, content in files.items():
            write_atomically(draft / name, content)
        passed_on = open_trained(str(draft))
        card = _card(passed_on, score(passed_on), folder.name, licence)
    for name, content in {**files, CARD: card.encode()}.items():
        write_atomically(folder / name, content)
    return folder / CARD


def _card(trained: TrainedNetwork, scores: Mapping[str, Any], name: str, licence: str) -> str:
    """The card of a network from its scores."""
    about = json.loads(trained.path.read_text(encoding="utf-8"))
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{_kind(trained)}, trained on {trained.trained_on or 'a data set that its config does not name'}"
            f"{_training(about)}. Weights: float16, {trained.weights.stat().st_size / 2**20:.1f} MiB.",
            "",
            *_costs(trained),
            "",
            *_scores(scores),
            "",
            *_weaknesses(scores),
            "",
            f"{about['credit']}." if about.get("credit") else "The config names no credit line for the training data.",
            f"Licence of the weights: {licence or 'not named'}; the data keep theirs.",
            "",
            *_needs(trained),
            LOADING.format(folder=name, classes=len(trained.names), bands=len(trained.bands)),
        ]
    )


def _needs(trained: TrainedNetwork) -> list[str]:
    """A network of the user's own is built by the user's code, which a card cannot hold."""
    if is_ours(trained.config):
        return []
    family = archs.family_of(trained.config)
    return [f"Needs the Python file that registers the family {family}, which is not part of LALE-Bench.", ""]


def _kind(trained: TrainedNetwork) -> str:
    """The registered name of the network, or its family."""
    same = [name for name in archs.names() if archs.entry(name).config == trained.config]
    return f"`{same[0]}`" if same else f"a network of the family {archs.family_of(trained.config)}"


def _training(about: Mapping[str, Any]) -> str:
    recipe = about.get("recipe")
    return f" ({recipe['steps']} steps of {recipe['batch']} tiles, seed {about['seed']})" if recipe else ""


def _costs(trained: TrainedNetwork) -> list[str]:
    size, bands = trained.tile_size or (256, 256), len(trained.bands)
    model = trained.build()
    with torch.inference_mode():
        deployed = archs.deploy(trained.build(), size, bands)
    return [
        f"| at {size[0]}x{size[1]} px | trained | deployed |",
        "| --- | ---: | ---: |",
        f"| parameters | {count_params(model).total:,} | {count_params(deployed).total:,} |",
        f"| MACs | {count_macs(model, size, bands).total:,} | {count_macs(deployed, size, bands).total:,} |",
    ]


def _scores(scores: Mapping[str, Any]) -> list[str]:
    interval = scores["macro_f1_interval"]
    bounds = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    unit = "scenes" if scores["scenes_known"] else "tiles, whose scenes are not known"
    rows = [f"| {name} | {'absent' if f1 is None else f'{100 * f1:.1f}'} |" for name, f1 in scores["f1"].items()]
    return [
        f"On the {scores['split']} tiles of {scores['data']} ({scores['scenes']} {unit}), one training: macro F1 "
        f"{100 * scores['macro_f1']:.1f} %{bounds}, macro IoU {100 * scores['macro_iou']:.1f} %, macro F1 near "
        f"boundaries {100 * scores['boundary_f1']:.1f} %, expected calibration error "
        f"{100 * scores['calibration_error']:.1f} %.",
        "",
        "| class | F1, % |",
        "| --- | ---: |",
        *rows,
    ]


def _weaknesses(scores: Mapping[str, Any]) -> list[str]:
    weak = [name for name, f1 in scores["f1"].items() if f1 is not None and f1 < WEAK]
    classes = f"Not good at (F1 under {100 * WEAK:.0f} %): {', '.join(weak)}." if weak else "No class is under 30 % F1."
    return [classes, "A score belongs to its data set and pixel size; it says nothing of other land."]
