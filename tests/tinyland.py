"""A data set of a few small tiles that a very small network learns in seconds, and that network."""

import numpy as np
from torch import nn

from bench.data.classes import Classes
from bench.data.dataset import DataSet, Split, assemble

CLASSES = Classes(("Land", "Water", "Town"), ((0, 100, 0), (0, 0, 255), (139, 69, 19)))
IGNORED = 255
COLOURS = np.array([[60, 130, 70], [40, 70, 150], [150, 110, 100]])


def tinyland(height: int = 16, width: int = 16, train: int = 12, seed: int = 0) -> DataSet:
    """Tiles of bands in three noisy colours, a corner of each ignored: `train` of them, 4 to validate, 4 to test."""
    rng = np.random.default_rng(seed)
    counts = {"train": train, "val": 4, "test": 4}
    return assemble("tinyland", CLASSES, [_split(name, n, height, width, rng) for name, n in counts.items()])


def _split(name: str, count: int, height: int, width: int, rng: np.random.Generator) -> Split:
    rows, columns = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    far = (rows - height / 2) * np.sin(angle) + (columns - width / 2) * np.cos(angle)
    masks = np.digitize(far, [-0.2 * height, 0.2 * height]).astype(np.uint8)
    images = COLOURS[masks] + rng.normal(0, 35, (*masks.shape, 3))
    masks[:, :2, :3] = IGNORED
    images = images.clip(0, 255).astype(np.uint8)
    return Split(name, images, masks, tuple(f"{name}-{i}" for i in range(count)), digest=f"{name}-{masks.sum()}")


def tiny_network(width: int = 8) -> nn.Module:
    """Two convolutions with all that training must handle: batch norm, dropout, a strided weight."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.2), nn.Conv2d(width, 3, 1)
    )


def still_network() -> nn.Module:
    """One that at a learning rate of next to nothing stays as it is: it has no running statistics."""
    return nn.Conv2d(3, 3, 1)
