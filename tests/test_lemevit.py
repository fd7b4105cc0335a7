"""LeMeViT: every check figure of its specification, and the properties that a wrong wiring breaks.

Golden rows and counts were made with the authors' code; they are facts about the published network.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from golden import assert_golden, golden_fill, golden_input
from hypothesis import given, settings
from hypothesis import strategies as st
from meta_macs import LINEAR_OPERATORS, meta_macs
from torch import nn

from archs.decoders.upernet import UPerNetConfig
from archs.errors import ArchError
from archs.lemevit import VARIANTS, CrossBlock, DualBlock, LeMeViTConfig, SelfBlock
from archs.official.lemevit import DROPPABLE, official_key_map
from archs.segmenter import Segmenter, pair
from bench.counting import count_fvcore

NAMES = ("tiny", "small", "base")
NUMBERED = list(enumerate(NAMES))  # index into the tables below, and name
KEYS = Path(__file__).parent / "data" / "official_keys"
LITTLE = LeMeViTConfig(depths=(1, 2, 1, 1, 2), widths=(32, 32, 64, 32, 64), drop_path=0.0)


def variant(name: str) -> LeMeViTConfig:
    return VARIANTS[f"lemevit-{name}"]


def fresh_on_meta(build, *args) -> nn.Module:
    with torch.device("meta"):
        return build(*args).eval()


on_meta = cache(fresh_on_meta)  # for those who only look


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- parameters -------------------------------------------------------------------------------------------------------

PARTS = {
    "stem": (19_584, 43_200, 43_200),
    "meta_tokens": (1_024, 1_536, 1_536),
    "stages.2.down": (74_112, 166_464, 166_464),
    "stages.3.down": (221_760, 553_920, 664_704),
    "stages.4.down": (553_920, 1_107_072, 1_771_008),
    "stages.0.transition": (33_728, 75_168, 75_168),
    "stages.1.transition": (33_728, 75_168, 75_168),
    "stages.2.transition": (50_304, 112_320, 112_320),
    "stages.3.transition": (165_952, 396_480, 445_824),
    "stages.4.transition": (396_480, 906_112, 1_382_400),
    "stages.0.blocks": (50_624, 112_800, 225_600),
    "stages.1.blocks": (134_528, 300_096, 600_192),
    "stages.2.blocks": (531_200, 1_190_016, 2_380_032),
    "stages.3.blocks": (3_574_272, 7_416_960, 32_009_472),
    "stages.4.blocks": (2_472_320, 3_556_608, 12_630_016),
    "norm": (640, 768, 1_024),
    "norm_meta": (640, 768, 1_024),
}
ONE_BLOCK = (
    (50_624, 67_264, 265_600, 446_784, 1_236_160),
    (112_800, 150_048, 595_008, 1_236_160, 1_778_304),
    (112_800, 150_048, 595_008, 1_778_304, 3_157_504),
)
# Without a head; with 1000 and with 51 classes; what no map depends on.
TOTALS = (
    (8_314_816, 8_635_816, 8_331_187, 580_224),
    (16_015_456, 16_400_456, 16_035_091, 1_341_184),
    (52_585_152, 53_098_152, 52_611_315, 1_867_328),
)
UPERNET_TOTALS = {
    2: (37_050_308, 45_586_532, 83_188_420),
    5: (37_052_618, 45_588_842, 83_190_730),
    6: (37_053_388, 45_589_612, 83_191_500),
    7: (37_054_158, 45_590_382, 83_192_270),
    19: (37_063_398, 45_599_622, 83_201_510),
}


@pytest.mark.parametrize("index,name", NUMBERED)
def test_parameters_by_part(index, name):
    encoder = on_meta(variant(name).build_encoder, 3)
    parts = {part: size_of(encoder.get_submodule(part)) for part in PARTS}
    assert parts == {part: counts[index] for part, counts in PARTS.items()}
    assert sum(parts.values()) == size_of(encoder) == sum(map(size_of, encoder.parts().values()))
    assert tuple(size_of(stage.blocks[-1]) for stage in encoder.stages) == ONE_BLOCK[index]


def unused_parameters(encoder: nn.Module, config: LeMeViTConfig) -> list[str]:
    """Names of the parameters that no map depends on: what only the classifier reads."""
    last_dual = f"stages.2.blocks.{config.depths[2] - 1}.attention.meta_out."
    prefixes = ("stages.3.transition.", "stages.4.transition.", "norm.", "norm_meta.", last_dual)
    return [name for name, _ in encoder.named_parameters() if name.startswith(prefixes)]


@pytest.mark.parametrize("index,name", NUMBERED)
def test_parameter_totals(index, name):
    config = variant(name)
    encoder = on_meta(config.build_encoder, 3)
    unused = [encoder.get_parameter(name).numel() for name in unused_parameters(encoder, config)]
    classifiers = [size_of(on_meta(config.build_classifier, classes, 3)) for classes in (1000, 51)]
    assert (size_of(encoder), *classifiers, sum(unused)) == TOTALS[index]


@pytest.mark.parametrize("classes", UPERNET_TOTALS)
def test_parameters_with_upernet(classes):
    totals = []
    for name in NAMES:
        encoder = on_meta(variant(name).build_encoder, 3)
        decoder = on_meta(UPerNetConfig().build_decoder, encoder.widths, encoder.strides, classes)
        totals.append(size_of(encoder) + size_of(decoder))
    assert tuple(totals) == UPERNET_TOTALS[classes]


def test_input_channels_change_the_first_convolution_only():
    three, five = (on_meta(LITTLE.build_encoder, channels) for channels in (3, 5))
    assert size_of(five) - size_of(three) == 2 * 9 * LITTLE.widths[0] // 2
    assert five.stem[0].in_channels == 5


# --- MACs, on the meta device -----------------------------------------------------------------------------------------

# By convolutions and linears; with the attention products.
CLASSIFIER_MACS = (
    (1_778_948_224, 1_946_107_264),
    (3_736_028_416, 3_956_046_592),
    (11_060_311_040, 11_740_668_928),
)
BACKBONE_MACS = {
    224: ((1_682_683_520, 1_848_728_448), (3_561_056_512, 3_779_698_432), (10_348_864_512, 11_024_634_880)),
    256: ((2_191_892_480, 2_457_182_208), (4_637_704_192, 4_983_734_272), (13_494_976_512, 14_593_884_160)),
    512: ((8_709_767_168, 12_249_759_744), (18_418_794_496, 22_898_311_168), (53_765_210_112, 69_233_803_264)),
    1024: (
        (34_781_265_920, 88_602_574_848),
        (73_543_155_712, 140_987_564_032),
        (214_846_144_512, 453_887_918_080),
    ),
}
UPERNET_MACS = (
    (217_812_402_176, 221_352_394_752),
    (228_068_327_424, 232_547_844_096),
    (263_602_569_216, 279_071_162_368),
)
FVCORE_MACS = (1_791_510_656, 3_753_924_352, 11_100_362_752)
# At 512: image transition, meta transition, blocks of each stage.
STAGE_MACS = (
    (
        (358_612_992, 524_288, 177_864_704),
        (0, 524_288, 1_765_277_696),
        (301_989_888, 786_432, 1_693_450_240),
        (226_492_416, 2_621_440, 6_859_259_904),
        (141_557_760, 6_291_456, 714_506_240),
    ),
    (
        (764_411_904, 1_179_648, 367_951_872),
        (0, 1_179_648, 3_857_055_744),
        (679_477_248, 1_769_472, 3_752_853_504),
        (566_231_040, 6_291_456, 11_593_973_760),
        (283_115_520, 14_417_920, 1_008_402_432),
    ),
    (
        (764_411_904, 1_179_648, 735_903_744),
        (0, 1_179_648, 7_714_111_488),
        (679_477_248, 1_769_472, 7_505_707_008),
        (679_477_248, 7_077_888, 47_174_123_520),
        (452_984_832, 22_020_096, 3_494_379_520),
    ),
)


def both(by_operator: dict[str, int]) -> tuple[int, int]:
    return sum(by_operator.get(operator, 0) for operator in LINEAR_OPERATORS), sum(by_operator.values())


def both_macs(module: nn.Module, side: int) -> tuple[int, int]:
    return both(meta_macs(module, torch.empty(1, 3, side, side, device="meta"))["Global"])


@pytest.mark.parametrize("index,name", NUMBERED)
def test_classifier_macs(index, name):
    assert both_macs(on_meta(variant(name).build_classifier, 1000, 3), 224) == CLASSIFIER_MACS[index]


@pytest.mark.parametrize("side", [224, 256, 1024])
@pytest.mark.parametrize("index,name", NUMBERED)
def test_backbone_macs(index, name, side):
    assert both_macs(on_meta(variant(name).build_encoder, 3), side) == BACKBONE_MACS[side][index]


@pytest.mark.parametrize("index,name", NUMBERED)
def test_macs_at_512_with_upernet_alone_and_by_stage(index, name):
    model = on_meta(pair, variant(name), UPerNetConfig(), 5, 3)
    counts = meta_macs(model, torch.empty(1, 3, 512, 512, device="meta"))
    assert both(counts["Global"]) == UPERNET_MACS[index]
    assert both(counts["Segmenter.encoder"]) == BACKBONE_MACS[512][index]

    def total(path: str) -> int:
        return sum(counts.get(f"Segmenter.encoder.{path}", {}).values())

    downs = ("stem", *(f"stages.{i}.down" for i in range(1, 5)))
    found = [
        (total(down), total(f"stages.{i}.transition"), sum(total(f"stages.{i}.blocks.{j}") for j in range(depth)))
        for i, (down, depth) in enumerate(zip(downs, variant(name).depths, strict=True))
    ]
    assert tuple(found) == STAGE_MACS[index]


@pytest.mark.parametrize("index,name", NUMBERED)
def test_fvcore_macs(index, name):
    classifier = fresh_on_meta(variant(name).build_classifier, 1000, 3).to_empty(device="cpu")
    assert count_fvcore(classifier, (224, 224)).macs == FVCORE_MACS[index]


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height,width", [(224, 224), (256, 256), (512, 512), (37, 83), (9, 64)])
def test_map_shapes(name, height, width):
    encoder = on_meta(replace(variant(name), depths=(1, 1, 1, 1, 1)).build_encoder, 3)
    maps = encoder(torch.empty(2, 3, height, width, device="meta"))
    expected = [
        (2, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(encoder.widths, (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == expected
    assert encoder.strides == (4, 8, 16, 32)


def test_a_map_of_one_position_is_refused():
    encoder = LITTLE.build_encoder(3).eval()
    assert len(encoder(torch.zeros(1, 3, 8, 9))) == 4
    with pytest.raises(ArchError, match="more than 8 pixels"):
        encoder(torch.zeros(1, 3, 8, 8))


# --- golden numbers ---------------------------------------------------------------------------------------------------

BLOCK_ROWS = {
    CrossBlock: (
        (-0.0016502, 0.49773729, 63.681718, -0.40700445, 0.14620259, 0.088415989, -0.2689929),
        (0.067515502, 0.59099183, 32.847227, -0.27735406, 0.94120799, 0.14998641, 0.13126073),
    ),
    DualBlock: (
        (0.0793519, 0.6109785, 82.848573, -0.18666771, 0.2008154, -0.46523004, -0.52223823),
        (0.05999378, 0.58858947, 32.771546, -0.45377547, 0.80050125, -0.10695069, 0.18120867),
    ),
    SelfBlock: (
        (0.063562554, 0.60504188, 81.967738, -0.35376571, 0.085844427, -0.63160614, -0.40741686),
        (0.081203593, 0.60027777, 33.383181, -0.25579187, 0.47011667, 0.40503087, 0.21445661),
    ),
}
TINY_128 = (
    (0.39728199, 1.066363, 357.52681, -1.0905698, -0.39869563, 0.20860991, -2.7898617),
    (0.19912981, 1.4399619, 331.92074, 0.4009339, 1.5625027, 1.7970657, 0.96440299),
    (-0.093382573, 5.3241242, 782.75787, 4.1066042, 6.5726207, -5.9761895, -4.9305248),
    (-0.16499545, 3.9247363, 366.43997, 2.2092566, -8.6511856, -0.86883646, 1.1665109),
)
TINY_96_160 = (
    (0.39951343, 1.0632805, 345.77888, -0.55314604, -0.18622428, 0.4593732, -2.2780062),
    (0.20025299, 1.4336806, 320.03195, 0.22209626, 0.6886133, 2.0124148, 0.85635537),
    (-0.093682725, 5.2713272, 749.15086, 4.5153586, 5.8980326, -5.9237455, -5.6375899),
    (-0.17624646, 3.8367322, 346.76195, 1.6893863, -1.2140444, -1.4518559, 0.44176093),
)
SMALL_128 = (
    (0.08647797, 1.2783468, 486.71448, -0.60345382, 1.3830612, 2.8276259, 0.98019966),
    (-0.20263481, 1.5719805, 442.13691, 2.8699167, -1.4505232, 0.058428552, -1.9387511),
    (-0.13442375, 3.9905103, 750.07811, 0.69443673, -0.12173204, -9.2233146, -2.074856),
    (0.2043939, 3.2966912, 330.17512, 0.40467516, 3.3797078, -0.69625232, -0.60338211),
)
BASE_128 = (
    (0.12485053, 2.7417078, 1081.1174, -0.80012752, 4.4889789, 7.1516152, 0.28309273),
    (-0.48864507, 3.1237252, 913.29155, 6.4100712, -3.0244503, -0.71334003, -0.76674732),
    (-2.5633066, 18.280118, 7643.8015, -0.38183426, 9.9107573, 4.1196029, -29.53318),
    (-1.7936068, 30.363827, 3757.2829, -10.440008, -74.758437, -24.072195, 67.887032),
)
MAP_ROWS = {"tiny": TINY_128, "small": SMALL_128, "base": BASE_128}
CLASSIFIER_ROWS = {
    "tiny": (-0.010466323, 3.4068651, 133.81286, -1.4167354, -7.5549915, -8.9523106, 2.392606),
    "small": (-0.017277572, 2.6769555, 105.52999, 2.6526506, -5.2212197, -2.8035955, 0.17329119),
    "base": (-0.23381174, 23.893511, 943.8365, -16.892027, -23.226166, 28.111826, 43.73041),
}
UPERNET_ROWS = {
    "tiny": (-0.028572968, 0.85843076, 77.000021, 0.13445445, 0.025119497, 0.7194659, -0.7437295),
    "small": (0.14816279, 0.52049861, 46.83125, 0.25559232, -0.12147465, 0.48278609, -0.75217701),
    "base": (-2.8023457, 7.3147909, 767.42768, -0.47586338, 2.9285896, 4.1504686, -9.6242907),
}


def filled(build, *args) -> nn.Module:
    """The module with the golden fill, made without the cost of an initialisation that the fill overwrites."""
    return golden_fill(fresh_on_meta(build, *args).to_empty(device="cpu"), depthwise_gain=0.1)


@pytest.mark.parametrize("attention", ["explicit", "fused"])
@pytest.mark.parametrize("kind", BLOCK_ROWS)
@torch.no_grad()
def test_golden_blocks(kind, attention):
    block = golden_fill(kind(64, 0.0, LeMeViTConfig(attention=attention)), depthwise_gain=0.1)
    x, c = block(golden_input((2, 64, 8, 12)), golden_input((2, 16, 64)))
    assert_golden(x, (2, 64, 8, 12), BLOCK_ROWS[kind][0])
    assert_golden(c, (2, 16, 64), BLOCK_ROWS[kind][1])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_golden_maps_classifier_and_upernet(name):
    """One test, since the fill of a large encoder costs more than its forward pass."""
    config, encoder, x = variant(name), filled(variant(name).build_encoder, 3), golden_input((1, 3, 128, 128))
    maps = encoder(x)
    for row, side, channels, one_map in zip(MAP_ROWS[name], (32, 16, 8, 4), encoder.widths, maps, strict=True):
        assert_golden(one_map, (1, channels, side, side), row)

    classifier = fresh_on_meta(config.build_classifier, 1000, 3)
    head = golden_fill(nn.Linear(config.widths[-1], 1000)).state_dict(prefix="head.")
    classifier.load_state_dict(encoder.state_dict() | head, assign=True)
    assert_golden(classifier(x), (1, 1000), CLASSIFIER_ROWS[name])

    decoder = filled(UPerNetConfig().build_decoder, encoder.widths, encoder.strides, 6)
    assert_golden(decoder(maps), (1, 6, 32, 32), UPERNET_ROWS[name])


@torch.no_grad()
def test_golden_maps_of_a_rectangular_image():
    maps = filled(variant("tiny").build_encoder, 3)(golden_input((1, 3, 96, 160)))
    for row, stride, channels, one_map in zip(TINY_96_160, (4, 8, 16, 32), (64, 128, 192, 320), maps, strict=True):
        assert_golden(one_map, (1, channels, 96 // stride, 160 // stride), row)


# --- properties of the wiring -----------------------------------------------------------------------------------------


def with_grown_weights(module: nn.Module) -> nn.Module:
    """Weights large enough that what flows through any of them shows; the authors' start is nearly all identity."""
    return golden_fill(module).float()


def test_gradients_reach_all_but_the_unused_parameters():
    encoder = with_grown_weights(LITTLE.build_encoder(3)).train()
    sum(x.square().mean() for x in encoder(torch.randn(2, 3, 64, 48))).backward()
    without = {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set(unused_parameters(encoder, LITTLE))


def test_gradients_reach_every_parameter_of_the_classifier():
    classifier = with_grown_weights(LITTLE.build_classifier(10, 3)).train()
    classifier(torch.randn(2, 3, 64, 48)).square().sum().backward()
    assert [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_meta_tokens_reach_every_map_and_last_stages_keep_streams_apart():
    encoder = with_grown_weights(LITTLE.build_encoder(3))
    x = torch.randn(1, 3, 64, 64)
    before = encoder(x)
    encoder.meta_tokens.table.mul_(-1)
    after = encoder(x)
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(before, after, strict=True))
    block = golden_fill(SelfBlock(32, 0.0, LITTLE))
    image, meta = golden_input((1, 32, 4, 4)), golden_input((1, 16, 32))
    assert torch.equal(block(image, meta)[0], block(image, -meta)[0])
    assert torch.equal(block(image, meta)[1], block(-image, meta)[1])


@torch.no_grad()
def test_the_dense_form_gives_the_classifiers_maps():
    classifier = with_grown_weights(LITTLE.build_classifier(10, 3))
    encoder = LITTLE.build_encoder(3).eval()
    missing = encoder.load_state_dict(classifier.state_dict(), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], ["head.weight", "head.bias"])
    x = torch.randn(2, 3, 40, 56)
    expected = [one_map for one_map, _ in classifier.run(x)[1:]]
    assert all(torch.equal(a, b) for a, b in zip(encoder(x), expected, strict=True))


@settings(max_examples=8, deadline=None)
@given(st.integers(9, 70), st.integers(9, 70))
@torch.no_grad()
def test_fused_is_explicit_and_batches_are_independent(height, width):
    explicit = golden_fill(replace(LITTLE, attention="explicit").build_encoder(3))
    fused = LITTLE.build_encoder(3).double().eval()
    fused.load_state_dict(explicit.state_dict())
    x = golden_input((3, 3, height, width))
    for a, b, alone in zip(explicit(x), fused(x), fused(x[1:2]), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
        assert torch.allclose(b[1:2], alone, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_stochastic_depth_acts_in_training_only():
    model = with_grown_weights(replace(LITTLE, drop_path=0.9).build_classifier(4, 3))
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(model(x), model(x))
    for module in model.modules():  # batch statistics would differ too
        module.training = not isinstance(module, nn.BatchNorm2d)
    assert not torch.equal(model(x), model(x))


@torch.no_grad()
def test_half_precision_and_channels_last():
    model: Segmenter = pair(LITTLE, UPerNetConfig(width=16, aux_width=8), 5, 4).eval()
    x = torch.randn(2, 4, 45, 64)
    expected = model(x)
    last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(last, expected, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(model(x).float(), expected, atol=0.05)


# --- configs and official names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"attention": "sparse"}, "explicit, fused"),
        ({"depths": (1, 1, 1, 1)}, "5 numbers"),
        ({"depths": (1, 0, 1, 1, 1)}, "5 numbers"),
        ({"widths": (64, 96, 128, 192, 320)}, "first two"),
        ({"widths": (64, 64, 100, 192, 320)}, "head_width=32"),
        ({"meta_tokens": 0}, "at least 1"),
        ({"drop_path": 1.0}, "drop_path=1.0"),
    ],
)
def test_impossible_configs_are_refused_with_a_sentence(fields, message):
    with pytest.raises(ArchError, match=message):
        LeMeViTConfig(**fields)


@pytest.mark.parametrize("name,backbone", [("tiny", False), ("small", False), ("base", False), ("tiny", True)])
def test_official_names_lead_to_tensors_of_the_official_shape(name, backbone):
    config = variant(name)
    model = on_meta(config.build_encoder, 3) if backbone else on_meta(config.build_classifier, 1000, 3)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    keys = official_key_map(config)
    lines = (KEYS / f"lemevit_{name}{'_backbone' if backbone else ''}.tsv").read_text().splitlines()
    reached = set()
    for line in lines:
        official, shape, _ = line.split("\t")
        if DROPPABLE.search(official):
            continue
        assert "x".join(map(str, ours[keys[official]])) == shape, official
        reached.add(keys[official])
    assert reached == {key for key in ours if not DROPPABLE.search(key)}
