"""Names in LWGANet's official checkpoints, and ours for the same tensors."""

import re

from archs.lwganet import LWGANetConfig

# Constant or counting entries that official files hold and no network of ours needs.
DROPPABLE = re.compile(r"\.(max_m2\.filt|num_batches_tracked)$")
# Our names of what one form has and the other has not: output norms of the dense form, head of the classifier.
ONE_FORM_ONLY = ("norms.", "pre_head.", "head.")

_NORM = ("weight", "bias", "running_mean", "running_var")
_WEIGHT = ("weight",)
_BOTH = ("weight", "bias")

# Official module -> (our module, its tensors), for each box of the network.
_STEM = {"Stem.proj": ("trunk.stem.conv", _WEIGHT), "Stem.norm": ("trunk.stem.norm", _NORM)}
_DOWN = {
    "conv": ("expand", _BOTH),
    "conv_c": ("conv", _BOTH),
    "norm_c": ("conv_norm", _NORM),
    "norm_m": ("pool_norm", _NORM),
    "fusion": ("fuse", _BOTH),
}
_BLOCK = {
    "mlp.0": ("mlp.widen", _WEIGHT),
    "mlp.1": ("mlp.norm", _NORM),
    "mlp.3": ("mlp.narrow", _WEIGHT),
    "PA.p_conv.0": ("gpa.widen", _WEIGHT),
    "PA.p_conv.1": ("gpa.norm", _NORM),
    "PA.p_conv.3": ("gpa.narrow", _WEIGHT),
    "LA.conv.0": ("rla.conv", _WEIGHT),
    "LA.conv.1": ("rla.norm", _NORM),
    "MRA.H_att1": ("sma.tall", _WEIGHT),
    "MRA.V_att1": ("sma.wide", _WEIGHT),
    "MRA.H_att2": ("sma.tall_diagonal", _WEIGHT),
    "MRA.V_att2": ("sma.wide_diagonal", _WEIGHT),
    "MRA.norm": ("sma.norm", _NORM),
    "norm1": ("norm", _NORM),
}
_LARGE_KERNELS = {
    "GA12.proj_1": ("sga.inner.enter", _BOTH),
    "GA12.conv0": ("sga.inner.middle", _BOTH),
    "GA12.conv_spatial": ("sga.inner.large", _BOTH),
    "GA12.conv1": ("sga.inner.narrow_middle", _BOTH),
    "GA12.conv2": ("sga.inner.narrow_large", _BOTH),
    "GA12.conv_squeeze": ("sga.inner.select", _BOTH),
    "GA12.conv": ("sga.inner.widen", _BOTH),
    "GA12.proj_2": ("sga.inner.leave", _BOTH),
    "norm": ("sga_norm", _NORM),
}
_SGA = {
    1: _LARGE_KERNELS,
    2: _LARGE_KERNELS,
    3: {
        "GA3.attn.qkv": ("sga.inner.0.qkv", _WEIGHT),
        "GA3.attn.proj": ("sga.inner.0.project", _WEIGHT),
        "GA3.norm": ("sga.inner.1", _NORM),
    },
    4: {
        "GA4.qkv": ("sga.qkv", _WEIGHT),
        "GA4.proj": ("sga.project", _WEIGHT),
        "norm": ("sga_norm", _NORM),
    },
}
_HEAD = {"avgpool_pre_head.1": ("pre_head", _WEIGHT), "head": ("head", _BOTH)}

Boxes = dict[str, tuple[str, tuple[str, ...]]]


def _keys(boxes: Boxes, theirs: str = "", ours: str = "") -> dict[str, str]:
    return {
        f"{theirs}{module}.{tensor}": f"{ours}{own}.{tensor}"
        for module, (own, tensors) in boxes.items()
        for tensor in tensors
    }


def official_key_map(config: LWGANetConfig) -> dict[str, str]:
    """Official name -> our name, of every tensor of both forms; entries that match `DROPPABLE` are left out.

    Ours are names in `LWGANetEncoder` and `LWGANetClassifier`: `trunk.*` in both, `norms.*` in the encoder only
    (official files of the dense form only), `pre_head.*` and `head.*` in the classifier only.
    """
    keys = _keys(_STEM) | _keys(_HEAD)
    for stage, depth in enumerate(config.depths, start=1):
        box = 2 * (stage - 1)  # stages and downsampling alternate in the official list
        for block in range(depth):
            prefixes = f"stages.{box}.blocks.{block}.", f"trunk.stages.{stage - 1}.{block}."
            keys |= _keys(_BLOCK | _SGA[stage], *prefixes)
        keys |= _keys({f"norm{box}": (f"norms.{stage - 1}", _NORM)})
        if stage < 4:
            keys |= _keys(_DOWN, f"stages.{box + 1}.", f"trunk.downs.{stage - 1}.")
    return keys
