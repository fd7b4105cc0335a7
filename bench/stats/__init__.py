"""How sure a score or a difference of scores is, and what a study may say of it."""

from bench.stats.pooled import macro_f1, macro_iou, pool_groups, scene_interval, scene_values
from bench.stats.verdicts import DELTA, SCENES, THESE_IMAGES, Comparison, Evidence, evidence, verdict

__all__ = [
    "DELTA",
    "SCENES",
    "THESE_IMAGES",
    "Comparison",
    "Evidence",
    "evidence",
    "macro_f1",
    "macro_iou",
    "pool_groups",
    "scene_interval",
    "scene_values",
    "verdict",
]
