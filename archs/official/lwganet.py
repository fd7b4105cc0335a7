"""Names in LWGANet's official checkpoints, and ours for the same tensors."""

import re

import torch

from archs.lwganet import LWGANetConfig
from archs.official import spelled

# Constant or counting entries that official files hold and no network of ours needs.
DROPPABLE = re.compile(r"\.(max_m2\.filt|num_batches_tracked)$")
# Our names of what one form has and the other has not: output norms of the dense form, head of the classifier.
ONE_FORM_ONLY = ("norms.", "pre_head.", "head.")

SPELLING = (  # ours, as a pattern in the name -> the official code's
    (r"^trunk\.stem\.conv\.", "Stem.proj."),
    (r"^trunk\.stem\.", "Stem."),
    (r"^pre_head\.", "avgpool_pre_head.1."),
    # Stages and downsampling alternate in the official list.
    *((rf"^norms\.{i}\.", f"norm{2 * i}.") for i in range(4)),
    *((rf"^trunk\.stages\.{i}\.(\d+)\.", rf"stages.{2 * i}.blocks.\1.") for i in range(4)),
    *((rf"^trunk\.downs\.{i}\.", f"stages.{2 * i + 1}.") for i in range(3)),
    # Downsampling
    (r"^(stages\.\d)\.conv\.", r"\1.conv_c."),
    (r"^(stages\.\d)\.expand\.", r"\1.conv."),
    (r"\.conv_norm\.", ".norm_c."),
    (r"\.pool_norm\.", ".norm_m."),
    (r"\.fuse\.", ".fusion."),
    # Blocks
    (r"(blocks\.\d+)\.norm\.", r"\1.norm1."),
    (r"\.sga_norm\.", ".norm."),
    (r"\.mlp\.widen\.", ".mlp.0."),
    (r"\.mlp\.norm\.", ".mlp.1."),
    (r"\.mlp\.narrow\.", ".mlp.3."),
    (r"\.gpa\.widen\.", ".PA.p_conv.0."),
    (r"\.gpa\.norm\.", ".PA.p_conv.1."),
    (r"\.gpa\.narrow\.", ".PA.p_conv.3."),
    (r"\.rla\.conv\.", ".LA.conv.0."),
    (r"\.rla\.norm\.", ".LA.conv.1."),
    (r"\.sma\.tall\.", ".MRA.H_att1."),
    (r"\.sma\.wide\.", ".MRA.V_att1."),
    (r"\.sma\.tall_diagonal\.", ".MRA.H_att2."),
    (r"\.sma\.wide_diagonal\.", ".MRA.V_att2."),
    (r"\.sma\.", ".MRA."),
    # Attention: large kernels in stages 1 and 2, pooled in stage 3, plain in stage 4
    (r"\.sga\.inner\.enter\.", ".GA12.proj_1."),
    (r"\.sga\.inner\.middle\.", ".GA12.conv0."),
    (r"\.sga\.inner\.large\.", ".GA12.conv_spatial."),
    (r"\.sga\.inner\.narrow_middle\.", ".GA12.conv1."),
    (r"\.sga\.inner\.narrow_large\.", ".GA12.conv2."),
    (r"\.sga\.inner\.select\.", ".GA12.conv_squeeze."),
    (r"\.sga\.inner\.widen\.", ".GA12.conv."),
    (r"\.sga\.inner\.leave\.", ".GA12.proj_2."),
    (r"\.sga\.inner\.0\.", ".GA3.attn."),
    (r"\.sga\.inner\.1\.", ".GA3.norm."),
    (r"\.sga\.", ".GA4."),
    (r"\.project\.", ".proj."),
)


def official_key_map(config: LWGANetConfig) -> dict[str, str]:
    """Official name -> our name, of every tensor of both forms; entries that match `DROPPABLE` are left out.

    Ours are names in `LWGANetEncoder` and `LWGANetClassifier`: `trunk.*` in both, `norms.*` in the encoder only
    (official files of the dense form only), `pre_head.*` and `head.*` in the classifier only.
    """
    with torch.device("meta"):
        ours = config.build_encoder(3).state_dict() | config.build_classifier(1000, 3).state_dict()
    return spelled(ours, SPELLING, DROPPABLE)
