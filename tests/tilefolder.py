"""A small folder of tiles to spoil: five tiles of three classes, as `open_data` and `data check` take it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 16
COUNTS = {"train": 3, "val": 1, "test": 2}
ROWS = [{"index": i, "name": name, "rgb": [0, 0, 80 * i]} for i, name in enumerate(("Sea", "Land", "Road"))]


def image_of(split: str, index: int) -> np.ndarray:
    """Random pixels (16, 16, 3) of a tile."""
    return np.random.default_rng([len(split), index]).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def mask_of(split: str, index: int) -> np.ndarray:
    """Random classes 0 to 2 (16, 16) of a tile."""
    return np.random.default_rng([len(split), index, 1]).integers(0, 3, (SIDE, SIDE), np.uint8)


def write_tiles(
    folder: Path,
    stored: Callable[[np.ndarray], np.ndarray | Image.Image] = lambda mask: mask,
    mask_suffix: str = ".png",
    **table: Any,
) -> Path:
    """Write the folder; `stored` makes of a mask what is saved, `table` are fields of `classes.json`."""
    for split, count in COUNTS.items():
        for index in range(count):
            save(image_of(split, index), folder / split / "images" / f"t{index}.png")
            save(stored(mask_of(split, index)), folder / split / "masks" / f"t{index}{mask_suffix}")
    write_table(folder, **table)
    return folder


def write_table(folder: Path, **table: Any) -> None:
    """Write `classes.json`: three classes, and these fields."""
    (folder / "classes.json").write_text(json.dumps({"dataset": "mine", "classes": ROWS, **table}))


def save(pixels: np.ndarray | Image.Image, path: Path, **options: Any) -> None:
    """Write one picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)


def coded(*values: int) -> list[dict[str, Any]]:
    """Rows of the three classes with these mask values."""
    return [{**row, "value": value} for row, value in zip(ROWS, values, strict=True)]
