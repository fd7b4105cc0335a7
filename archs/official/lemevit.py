"""Names in LeMeViT's official checkpoints, and ours for the same tensors."""

import re

import torch

from archs.lemevit import LeMeViTConfig
from archs.official import spelled

# Counters of batches seen: official files hold them, and no network of ours reads them.
DROPPABLE = re.compile(r"\.num_batches_tracked$")
# Our names of what the classifier has and the dense form has not.
ONE_FORM_ONLY = ("head.",)

SPELLING = (  # ours, as a pattern in the name -> the official code's
    (r"^stem\.", "downsample_layers.0."),
    (r"^meta_tokens\.table$", "meta_tokens"),
    (r"^stages\.(\d)\.down\.", r"downsample_layers.\1."),
    (r"^stages\.(\d)\.transition\.", r"meta_token_downsample.\1."),
    (r"\.blocks\.", "."),
    (r"\.position\.", ".pos_embed."),
    (r"\.mlp\.2\.", ".mlp.3."),
    (r"\.attention\.query\.", ".attn.q."),
    (r"\.attention\.key_value\.", ".attn.kv."),
    (r"\.attention\.image_qkv\.", ".attn.qkv1."),
    (r"\.attention\.meta_qkv\.", ".attn.qkv2."),
    (r"\.attention\.image_out\.", ".attn.proj_x."),
    (r"\.attention\.meta_out\.", ".attn.proj_c."),
    (r"\.attention\.out\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"^norm_meta\.", "norm_c."),
)


def official_key_map(config: LeMeViTConfig) -> dict[str, str]:
    """Official name -> our name, of every tensor of both forms; entries that match `DROPPABLE` are left out.

    Ours are names in `LeMeViTClassifier`; those in `LeMeViTEncoder` are the same, without `head.*`.
    """
    with torch.device("meta"):
        ours = config.build_classifier(num_classes=1000, in_channels=3).state_dict()
    return spelled(ours, SPELLING, DROPPABLE)
