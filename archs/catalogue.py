"""Every entry of the registry: name, config, provenance, input rule, check figures.

The check figures are those of the published rows and of exact counts made when the reconstruction was fitted.
"""

from archs import dpt, lemevit, lemore, lwganet, smp_models, timm_models
from archs.decoders.lemore import LeMoReDecoderConfig
from archs.decoders.mlp import MLPDecoderConfig
from archs.decoders.unetformer import UNetFormerConfig
from archs.decoders.upernet import UPerNetConfig
from archs.dpt import DPTConfig
from archs.lale import LALEConfig
from archs.pairs import register_decoder, register_encoder, register_pair
from archs.registry import Check, InputRule, Provenance, register, register_family
from archs.segmenter import DecoderConfig, PairConfig
from archs.smp_models import SMPConfig, input_rule
from archs.timm_models import TimmConfig

LALE_PAPER = Provenance(
    paper="LALE (Çağlar and Temizel), arXiv 2606.02092",
    year=2026,
    source="https://arxiv.org/abs/2606.02092",
    licence="MIT (this implementation; the authors' code is not public)",
    reconstruction=True,
    note="reconstructed from the abstract, the project page's tables and a fit to every published figure",
)
EFFICIENTFORMER = "EfficientFormer (Li et al.), arXiv 2206.01191"

# name: blocks a stage, parameters, plain MACs, MACs by the papers' rule, MiB by the papers' rule.
LALE_CHECKS = {
    "lale-s1": (1, 1_567_109, 576_323_584, 585_498_624, 5.979),
    "lale-s2": (2, 2_612_333, 766_509_056, 775_684_096, 9.966),
    "lale-s3": (3, 3_657_557, 956_694_528, 965_869_568, 13.953),
    "lale-s4": (4, 4_702_781, 1_146_880_000, 1_156_055_040, 17.941),
}
# name: blocks a stage, parameters, plain MACs, MACs by the papers' rule.
K7_CHECKS = {
    "lale-b-s1-k7": (1, 1_614_023, 651_296_768, 666_451_968),
    "lale-b-s2-k7": (2, 2_705_671, 916_455_424, 935_051_264),
}
# name: config, what limited the search, its and the final study's folder under results/dubai, parameters, plain MACs.
FOUND_CHECKS = {
    "lale-nano": (
        LALEConfig(
            widths=(16, 32, 64, 64),
            depths=(1, 1, 4, 2),
            mixer_expansion=5,
            mlp_expansion=1,
            fusion="sum",
        ),
        "the parameters and deployed MACs of LALE-S1",
        ("search", "winners"),
        255_277,
        132_620_288,
    ),
    "lale-fast": (
        LALEConfig(
            widths=(32, 32, 64, 64),
            depths=(1, 4, 1, 2),
            conv_stages=3,
            mixer_expansion=1,
            head_width=16,
            decoder_width=48,
            fusion="sum",
        ),
        "11.2 million activations",
        ("search-activations", "winners-fast"),
        206_237,
        81_707_008,
    ),
}
# decoder: paper, year, parameters, MiB by the papers' rule, GMACs by the papers' rule, plain MACs.
SMP_CHECKS = {
    "upernet": ("UPerNet (Xiao et al.), arXiv 1807.10221", 2018, 11_614_563, 44.490, 13.617, 13_563_021_824),
    "unet": ("U-Net (Ronneberger et al.), arXiv 1505.04597", 2015, 6_252_339, 24.019, 3.047, 3_014_445_568),
    "unetplusplus": ("UNet++ (Zhou et al.), arXiv 1807.10165", 2018, 6_570_451, 25.235, 5.616, 5_574_281_728),
    "fpn": ("Panoptic FPN (Kirillov et al.), arXiv 1901.02446", 2019, 5_760_259, 22.134, 2.508, 2_471_807_488),
    "segformer": ("SegFormer (Xie et al.), arXiv 2105.15203", 2021, 4_473_987, 17.230, 2.053, 2_007_812_608),
    "deeplabv3plus": ("DeepLabV3+ (Chen et al.), arXiv 1802.02611", 2018, 4_909_011, 18.903, 1.455, 1_419_936_256),
    "pan": ("PAN (Li et al.), arXiv 1805.10180", 2018, 4_100_394, 15.805, 0.979, 950_736_296),
    "deeplabv3": ("DeepLabV3 (Chen et al.), arXiv 1706.05587", 2017, 7_306_115, 28.045, 6.441, 6_375_051_776),
    "linknet": ("LinkNet (Chaurasia and Culurciello), arXiv 1707.03718", 2017, 4_167_367, 16.062, 0.581, 553_044_480),
}
# variant: parameters of the segmentation network with 7 classes, its plain MACs at 512x512.
LWGANET_CHECKS = {
    "lwganet-l0": (1_850_848, 3_146_949_120),
    "lwganet-l1": (5_744_400, 5_945_876_992),
    "lwganet-l2": (12_582_092, 12_068_444_800),
}
# variant: parameters of the segmentation network with 5 classes (auxiliary head included), its plain MACs at 512x512.
LEMEVIT_CHECKS = {
    "lemevit-tiny": (37_052_618, 221_352_394_752),
    "lemevit-small": (45_588_842, 232_547_844_096),
    "lemevit-base": (83_190_730, 279_071_162_368),
}
# timm's encoder: paper, year, tied to 224x224, parameters, MiB and GMACs at 224x224 by the papers' rule.
DPT_CHECKS = {
    "deit3_base_patch16_224": ("DeiT III (Touvron et al.), arXiv 2204.07118", 2022, True, 117_075_695, 446.642, 39.889),
    "maxvit_tiny_tf_224": ("MaxViT (Tu et al.), arXiv 2204.01697", 2022, True, 60_800_695, 232.258, 33.132),
    "efficientformer_l7": (EFFICIENTFORMER, 2022, True, 100_323_415, 383.225, 32.159),
    "efficientformer_l3": (EFFICIENTFORMER, 2022, True, 49_131_447, 187.751, 25.846),
    "efficientformer_l1": (EFFICIENTFORMER, 2022, True, 29_831_055, 113.970, 23.171),
    "fastvit_mci0": ("MobileCLIP (Vasu et al.), arXiv 2311.17049", 2023, False, 29_066_887, 111.109, 23.751),
    "fastvit_sa12": ("FastViT (Vasu et al.), arXiv 2303.14189", 2023, False, 29_240_879, 111.714, 23.401),
}
# A few light backbones of timm under LALE's decoder, as examples of the systematic names: paper, year.
TIMM_EXAMPLES = {
    "convnext_atto": ("ConvNeXt (Liu et al.), arXiv 2201.03545", 2022),
    "mobilenetv4_conv_small": ("MobileNetV4 (Qin et al.), arXiv 2404.10518", 2024),
    "repvit_m0_9": ("RepViT (Wang et al.), arXiv 2307.09283", 2023),
    "starnet_s1": ("StarNet (Ma et al.), arXiv 2403.19967", 2024),
}
LWGANET_PAPER = Provenance(
    paper="LWGANet (Lu et al.), arXiv 2501.10040",
    year=2025,
    source="https://github.com/AeroVILab-AHU/LWGANet",
    licence="MIT (this implementation)",
)
DECODERS: dict[str, DecoderConfig] = {
    "mlp": MLPDecoderConfig(),
    "unetformer": UNetFormerConfig(),
    "upernet": UPerNetConfig(),
    "lemore": LeMoReDecoderConfig(),
}


def _register_lale() -> None:
    for name, (scale, params, macs, rule_macs, mib) in LALE_CHECKS.items():
        checks = (
            Check("params", params, "fitted count"),
            Check("macs", macs, "fitted count"),
            Check("fvcore_macs", rule_macs, "fitted count, the papers' rule"),
            Check("paper_mib", mib, "fitted count, the papers' rule", tolerance=0.0005),
        )
        config = LALEConfig(depths=(scale,) * 4)
        register(name, config, LALE_PAPER, checks=checks)
        register_encoder(name, config, LALE_PAPER)


def _register_k7_baselines() -> None:
    for name, (scale, params, macs, rule_macs) in K7_CHECKS.items():
        config = LALEConfig(
            depths=(scale,) * 4,
            norm="layernorm",
            act="gelu",
            decoder_act="gelu",
            mixer_kernel=7,
            mixer_mlp=True,
        )
        checks = (
            Check("params", params, "reading B2 of the published row"),
            Check("macs", macs, "reading B2 of the published row"),
            Check("fvcore_macs", rule_macs, "reading B2, the papers' rule"),
        )
        register(name, config, LALE_PAPER, checks=checks)


def _register_found() -> None:
    for name, (config, limit, (search, final), params, macs) in FOUND_CHECKS.items():
        checks = (Check("params", params, "counted when found"), Check("macs", macs, "counted when found"))
        provenance = Provenance(
            paper=f"none: found by `lale-bench search` on dubai, within {limit}",
            year=2026,
            source=f"results/dubai/{search}, trained anew on new seeds in results/dubai/{final}",
            licence="MIT (this implementation)",
            note="LALE's blocks; not a network of the papers",
        )
        register(name, config, provenance, checks=checks)
        register_encoder(name, config, provenance)


def _register_smp() -> None:
    for decoder, (paper, year, params, mib, rule_gmacs, macs) in SMP_CHECKS.items():
        checks = (
            Check("params", params, "LALE paper's row, rebuilt"),
            Check("macs", macs, "LALE paper's row, rebuilt"),
            Check("fvcore_macs", rule_gmacs * 1e9, "LALE paper's row", tolerance=5e5),
            Check("paper_mib", mib, "LALE paper's row", tolerance=0.0005),
        )
        note = "decoder defaults, encoder efficientnet-b0"
        provenance = Provenance(paper, year, smp_models.LIBRARY, "MIT", note=note)
        name, rule = f"smp/{decoder}-efficientnet_b0", input_rule(decoder)
        register(name, SMPConfig(decoder=decoder), provenance, rule, checks)


def _register_dpt() -> None:
    for encoder, (paper, year, tied, params, mib, rule_gmacs) in DPT_CHECKS.items():
        checks = (
            Check("params", params, "LALE paper's row, rebuilt"),
            Check("fvcore_macs", rule_gmacs * 1e9, "LALE paper's row", size=(224, 224), tolerance=5e5),
            Check("paper_mib", mib, "LALE paper's row", tolerance=0.0005),
        )
        rule = InputRule(fixed=(224, 224), note=timm_models.TIED) if tied else InputRule(note=timm_models.PADDED)
        provenance = Provenance(paper, year, smp_models.LIBRARY, "MIT and Apache-2.0 (code)", note=dpt.NOTE)
        register(f"{dpt.PREFIX}{encoder}", DPTConfig(encoder), provenance, rule, checks)


def _register_timm() -> None:
    for backbone, (paper, year) in TIMM_EXAMPLES.items():
        name = f"{timm_models.PREFIX}{backbone}"
        provenance = Provenance(paper, year, timm_models.LIBRARY, "Apache-2.0 (code)")
        register_encoder(name, TimmConfig(backbone), provenance, InputRule(note=timm_models.PADDED))
        register_pair(name, "mlp")


def _register_lwganet() -> None:
    rule = InputRule(minimum=lwganet.MINIMUM_SIDE, min_train_batch=2, note="batch 1 trains from sides of 97")
    for variant, config in lwganet.VARIANTS.items():
        register_encoder(variant, config, LWGANET_PAPER, rule)
        params, macs = LWGANET_CHECKS[variant]
        checks = (
            Check("params", params, "public code, counted"),
            Check("macs", macs, "public code, counted", size=(512, 512)),
        )
        register_pair(variant, "unetformer", variant, checks)
        register_pair(variant, "mlp")


def _register_lemevit() -> None:
    for variant, config in lemevit.VARIANTS.items():
        register_encoder(variant, config, lemevit.PROVENANCE, InputRule(minimum=lemevit.MINIMUM_SIDE))
        params, macs = LEMEVIT_CHECKS[variant]
        checks = (
            Check("params", params, "public code, counted", num_classes=5),
            Check("macs", macs, "public code, counted", size=(512, 512), num_classes=5),
        )
        register_pair(variant, "upernet", variant, checks)
        register_pair(variant, "mlp")


def _register_lemore() -> None:
    register_encoder("lemore", lemore.LeMoReConfig(), lemore.PROVENANCE)
    checks = (
        Check("params", 1_589_606, "reconstruction A", num_classes=150),
        Check("macs", 752_305_000, "reconstruction A", size=(512, 512), num_classes=150, tolerance=500),
    )
    register_pair("lemore", "lemore", "lemore", checks)
    register_pair("lemore", "mlp")


def register_all() -> None:
    """Fill the registry; called once, when `archs` is imported."""
    for config_class in (SMPConfig, DPTConfig, TimmConfig, PairConfig):
        register_family(config_class)
    for name, decoder in DECODERS.items():
        register_decoder(name, decoder)
    _register_lale()
    _register_k7_baselines()
    _register_found()
    _register_smp()
    _register_dpt()
    _register_timm()
    _register_lwganet()
    _register_lemevit()
    _register_lemore()
