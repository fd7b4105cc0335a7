"""A named encoder as the classifier that its paper reports: a config, so that it can be counted and recorded."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from archs.pairs import create_classifier
from archs.registry import register_family


@register_family
@dataclass(frozen=True)
class ClassifierConfig:
    """The encoder called `encoder` with its classification head; see `archs.create_classifier`."""

    family: ClassVar[str] = "classifier"
    encoder: str

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """`(N, in_channels, H, W)` to `(N, num_classes)`.

        Raises:
            ArchError: no such encoder.
        """
        return create_classifier(self.encoder, num_classes, in_channels)
