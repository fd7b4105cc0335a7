"""Do networks that a search found hold against the published ones, on seeds that the search has not seen?

Add the found ones: `lale-bench study winners --add runs/NAME/front/VARIANT.json --seeds 5,6,7,8,9`. Trained by the same
recipe on the same tiles as LALE-S1, LALE-S2 and the cheapest CNN of the field, and compared with LALE-S1, paired by
seed and test tile.
"""

from bench.study import Variant, VariantStudy

STUDY = VariantStudy(
    name="winners",
    question="Do the networks found hold against the published ones, on new seeds?",
    variants=tuple(Variant.named(name) for name in ("lale-s1", "lale-s2", "smp/linknet-efficientnet_b0")),
    base="lale-s1",
    figures=("pareto", "per_class", "panels"),
)
