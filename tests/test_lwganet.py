"""LWGANet against every figure of the published network, and the properties that a wrong wiring would break."""

from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden_fill, golden_input
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from archs.errors import ArchError
from archs.layers import pad_to_multiple, reflect_pad
from archs.lwga import GPA, RLA, SMA, TGFI, BlurPool, make_sga, shear, unshear
from archs.lwganet import DRFD, MINIMUM_SIDE, VARIANTS, LWGABlock, LWGANetConfig
from archs.official.lwganet import DROPPABLE, official_key_map

L0, L1, L2 = VARIANTS
PARTS = ("stem", "stage1", "down1", "stage2", "down2", "stage3", "down3", "stage4")
SMALL = LWGANetConfig(stem_width=8, depths=(1, 1, 1, 1), drop_path=0.2)
KEYS = Path(__file__).parent / "data" / "official_keys"


def params(module):
    return sum(parameter.numel() for parameter in module.parameters())


def pure_macs(model, size):
    """MACs by module of convolutions, linears and matrix products, by PyTorch's own counter on the meta device."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, 3, size, size))
    return {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}


def on_meta(name, form, *args):
    with torch.device("meta"):
        return getattr(VARIANTS[name], f"build_{form}")(*args)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return SMALL.build_encoder(3)


# Counts


@pytest.mark.parametrize(
    ("name", "by_part", "trunk", "dense"),
    [
        (L0, (1_600, 7_606, 9_792, 51_660, 35_968, 369_920, 137_472, 718_080), 1_332_098, 1_333_058),
        (L1, (3_200, 25_830, 35_968, 189_452, 137_472, 1_436_160, 537_088, 2_828_800), 5_193_970, 5_195_890),
        (L2, (4_800, 54_870, 78_528, 827_544, 304_512, 3_198_720, 1_198_848, 6_332_160), 11_999_982, 12_002_862),
    ],
)
def test_parameters_by_part(name, by_part, trunk, dense):
    encoder = on_meta(name, "encoder", 3)
    parts = encoder.parts()
    assert [params(parts[part]) for part in PARTS] == list(by_part)
    assert params(encoder.trunk) == trunk
    assert params(encoder) == dense == sum(params(part) for part in parts.values())


@pytest.mark.parametrize(
    ("name", "pre_head", "by_classes"),
    [
        (L0, 327_680, {1000: 2_940_778, 45: 1_717_423, 30: 1_698_208, 21: 1_686_679}),
        (L1, 655_360, {1000: 7_130_330, 45: 5_906_975, 30: 5_887_760, 21: 5_876_231}),
        (L2, 983_040, {1000: 14_264_022, 45: 13_040_667, 30: 13_021_452, 21: 13_009_923}),
    ],
)
def test_parameters_of_the_classifier(name, pre_head, by_classes):
    for num_classes, expected in by_classes.items():
        classifier = on_meta(name, "classifier", num_classes, 3)
        assert params(classifier.pre_head) == pre_head
        assert params(classifier) == expected == sum(params(part) for part in classifier.parts().values())


@pytest.mark.parametrize(("stage", "expected"), [(1, 7_606), (2, 25_830), (3, 92_480), (4, 359_040)])
def test_parameters_of_a_block(stage, expected):
    assert params(LWGABlock(VARIANTS[L0], stage, 0.0)) == expected


@pytest.mark.parametrize(
    ("name", "total", "expected"),
    [
        (
            L0,
            181_807_840,
            (4_816_896, 17_658_432, 8_680_448, 34_069_920, 7_551_488, 67_088_128, 6_987_008, 34_955_520),
        ),
        (
            L1,
            700_417_376,
            (9_633_792, 68_028_480, 30_205_952, 133_793_568, 27_948_032, 265_838_080, 26_819_072, 138_150_400),
        ),
        (
            L2,
            1_855_306_880,
            (14_450_688, 151_263_808, 64_576_512, 598_495_552, 61_189_632, 596_249_856, 59_496_192, 309_584_640),
        ),
    ],
)
def test_macs_by_part(name, total, expected):
    encoder = on_meta(name, "encoder", 3)
    modules = {module: path for path, module in encoder.named_modules()}
    counts = pure_macs(encoder, 224)
    found = [counts[f"LWGANetEncoder.{modules[encoder.parts()[part]]}"] for part in PARTS]
    assert found == list(expected)
    assert counts["Global"] == sum(expected) == total


@pytest.mark.parametrize(
    ("name", "by_size"),
    [
        (L0, {256: 237_944_672, 512: 976_396_288, 1024: 4_307_448_672}),
        (L1, {256: 915_793_600, 512: 3_712_409_600, 1024: 15_653_365_440}),
        (L2, {256: 2_424_517_664, 512: 9_772_062_848, 1024: 40_292_339_744}),
    ],
)
def test_macs_of_the_encoder(name, by_size):
    encoder = on_meta(name, "encoder", 3)
    assert {size: pure_macs(encoder, size)["Global"] for size in by_size} == by_size


@pytest.mark.parametrize(
    ("name", "by_classes"),
    [
        (L0, {1000: 183_415_520, 45: 182_193_120}),
        (L1, {1000: 702_352_736}),
        (L2, {1000: 1_857_569_920}),
    ],
)
def test_macs_of_the_classifier(name, by_classes):
    for num_classes, expected in by_classes.items():
        assert pure_macs(on_meta(name, "classifier", num_classes, 3), 224)["Global"] == expected


@pytest.mark.parametrize(("size", "sides"), [(224, (56, 28, 14, 7)), (256, (64, 32, 16, 8)), (512, (128, 64, 32, 16))])
def test_stage_shapes(size, sides):
    encoder = on_meta(L0, "encoder", 3)
    maps = encoder(torch.empty(2, 3, size, size, device="meta"))
    assert encoder.widths == (32, 64, 128, 256)
    assert [tuple(x.shape) for x in maps] == [
        (2, width, side, side) for width, side in zip(encoder.widths, sides, strict=True)
    ]


# Golden numbers


@pytest.mark.parametrize(
    ("part", "shape", "out", "figures"),
    [
        (
            lambda: BlurPool(4),
            (1, 4, 16, 16),
            (1, 4, 6, 6),
            (-0.0061102934, 0.13938366, 2.1037099, -0.12044482, -0.09708822, 0.3014809, 0.27853141),
        ),
        (
            lambda: BlurPool(4),
            (1, 4, 7, 7),
            (1, 4, 3, 3),
            (0.027119055, 0.16854475, 1.3212275, 0.29790755, 0.35636949, 0.21012005, 0.22577474),
        ),
        (
            lambda: GPA(8, "gelu"),
            (2, 8, 16, 16),
            (2, 8, 16, 16),
            (0.0023091747, 0.24735951, 18.411197, -0.1897567, 0.16145386, -0.085609272, -0.13391832),
        ),
        (
            lambda: RLA(8, "gelu"),
            (2, 8, 16, 16),
            (2, 8, 16, 16),
            (0.066166906, 0.17684118, 16.534374, -0.15582031, -0.075962145, -0.08496695, 0.11365009),
        ),
        (
            lambda: SMA(8, 11),
            (2, 8, 16, 16),
            (2, 8, 16, 16),
            (0.0012022444, 0.23316126, 20.294061, -0.29622482, 0.12322432, -0.12443784, -0.073268215),
        ),
        (
            lambda: make_sga(1, 8, "gelu", 4, "explicit"),
            (2, 8, 16, 16),
            (2, 8, 16, 16),
            (0.0025754104, 0.013576625, 2.1043805, 0, 0, 0, 0),
        ),
        (
            lambda: make_sga(3, 32, "gelu", 4, "explicit"),
            (2, 32, 16, 16),
            (2, 32, 16, 16),
            (0.0037847914, 0.10504378, 30.932757, 0, 0, 0, 0),
        ),
        (
            lambda: make_sga(4, 64, "gelu", 4, "explicit"),
            (2, 64, 7, 7),
            (2, 64, 7, 7),
            (0.00084623985, 0.038416844, 3.8451188, -0.014129507, -0.072856047, -0.015093963, 0.012204141),
        ),
        (
            lambda: DRFD(32, "gelu"),
            (2, 32, 16, 16),
            (2, 64, 8, 8),
            (0.037331695, 0.33766608, 38.743068, 0.39401631, 0.58712597, 0.30422263, 0.25283199),
        ),
        (
            lambda: LWGABlock(VARIANTS[L0], 1, 0.0),
            (2, 32, 12, 12),
            (2, 32, 12, 12),
            (-0.0071593547, 0.52489299, 59.591931, -0.29281567, 0.79976384, 0.54391411, 0.65894556),
        ),
        (
            lambda: LWGABlock(VARIANTS[L0], 2, 0.0),
            (2, 64, 12, 12),
            (2, 64, 12, 12),
            (0.01002311, 0.5230021, 83.665477, -0.2185932, 0.30923955, -0.23663757, -0.94410071),
        ),
        (
            lambda: LWGABlock(VARIANTS[L0], 3, 0.0),
            (2, 128, 12, 12),
            (2, 128, 12, 12),
            (0.0011882966, 0.52784951, 119.71738, -0.32025013, -0.10547636, 0.99152285, -0.86593474),
        ),
        (
            lambda: LWGABlock(VARIANTS[L0], 4, 0.0),
            (2, 256, 7, 7),
            (2, 256, 7, 7),
            (-0.0023462223, 0.52785162, 98.576179, -0.41110677, -0.53699177, 0.3608831, 0.62063295),
        ),
    ],
    ids=[
        "blur",
        "blur7",
        "gpa",
        "rla",
        "sma",
        "sga12",
        "sga3",
        "sga4",
        "drfd",
        "block1",
        "block2",
        "block3",
        "block4",
    ],
)
def test_golden_boxes(part, shape, out, figures):
    assert_golden(golden_fill(part())(golden_input(shape)), out, figures)


GOLDEN_MAPS = {
    L0: (
        (-0.026547159, 0.44407364, 105.23245, 0.052687182, -0.50260711, 1.1032412, -0.074788333),
        (0.086174046, 0.48303652, 77.432938, 0.39769521, 0.40602376, 0.26758651, 1.0621723),
        (0.031243564, 0.70877536, 82.430318, 0.37049137, 0.53195759, 0.24133416, -0.47556407),
        (-0.048312303, 0.56546751, 46.406432, -0.17730325, -0.59676143, -0.62002135, 0.093791114),
    ),
    L1: (
        (0.022437152, 0.44785623, 148.70177, -0.13432969, -0.04582882, 1.2485571, -1.4145937),
        (0.051308816, 0.48128034, 110.47457, 0.75245784, -0.35519755, 0.020645994, -0.19145082),
        (-0.071888803, 0.8032827, 132.61908, -0.19129069, -0.74852604, -1.1349782, 0.12817223),
        (0.031747715, 0.60130755, 70.12584, -0.15247184, 0.43583959, 0.21519362, -0.20515563),
    ),
    L2: (
        (0.014900128, 0.47010471, 191.24203, 0.053026411, 0.4730373, 0.22112118, -0.22952856),
        (0.0275184, 1.5118651, 443.18883, -1.4459145, -0.30653, 0.60542549, 0.16871665),
        (-0.0027041901, 3.3605676, 686.29689, 1.2351503, 1.3023113, -4.4006451, 2.9860061),
        (-0.39233619, 3.3434527, 486.34695, -1.5787755, -1.606315, 0.36354322, 1.5255745),
    ),
}
GOLDEN_LOGITS = {
    L0: (0.0051249456, 0.18685804, 7.3828022, -0.040646872, 0.48075173, -0.012138177, 0.038571),
    L1: (-0.003815501, 0.20146406, 7.9911034, 0.068457594, 0.089749263, 0.15154894, 0.056001692),
    L2: (-0.01458389, 1.3954435, 55.591747, -1.8130237, 0.1921239, 2.3853699, -2.2877371),
}


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_golden_maps(name):
    encoder = golden_fill(VARIANTS[name].build_encoder(3))
    maps = encoder(golden_input((1, 3, 128, 128)))
    for i, (found, figures) in enumerate(zip(maps, GOLDEN_MAPS[name], strict=True)):
        assert_golden(found, (1, encoder.widths[i], 32 >> i, 32 >> i), figures)


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_golden_classifier(name):
    classifier = golden_fill(VARIANTS[name].build_classifier(1000, 3))
    assert_golden(classifier(golden_input((1, 3, 128, 128))), (1, 1000), GOLDEN_LOGITS[name])


# Any height and width


@given(h=st.integers(1, 9), w=st.integers(1, 9))
def test_shear_moves_row_i_right_by_i(h, w):
    x = torch.rand(2, 3, h, w)
    sheared = shear(x)
    assert sheared.shape == (2, 3, h, w + h - 1)
    for i in range(h):
        assert torch.equal(sheared[:, :, i, i : i + w], x[:, :, i])
    assert torch.isclose(sheared.sum(), x.sum())  # nothing but zeros elsewhere
    assert torch.equal(unshear(sheared), x)


@given(h=st.integers(1, 11), w=st.integers(1, 11))
def test_reflection_is_pytorchs_where_defined_and_keeps_constants(h, w):
    x = torch.rand(1, 2, h, w)
    padded = reflect_pad(x, 1, 2, 1, 2)
    assert torch.equal(padded[..., 1 : 1 + h, 1 : 1 + w], x)
    assert torch.equal(reflect_pad(torch.ones_like(x), 1, 2, 1, 2), torch.ones(1, 2, h + 3, w + 3))
    if min(h, w) > 2:
        assert torch.equal(padded, F.pad(x, (1, 2, 1, 2), mode="reflect"))
    assert all(side % 8 == 0 for side in pad_to_multiple(x, 8).shape[-2:])


@given(h=st.integers(2, 9), w=st.integers(2, 9))
def test_maxima_return_to_where_they_came_from(h, w):
    x = torch.rand(2, 3, h, w)
    top, positions = F.max_pool2d(x, 2, return_indices=True)
    found = TGFI(nn.Identity())(x)
    assert torch.equal(found, F.max_unpool2d(top, positions, 2, output_size=(h, w)))
    kept = found != 0
    assert torch.equal(found[kept], x[kept])


def test_medium_range_gate_follows_a_transposed_map():
    """Rows and columns play equal parts: swapping strips and transposing the map transposes the result."""
    torch.manual_seed(0)
    sma, swapped = SMA(4, 11).eval(), SMA(4, 11).eval()
    for tall, wide in (("tall", "wide"), ("tall_diagonal", "wide_diagonal")):
        swapped.get_submodule(tall).weight.data = sma.get_submodule(wide).weight.data.mT.clone()
        swapped.get_submodule(wide).weight.data = sma.get_submodule(tall).weight.data.mT.clone()
    x = torch.randn(1, 4, 20, 37)
    torch.testing.assert_close(swapped(x.mT), sma(x).mT)


@settings(max_examples=12, deadline=None)
@given(h=st.integers(MINIMUM_SIDE, 70), w=st.integers(MINIMUM_SIDE, 70))
def test_sides_are_rounded_up(h, w):
    maps = cached_small()(torch.rand(1, 3, h, w))
    for x, stride in zip(maps, (4, 8, 16, 32), strict=True):
        assert tuple(x.shape[-2:]) == (-(-h // stride), -(-w // stride))
        assert x.isfinite().all()


@cache
def cached_small():
    torch.manual_seed(0)
    return SMALL.build_encoder(3).eval()


def test_every_pixel_of_an_odd_image_counts(small):
    x = torch.randn(1, 3, 97, 131, requires_grad=True)
    small.eval()(x)[0].square().sum().backward()
    assert (x.grad != 0).any(dim=1).all()


def test_too_small_an_image_gets_a_sentence(small):
    with pytest.raises(ArchError, match=r"16x64 pixels.*at least 17"):
        small(torch.rand(2, 3, 16, 64))


# Behaviour


@pytest.mark.parametrize("size", [(96, 160), (97, 131)])
def test_a_gradient_in_every_parameter(small, size):
    maps = small.train()(torch.randn(2, 3, *size))
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    silent = [name for name, p in small.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_a_gradient_in_every_parameter_of_the_classifier():
    classifier = SMALL.build_classifier(5, 3)
    classifier(torch.randn(2, 3, 128, 128)).square().sum().backward()
    silent = [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@torch.no_grad()
def test_evaluation_repeats_and_images_do_not_meet():
    encoder = golden_fill(SMALL.build_encoder(3))
    x = golden_input((3, 3, 64, 96))
    together = encoder(x)
    for again in (encoder(x), [torch.cat(maps) for maps in zip(*[encoder(one[None]) for one in x], strict=True)]):
        for a, b in zip(together, again, strict=True):
            torch.testing.assert_close(a, b)


@torch.no_grad()
def test_stages_continue_from_the_map_before_its_norm():
    encoder = golden_fill(SMALL.build_encoder(3))
    x = golden_input((1, 3, 64, 64))
    before = encoder(x)
    encoder.norms[0].weight.mul_(3)
    after = encoder(x)
    assert not torch.equal(before[0], after[0])
    assert all(torch.equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))


@torch.no_grad()
@pytest.mark.parametrize("path", ["gpa.narrow", "rla.conv", "sma.tall_diagonal", "sga.inner.leave"])
def test_every_path_reaches_the_output(path):
    block = golden_fill(LWGABlock(VARIANTS[L0], 1, 0.0))
    x = golden_input((1, 32, 16, 16))
    before = block(x)
    block.get_submodule(path).weight.mul_(-1)
    assert not torch.allclose(before, block(x))


@torch.no_grad()
def test_fused_attention_is_the_same_function():
    for stage in (3, 4):
        explicit = golden_fill(make_sga(stage, 16, "gelu", 4, "explicit"))
        fused = make_sga(stage, 16, "gelu", 4, "fused").double().eval()
        fused.load_state_dict(explicit.state_dict())
        x = golden_input((2, 16, 6, 9))
        torch.testing.assert_close(explicit(x), fused(x))


@torch.no_grad()
def test_half_precision_and_channels_last_agree():
    encoder = golden_fill(SMALL.build_encoder(4)).float()
    x = golden_input((2, 4, 65, 96)).float()
    plain = encoder(x)
    last = encoder.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder(x)
    for a, b, c in zip(plain, last, half, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert (a - c).norm() < 0.05 * a.norm()


def test_a_tile_above_96_trains_alone_and_a_smaller_one_does_not(small):
    small.train()(torch.randn(1, 3, 64, 97))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        small(torch.randn(1, 3, 96, 96))


def test_drop_path_rises_over_the_blocks():
    encoder = on_meta(L2, "encoder", 3)
    rates = [block.drop_path.rate for stage in encoder.trunk.stages for block in stage]
    assert rates == pytest.approx([0.1 * i / 10 for i in range(11)])


def test_initialisation():
    encoder = VARIANTS[L0].build_encoder(3)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is None or not module.bias.any()
            assert module.weight.numel() < 2000 or module.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depths", (1, 2, 4)),
        ("depths", (1, 0, 4, 2)),
        ("act", "tanh"),
        ("attention", "flash"),
        ("stem_width", 20),
        ("head_width", 3),
        ("sma_kernel", 10),
        ("mlp_ratio", 0),
        ("drop_path", 1.0),
    ],
)
def test_impossible_fields_get_a_sentence(field, value):
    with pytest.raises(ArchError, match=f"{field}.* is not possible|head_width"):
        LWGANetConfig(**{field: value})


# Official checkpoints


def official_tensors(file):
    rows = [line.split("\t") for line in (KEYS / file).read_text().splitlines()]
    return {name: tuple(map(int, shape.split("x"))) for name, shape, _ in rows if not DROPPABLE.search(name)}


@pytest.mark.parametrize(
    ("name", "file", "form"),
    [
        (L0, "lwganet_l0.tsv", ("classifier", 1000, 3)),
        (L1, "lwganet_l1.tsv", ("classifier", 1000, 3)),
        (L2, "lwganet_l2.tsv", ("classifier", 1000, 3)),
        (L0, "lwganet_l0_backbone.tsv", ("encoder", 3)),
    ],
)
def test_official_names_cover_every_tensor(name, file, form):
    key_map = official_key_map(VARIANTS[name])
    state = on_meta(name, *form).state_dict()
    ours = {key: tuple(tensor.shape) for key, tensor in state.items() if not DROPPABLE.search(key)}
    assert {key_map[key]: shape for key, shape in official_tensors(file).items()} == ours


def test_official_names_are_one_to_one():
    key_map = official_key_map(VARIANTS[L2])
    assert len(set(key_map.values())) == len(key_map)
