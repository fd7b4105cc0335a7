"""How sure a score or a difference of scores is, over training seeds and test images."""

from bench.stats.compare import Comparison, class_differences, compare, holm, verdict
from bench.stats.interval import Interval, f1_interval
from bench.stats.pooled import macro_f1, macro_iou, pool_groups

__all__ = [
    "Comparison",
    "Interval",
    "class_differences",
    "compare",
    "f1_interval",
    "holm",
    "macro_f1",
    "macro_iou",
    "pool_groups",
    "verdict",
]
