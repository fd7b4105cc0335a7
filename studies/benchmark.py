"""How do all registered networks compare, in counts, storage, speed and accuracy, under one protocol?

Every variant is counted by every counter at one input size, timed interleaved with the others on one device, and
trained by one recipe over the same seeds, each seed giving all variants the same order of tiles and augmentations.
Accuracy is macro F1 over all test pixels pooled. LALE-S1 is what the others are compared with.
"""

import archs
from bench.study import Variant, VariantStudy

STUDY = VariantStudy(
    name="benchmark",
    question="How do all registered networks compare under one protocol?",
    variants=tuple(Variant.named(name) for name in archs.names()),
    base="lale-s1",
    figures=("pareto", "per_class", "confusion", "panels", "curves"),
)
