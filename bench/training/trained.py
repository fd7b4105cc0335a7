"""A trained network as files: config, weights, classes, and how its pixels are scaled.

A folder that `lale-bench train` wrote, a member of a search's front, or `NAME@DATA`, weights that come with the suite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

import archs
from archs import ArchConfig
from bench.data import DataSet
from bench.data.bands import RGB, Band, scaled
from bench.errors import BenchError

CONFIG, WEIGHTS = "config.json", "weights.safetensors"


@dataclass(frozen=True)
class TrainedNetwork:
    """What is needed to run a network on new land.

    Attributes:
        name: of the folder or file, or NAME@DATA.
        path: of its saved config; of the weights where there is none.
        config: of the network.
        weights: safetensors file.
        names, colours: of the classes.
        bands: of the images, with what scales them.
        trained_on: name of the data set.
        tile_size: (height, width) of the tiles that it was trained and tested on; None if the file does not say.
    """

    name: str
    path: Path
    config: ArchConfig
    weights: Path
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    bands: tuple[Band, ...]
    trained_on: str
    tile_size: tuple[int, int] | None = None

    @classmethod
    def of(cls, name: str, config: ArchConfig, data: DataSet, weights: Path) -> TrainedNetwork:
        """What a training on `data` left: its weights alone, without a saved config."""
        classes = data.classes
        about = (classes.names, classes.colours, data.bands, data.name, data.tile_size)
        return cls(name, weights, config, weights, *about)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' file."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    def build(self) -> nn.Module:
        """The network with its weights, in evaluation mode.

        Raises:
            BenchError: the weights are of another network.
        """
        from bench.training.checkpoint import load_weights

        model = archs.build(self.config, len(self.names), len(self.bands))
        load_weights(model, self.weights)
        return model.eval()

    def scaled(self, pixels: Shaped[np.ndarray, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """What the network takes, in float32, of pixels in the numbers of the file."""
        return torch.from_numpy(scaled(pixels, self.bands))


def describe_training(data: DataSet) -> dict[str, Any]:
    """What `config.json` remembers of the data set that a network was trained on; `open_trained` reads it."""
    rows = zip(data.classes.names, data.classes.colours, strict=True)
    return {
        "trained_on": data.name,
        "num_classes": data.classes.num_classes,
        "classes": [{"name": name, "rgb": list(colour)} for name, colour in rows],
        "tile_size": list(data.tile_size),
        "bands": [band.to_dict() for band in data.bands],
        "credit": data.credit,
    }


def open_trained(network: str) -> TrainedNetwork:
    """The trained network that a user names.

    Args:
        network: a folder with `config.json` and `weights.safetensors`, the path of a saved config with weights of the
            same name beside it, or `NAME@DATA`.

    Raises:
        BenchError: there is none, or what is there is incomplete.
    """
    path = _config_path(network)
    config = archs.load_config(path)
    meta = json.loads(path.read_text(encoding="utf-8"))
    weights = weights_beside(path)
    if weights is None:
        raise BenchError(f"{network} has no weights beside its config: train it, or give the folder of its training")
    try:
        fields = described(meta)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BenchError(
            f"{path} describes its training otherwise than `train` does ({type(error).__name__}: {error}): put it back "
            "as it was written, or train again"
        ) from None
    return TrainedNetwork(
        name=network if "@" in network else path.parent.name if path.name == CONFIG else path.stem,
        path=path,
        config=config,
        weights=weights,
        **fields,
    )


def described(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `TrainedNetwork` that `describe_training` wrote down.

    Raises:
        KeyError, TypeError, ValueError: they are others.
    """
    classes = meta.get("classes") or _unnamed(int(meta.get("num_classes", 7)))
    return {
        "names": tuple(str(row["name"]) for row in classes),
        "colours": tuple((int(r), int(g), int(b)) for r, g, b in (row["rgb"] for row in classes)),
        "bands": tuple(Band(**band) for band in meta["bands"]) if "bands" in meta else RGB,
        "trained_on": str(meta.get("trained_on", "")),
        "tile_size": _pair(meta.get("tile_size")),
    }


def find_trained(network: str) -> TrainedNetwork | None:
    """The trained network, where a name or path means one; None for an architecture's name or a config without weights.

    Raises:
        BenchError: it means one, which is not there or incomplete.
    """
    path = Path(network)
    saved = path.suffix == ".json" and path.is_file() and weights_beside(path) is not None
    return open_trained(network) if saved or "@" in network or (path / CONFIG).is_file() else None


def committed() -> dict[str, Path]:
    """The networks whose weights come with the suite, as NAME@DATA: the folder of each."""
    root = Path(archs.__file__).parent / "weights"
    return {folder.name: folder for folder in sorted(root.glob("*@*")) if (folder / CONFIG).is_file()}


def weights_beside(config: Path) -> Path | None:
    """The weights that lie beside a saved config: of the same name, or `weights.safetensors` beside `config.json`."""
    beside = [config.with_suffix(".safetensors")]
    beside += [config.with_name(WEIGHTS)] if config.name == CONFIG else []
    return next((file for file in beside if file.is_file()), None)


def saved_config(network: str) -> Path | None:
    """The file of a saved config: of a folder or of NAME@DATA, or named itself; None for an architecture's name."""
    path = committed().get(network, Path(network))
    if (path / CONFIG).is_file():
        return path / CONFIG
    return path if path.suffix == ".json" else None


def _config_path(network: str) -> Path:
    path, known = saved_config(network), committed()
    if path is not None and path.is_file():
        return path
    at_hand = f" or one of {', '.join(known)}" if known else ""
    raise BenchError(
        f"{network} is no trained network: give a folder that `lale-bench train` wrote, a member of a search's front "
        f"(front/NAME.json), an ONNX file that `export` wrote{at_hand}"
    )


def _unnamed(count: int) -> Sequence[dict[str, Any]]:
    """Classes of a config that does not name them: numbers, in evenly spread greys."""
    return [{"name": f"class {k}", "rgb": [round(255 * k / max(1, count - 1))] * 3} for k in range(count)]


def _pair(sides: Any) -> tuple[int, int] | None:
    return (int(sides[0]), int(sides[1])) if sides else None
