"""What does each design choice of LALE-S1 bring?

One factor at a time: every variant differs from LALE-S1 in one field of its config, so that its effect is that
field's alone. One pair is the exception: RMSNorm and StarReLU both keep parts of an int8 graph in float, and together
`batchrms`, which folds into the convolutions, and `relu`, which fuses with them, leave none. The published ablation
changed kernel, norm, activation and block structure at once; its two rows stand at the end, each against the LALE of
its own size.
"""

import archs
from bench.study import Variant, VariantStudy

BASE = "lale-s1"
FACTORS: dict[str, dict[str, tuple]] = {
    "norm": {"norm": ("layernorm", "batchnorm", "groupnorm", "batchrms")},
    "activation": {"act": ("gelu", "relu", "silu", "hardswish")},
    "stem": {"stem": ("conv7x7", "patchify")},
    "split point": {"conv_stages": (0, 1, 3, 4)},
    "ConvMixer kernel": {"mixer_kernel": (7,)},
    "ConvMLP kernel": {"mlp_kernel": (7,)},
}
QUANTISES = {"norm": "batchrms", "act": "relu"}
BASELINES = {"lale-b-s1-k7": "lale-s1", "lale-b-s2-k7": "lale-s2"}  # published baseline: what it was compared with


def one_factor_variants() -> list[Variant]:
    """Every value of every factor, each as one changed field of the base."""
    return [
        Variant(f"{field}={value}", archs.config(BASE, **{field: value}), factor)
        for factor, fields in FACTORS.items()
        for field, values in fields.items()
        for value in values
    ]


def whole_int8_variant() -> Variant:
    """Norm and activation of which nothing stays in float."""
    label = ",".join(f"{field}={value}" for field, value in QUANTISES.items())
    return Variant(label, archs.config(BASE, **QUANTISES), "quantises")


def published_baselines() -> list[Variant]:
    """The published ablation's rows, and LALE-S2, which the larger of them is held against."""
    rows = [Variant(name, archs.config(name), "published K7 baseline", base=base) for name, base in BASELINES.items()]
    return [Variant("lale-s2", archs.config("lale-s2"), "scale"), *rows]


STUDY = VariantStudy(
    name="ablation",
    question="What does each design choice of LALE-S1 bring, one at a time?",
    variants=(Variant.named(BASE), *one_factor_variants(), whole_int8_variant(), *published_baselines()),
    base=BASE,
    figures=("ablation", "pareto", "per_class", "panels", "curves"),
)
