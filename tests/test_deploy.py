"""The deployed form: the same function in double precision, of every registered network, and less of it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from representatives import every_network
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import archs
from archs import deploy
from archs.deployment import fold
from archs.deployment.kernels import FastRMSNorm, FastStarReLU
from archs.deployment.linear import FoldedMLPDecoder, FoldedSegformerDecoder
from archs.lale import LALEConfig
from archs.layers import ACTIVATIONS, NORMS, RMSNorm, StarReLU
from bench.counting import count_fvcore, count_macs, count_params

# Networks tied to 224x224 that can be built for less.
SMALLER = {"smp/dpt-deit3_base_patch16_224": (64, 64), "smp/dpt-maxvit_tiny_tf_224": (64, 64)}
# Norms that must stay: read by a padded convolution (UNetFormer), or behind a mixing of positions (LeMoRe's views).
STAY = {
    **dict.fromkeys(("lwganet-l0", "lwganet-l1", "lwganet-l2"), 3),
    **dict.fromkeys(("lemore", "lemore+mlp"), 8),
}


@torch.no_grad()
def unsettle(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every vector (norms' weights and statistics, biases, layer scales) values of its own; double, eval."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.double().eval().modules():
        for parameter in module.parameters(recurse=False):
            if parameter.numel() == max(parameter.shape, default=1):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        if isinstance(module, _BatchNorm):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return model


def image(size: tuple[int, int], batch: int = 1, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def difference(a: nn.Module, b: nn.Module, x: Tensor) -> float:
    """The largest difference of two networks' outputs, as a share of the largest output."""
    expected = a(x)
    return ((expected - b(x)).abs().max() / expected.abs().max()).item()


def batch_norms(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


# --- every registered network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", every_network())
def test_same_function_with_no_norm_left_that_could_go(name: str):
    rule = archs.entry(name).inputs
    size = SMALLER.get(name) or rule.fixed or ((128, 128) if rule.minimum > 64 else (64, 64))
    model = unsettle(archs.create(name, **{"image_size": size} if name in SMALLER else {}))
    deployed = deploy(model)
    assert difference(model, deployed, image(size)) < 1e-12
    assert len(batch_norms(deployed)) == STAY.get(name, 0)
    assert count_params(deployed).total < count_params(model).total
    assert count_params(deployed).trainable == 0
    assert not deployed.training
    assert list(deployed.parts()) == list(model.parts())


@pytest.mark.parametrize("name", ["lemore", "lwganet-l0", "lemevit-tiny+mlp", "smp/segformer-efficientnet_b0"])
def test_same_function_of_images_that_fit_nothing_and_given_model_untouched(name: str):
    model = unsettle(archs.create(name, num_classes=3, in_channels=4))
    before = copy.deepcopy(model.state_dict())
    deployed = deploy(model)
    assert difference(model, deployed, image((75, 50), batch=2, channels=4)) < 1e-12
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


# --- LALE -------------------------------------------------------------------------------------------------------------


S1_ATTENTION = 2 * (256 * 256 * 128 + 64 * 64 * 256)  # both products, stages 3 and 4, at 256x256


def test_exact_figures_of_the_folded_s1():
    folded = fold(archs.create("lale-s1"))
    assert count_params(folded).total == 1_501_189
    assert sum(layer.weight.numel() for layer in folded.decoder.project) == 61_440
    assert count_macs(folded, (256, 256)).total == 307_888_128
    assert count_fvcore(folded, (256, 256)).macs == 316_014_592


def test_exact_figures_of_the_deployed_s1():
    model = archs.create("lale-s1")
    deployed = deploy(model)
    norms = 32 + 64 + 2 * 128 + 2 * 256  # those of the blocks that stand in front of a pointwise convolution
    activations = 2 * 5  # of the four blocks and the decoder
    assert count_params(deployed).total == 1_501_189 - norms - activations
    count = count_macs(deployed, (256, 256))
    assert count.total == 307_888_128
    assert count.by_operator["scaled_dot_product_attention"] == S1_ATTENTION
    assert count_fvcore(deployed, (256, 256)).macs == 316_014_592 - S1_ATTENTION  # fvcore does not see it
    assert (count_macs(model, (256, 256)).launches, count.launches) == (155, 119)


@given(
    norm=st.sampled_from(list(NORMS)),
    act=st.sampled_from(list(ACTIVATIONS)),
    decoder_norm=st.sampled_from(list(NORMS)),
    decoder_act=st.sampled_from(list(ACTIVATIONS)),
    fusion=st.sampled_from(["concat", "sum"]),
    stem=st.sampled_from(["conv3x3", "conv7x7", "patchify"]),
    attention=st.sampled_from(["explicit", "fused"]),
    conv_stages=st.integers(0, 4),
    mixer_mlp=st.booleans(),
    height=st.integers(33, 70),
    width=st.integers(33, 70),
)
@settings(max_examples=15, deadline=None)
def test_any_lale_stays_the_same_function(height: int, width: int, **fields):
    small = {"widths": (8, 16, 16, 24), "stem_width": 4, "head_width": 8, "decoder_width": 12}
    model = unsettle(LALEConfig(**small, **fields).build(5, 3))
    deployed = deploy(model)
    assert difference(model, deployed, image((height, width))) < 1e-12
    assert batch_norms(deployed) == []
    assert not [m for m in deployed.modules() if type(m) in (RMSNorm, StarReLU)]


@pytest.mark.parametrize("act", ["relu", "hardswish"])
def test_a_norm_that_folds_leaves_nothing_that_would_cut_an_int8_graph(act: str):
    """Beside convolutions and attention only the activation and the residual sums are left of the encoder."""
    deployed = deploy(archs.create("lale-s1", norm="batchrms", act=act).eval())
    assert set(count_macs(deployed.encoder, (64, 64)).elementwise) == {act, "add"}


def test_both_forms_of_the_fast_norm():
    norm = unsettle(RMSNorm(6))
    x = image((5, 7), batch=2, channels=6)
    for fast in (FastRMSNorm(6, norm.eps, norm.weight).double(), FastRMSNorm(6, norm.eps, None).double()):
        expected = norm(x) if fast.weight is not None else norm(x) / norm.weight[:, None, None]
        assert torch.allclose(fast._fused(x, fast.weight), expected, rtol=1e-12)
        assert torch.allclose(fast._in_two_passes(x, fast.weight), expected, rtol=1e-12)
    assert torch.isfinite(fast(torch.zeros_like(x))).all()


def test_activation_that_cannot_be_folded_leaves_its_input():
    x = image((3, 3))
    before = x.clone()
    act = unsettle(StarReLU())
    assert torch.allclose(FastStarReLU(act)(x), act(x), rtol=1e-12)
    assert torch.equal(x, before)


# --- what others may do with it ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return unsettle(archs.create("lale-s1", widths=(8, 16, 32, 32), decoder_width=16)).float()


@pytest.fixture(scope="module")
def deployed(trained: nn.Module) -> nn.Module:
    return deploy(trained)


def test_deployed_once_is_deployed(deployed: nn.Module):
    assert deploy(deployed) is deployed
    assert deploy(copy.deepcopy(deployed)).deployed


def test_keeps_type_and_device(deployed: nn.Module):
    assert {t.dtype for t in deployed.state_dict().values()} == {torch.float32}
    half = deploy(archs.create("lale-s1").bfloat16())
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    nowhere = deploy(archs.create("lale-s1").to("meta"))
    assert {p.device.type for p in nowhere.parameters()} == {"meta"}
    assert count_params(nowhere).total == count_params(deploy(archs.create("lale-s1"))).total


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_any_memory_format_and_float32(trained: nn.Module, deployed: nn.Module, memory_format: torch.memory_format):
    x = image((64, 96), batch=2).float().to(memory_format=memory_format)
    inside = copy.deepcopy(deployed).to(memory_format=memory_format)
    before = x.clone()
    assert difference(trained, inside, x) < 1e-5
    assert torch.equal(x, before)


def test_works_channels_last_inside(deployed: nn.Module):
    seen: list[Tensor] = []
    handles = [m.register_forward_hook(lambda *a: seen.append(a[-1])) for m in deployed.encoder.stages]
    with torch.no_grad():
        deployed(image((64, 96)).float())
    for handle in handles:
        handle.remove()
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


@torch.no_grad()
def test_autocast(trained: nn.Module, deployed: nn.Module):
    x = image((64, 64)).float()
    expected = trained(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = deployed(x)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.slow
def test_compiles_whole_and_exports(deployed: nn.Module):
    x = image((64, 96)).float()
    torch.compiler.reset()
    whole = torch.compile(deployed, backend="eager", fullgraph=True)
    assert difference(deployed, whole, x) < 1e-5
    exported = torch.export.export(deployed, (x,)).module()
    assert difference(deployed, exported, x) < 1e-5


def test_saves_and_loads(deployed: nn.Module):
    from safetensors.torch import load, save

    other = deploy(unsettle(archs.create("lale-s1", widths=(8, 16, 32, 32), decoder_width=16), seed=9).float())
    x = image((64, 64)).float()
    assert difference(deployed, other, x) > 0.01
    other.load_state_dict(load(save(deployed.state_dict())))
    assert difference(deployed, other, x) == 0


def test_has_no_auxiliary_head():
    model = archs.create("lemevit-tiny", widths=(32, 32, 32, 32, 32), depths=(1, 1, 1, 1, 1), width=16, aux_width=8)
    deployed = deploy(model)
    assert count_params(deployed).by_part["aux_head"] == 0
    with pytest.raises(archs.ArchError, match=r"no decoder\.aux_head, .*run the trained one"):
        deployed.forward_aux(torch.zeros(1, 3, 64, 64))


def test_segformer_folds_as_lale_does():
    model = archs.create("smp/segformer-efficientnet_b0")
    deployed = deploy(model)
    assert isinstance(deployed.network.decoder, FoldedSegformerDecoder)
    mixing = 5 * 256 * 256 * 64**2
    finest = 256 * 32 * (128**2 - 64**2)  # resized from stride 2 to 4 before it is projected, not after
    assert count_macs(deployed, (256, 256)).total == 2_007_812_608 - mixing - finest


@pytest.mark.parametrize("name", ["lwganet-l0", "timm/repvit_m0_9+mlp"])
def test_fewer_launches_and_no_more_arithmetic(name: str):
    model = archs.create(name)
    before, after = (count_macs(m, (96, 96)) for m in (model, deploy(model)))
    assert after.total <= before.total
    assert after.launches <= before.launches - len(batch_norms(model)) + STAY.get(name, 0)
    assert after.unknown == {}


def test_norms_of_the_decoder_other_than_batch_norm_stay():
    folded = fold(archs.create("lale-s1", decoder_norm="groupnorm"))
    assert isinstance(folded.decoder, FoldedMLPDecoder)
    assert isinstance(folded.decoder.norm, nn.GroupNorm)


def test_a_size_that_does_not_fit_is_answered():
    model = archs.create("smp/linknet-efficientnet_b0")
    with pytest.raises(archs.ArchError, match=r"give a size that it takes, as size=\(256, 256\)"):
        deploy(nn.Sequential(model, nn.Conv2d(7, 7, 300)), size=(64, 64))


# --- which norms fold -------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Two branches, added or stacked, then what follows."""

    def __init__(self, a: nn.Module, b: nn.Module, after: nn.Module, join=torch.add):
        super().__init__()
        self.a, self.b, self.after, self.join = a, b, after, join

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.join(self.a(x), self.b(x)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class TokensLinear(nn.Module):
    """A linear layer along the channels of a map."""

    def __init__(self, before: int, width: int, bias: bool):
        super().__init__()
        self.layer = nn.Linear(before, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2).mT.contiguous()).mT.unflatten(2, x.shape[-2:])


def stack(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a, b], dim=1)


def norm(channels: int, **options) -> nn.Module:
    return nn.BatchNorm2d(channels, **options)


FOLDED = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), norm(6), nn.ReLU(inplace=True)),
    "convolution, groups": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), norm(6)),
    "norm without affine": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), norm(6, affine=False)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 3, stride=2), norm(6)),
    "transposed, groups": lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3), norm(6)),
    "linear": lambda: nn.Sequential(TokensLinear(3, 6, True), norm(6)),
    "linear without bias": lambda: nn.Sequential(TokensLinear(3, 6, False), norm(6)),
    "moved": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Apply(lambda x: x.mT[..., 1:]), norm(6)),
    "sum": lambda: Branches(nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3, padding=1, bias=False), norm(6)),
    "sum, one of them padded with zeros": lambda: Branches(
        nn.Sequential(nn.Conv2d(3, 6, 3), Apply(lambda x: nn.functional.pad(x, (1, 1, 1, 1)))),
        nn.Conv2d(3, 6, 1),
        norm(6),
    ),
    "into the next": lambda: nn.Sequential(nn.ReLU(), norm(3), nn.Conv2d(3, 6, 3, bias=False)),
    "into the next, groups": lambda: nn.Sequential(nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, groups=2)),
    "into the next, linear": lambda: nn.Sequential(nn.ReLU(), norm(3), TokensLinear(3, 6, False)),
    "through a stack": lambda: Branches(
        nn.Sequential(nn.ReLU(), norm(3)), nn.Sequential(nn.GELU(), norm(3)), nn.Conv2d(6, 4, 1, groups=2), stack
    ),
    "into several": lambda: nn.Sequential(
        nn.Sigmoid(), norm(3), Branches(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, bias=False), nn.ReLU())
    ),
    "both sides": lambda: nn.Sequential(
        nn.GELU(), norm(3), nn.Conv2d(3, 6, 3), norm(6), nn.Conv2d(6, 5, 1), nn.ReLU(), norm(5), nn.Conv2d(5, 2, 1)
    ),
}
KEPT = {
    "read twice": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Branches(norm(3), nn.ReLU(), nn.GELU())),
    "padding behind": lambda: nn.Sequential(nn.ReLU(), norm(3), nn.Conv2d(3, 6, 3, padding=1)),
    "padded with zeros in front": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ZeroPad2d(1), norm(6)),
    "activation between": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), norm(6)),
    "channels turned": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), Apply(lambda x: x[:, :, :8, :8].mT.transpose(1, 2)), norm(8)
    ),
    "along the width": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Linear(4, 4), norm(3)),
    "at the end": lambda: nn.Sequential(nn.ReLU(), norm(3)),
    "batch statistics": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), norm(6, track_running_stats=False)),
    "sum, half of it read elsewhere": lambda: Branches(nn.Conv2d(3, 3, 1), nn.Identity(), norm(3)),
}


def count_norms(model: nn.Module) -> int:
    return len(batch_norms(model))


def ready(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return model.double().eval()
    return unsettle(model)


@pytest.mark.parametrize("case", FOLDED)
def test_folds(case: str):
    channels = 4 if case == "into the next, groups" else 3
    torch.manual_seed(0)  # or a ReLU at the end gives nothing but zeros once in a while
    model = ready(nn.Sequential(nn.Conv2d(3, channels, 1), nn.Tanh(), FOLDED[case]()))
    deployed = deploy(model)
    assert count_norms(model) > 0
    assert count_norms(deployed) == 0
    assert difference(model, deployed, image((11, 13), batch=2)) < 1e-12


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str):
    model = ready(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh(), KEPT[case]()))
    deployed = deploy(model)
    assert count_norms(deployed) == count_norms(model) == 1
    assert difference(model, deployed, image((11, 13), batch=2)) < 1e-12


class Recurrent(nn.Module):
    """One layer and one norm, run twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x))))


class Overwrites(nn.Module):
    """What the norm read is overwritten before the convolution reads what the norm wrote."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.exp()
        normed = self.norm(x)
        x.mul_(2)
        return self.conv(normed)


@pytest.mark.parametrize("kind", [Recurrent, Overwrites])
def test_keeps_what_runs_twice_or_is_overwritten(kind: type[nn.Module]):
    model = unsettle(kind())
    deployed = deploy(model)
    assert count_norms(deployed) == 1
    assert difference(model, deployed, image((9, 9))) < 1e-12


def test_keeps_a_norm_that_is_watched():
    model = unsettle(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)))
    assert count_norms(deploy(model)) == 0
    model[1].register_forward_hook(lambda module, args, out: out.abs())
    deployed = deploy(model)
    assert count_norms(deployed) == 1
    assert difference(model, deployed, image((9, 9))) < 1e-12


class HeadFirst(nn.Module):
    """A network whose first convolution is not its first layer, with dropout that works in evaluation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 2, 1)
        self.stem = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.drop = Doubling()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.stem(x)))


class Doubling(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * input


def test_the_bands_of_a_network_of_any_order_can_be_given():
    model = unsettle(HeadFirst())
    with pytest.raises(archs.ArchError, match=r"its bands \(now 8\), as in_channels=3"):
        deploy(model)
    deployed = deploy(model, in_channels=4)
    assert not batch_norms(deployed)
    assert difference(model, deployed, image((16, 16), channels=4)) < 1e-12
