"""The exact counter: every rule against a value worked out by hand, and figures of whole networks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import archs
from bench.counting import count_macs, count_params
from bench.counting.rules import (
    ALLOCATIONS,
    ELEMENT_RULES,
    MAC_RULES,
    MOVEMENT,
    VIEWS,
    cost,
)
from bench.errors import BenchError


class Apply(nn.Module):
    """A network of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (N, H * W, C)


def attend(x: Tensor, heads: int = 2, **options) -> Tensor:
    split = tokens(x).unflatten(2, (heads, -1)).transpose(1, 2)  # (N, heads, H * W, C / heads)
    return F.scaled_dot_product_attention(split, split, split, **options)


def constant(*shape: int) -> Tensor:
    return torch.ones(shape, device="meta")


# Each on a (2, 8, 6, 10) input. The numbers: out positions x what each of them multiplies.
MACS = {
    "conv 3x3": (nn.Conv2d(8, 16, 3, padding=1), 2 * 16 * 60 * 8 * 9),
    "conv without padding": (nn.Conv2d(8, 16, 3), 2 * 16 * (4 * 8) * 8 * 9),
    "conv, stride 2": (nn.Conv2d(8, 16, 3, stride=2, padding=1), 2 * 16 * (3 * 5) * 8 * 9),
    "conv, dilation 2": (nn.Conv2d(8, 16, 3, dilation=2), 2 * 16 * (2 * 6) * 8 * 9),
    "conv, 4 groups": (nn.Conv2d(8, 16, 3, padding=1, groups=4), 2 * 16 * 60 * 2 * 9),
    "conv, depthwise": (nn.Conv2d(8, 8, 7, padding=3, groups=8, bias=False), 2 * 8 * 60 * 49),
    "conv 1x5": (nn.Conv2d(8, 4, (1, 5)), 2 * 4 * (6 * 6) * 8 * 5),
    "transposed conv, stride 2": (nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), 2 * 60 * 8 * 4 * 16),
    "transposed conv, 2 groups": (nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2), 2 * 60 * 8 * 2 * 4),
    "1-d conv": (nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 4, 5)), 2 * 4 * 56 * 8 * 5),
    "linear": (nn.Linear(10, 3), 2 * 8 * 6 * 10 * 3),
    "linear without bias": (nn.Linear(10, 3, bias=False), 2 * 8 * 6 * 10 * 3),
    "matmul": (Apply(lambda x: x @ x.transpose(2, 3)), 2 * 8 * 6 * 10 * 6),
    "matmul, one matrix for all": (Apply(lambda x: x @ constant(10, 7)), 2 * 8 * 6 * 10 * 7),
    "mm": (Apply(lambda x: x[0, 0] @ x[0, 1].T), 6 * 10 * 6),
    "addmm": (Apply(lambda x: torch.addmm(constant(6, 6), x[0, 0], x[0, 1].T)), 6 * 10 * 6),
    "bmm": (Apply(lambda x: torch.bmm(x[0], x[1].transpose(1, 2))), 8 * 6 * 10 * 6),
    "baddbmm": (Apply(lambda x: torch.baddbmm(constant(8, 6, 6), x[0], x[1].mT)), 8 * 6 * 10 * 6),
    "addbmm": (Apply(lambda x: torch.addbmm(constant(6, 6), x[0], x[1].mT)), 8 * 6 * 10 * 6),
    "matrix times vector": (Apply(lambda x: x[0, 0] @ constant(10)), 6 * 10),
    "addmv": (Apply(lambda x: torch.addmv(constant(6), x[0, 0], constant(10))), 6 * 10),
    "dot": (Apply(lambda x: x[0, 0, 0] @ x[0, 0, 1]), 10),
    "einsum": (Apply(lambda x: torch.einsum("nchw,cd->ndhw", x, constant(8, 5))), 2 * 60 * 8 * 5),
    "einsum of two batches": (Apply(lambda x: torch.einsum("nchw,nkhw->nck", x, x)), 2 * 8 * 8 * 60),
    "fused attention": (Apply(attend), 2 * 2 * 60 * 60 * (4 + 4)),
    "causal fused attention": (Apply(lambda x: attend(x, is_causal=True)), 2 * 2 * 60 * 60 * (4 + 4)),
    "fused attention, wide values": (
        Apply(lambda x: F.scaled_dot_product_attention(tokens(x), tokens(x), constant(2, 60, 5))),
        2 * 60 * 60 * (8 + 5),
    ),
    "fused attention, fewer keys": (
        Apply(lambda x: F.scaled_dot_product_attention(tokens(x), constant(2, 7, 8), constant(2, 7, 8))),
        2 * 60 * 7 * (8 + 8),
    ),
    "fused attention, grouped queries": (
        Apply(
            lambda x: F.scaled_dot_product_attention(
                constant(2, 4, 60, 8), constant(2, 2, 60, 8), constant(2, 2, 60, 8), enable_gqa=True
            )
        ),
        2 * 4 * 60 * 60 * (8 + 8),
    ),
    "the CPU's attention kernel": (
        Apply(lambda x: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*[constant(2, 4, 60, 8)] * 3)[0]),
        2 * 4 * 60 * 60 * (8 + 8),
    ),
}


@pytest.mark.parametrize("case", MACS)
def test_macs_by_hand(case):
    model, expected = MACS[case]
    count = count_macs(model, (6, 10), in_channels=8, batch=2)
    assert count.total == expected
    assert not count.unknown
    assert sum(count.by_operator.values()) == expected


ATTENTION_KERNELS = {
    "_scaled_dot_product_flash_attention": ((2, 3, 16, 8), (2, 3, 5, 8)),
    "_scaled_dot_product_efficient_attention": ((2, 3, 16, 8), (2, 3, 5, 8)),
    "_scaled_dot_product_cudnn_attention": ((2, 3, 16, 8), (2, 3, 5, 8)),
    "_scaled_dot_product_fused_attention_overrideable": ((2, 3, 16, 8), (2, 3, 5, 8)),
    "_flash_attention_forward": ((2, 16, 3, 8), (2, 5, 3, 8)),
    "_efficient_attention_forward": ((2, 16, 3, 8), (2, 5, 3, 8)),
}


@pytest.mark.parametrize("kernel", ATTENTION_KERNELS)
def test_kernels_of_other_devices_by_their_shapes(kernel):
    func = getattr(getattr(torch.ops.aten, kernel), "default")  # noqa: B009 - the overload's name is `default`
    query, key = (constant(*shape) for shape in ATTENTION_KERNELS[kernel])
    price = cost(func, {"query": query, "key": key, "value": key}, constant(*query.shape))
    assert (price.kind, price.operations) == ("mac", 2 * 3 * 16 * 5 * (8 + 8))


def test_rules_that_no_module_reaches():
    linear = cost(
        torch.ops.aten.linear.default, {"input": constant(2, 5, 4), "weight": constant(3, 4)}, constant(2, 5, 3)
    )
    scaled = cost(torch.ops.aten._scaled_mm.default, {"self": constant(5, 4), "mat2": constant(4, 3)}, constant(5, 3))
    vdot = cost(torch.ops.aten.vdot.default, {"self": constant(7), "other": constant(7)}, constant())
    assert (linear.operations, scaled.operations, vdot.operations) == (2 * 5 * 4 * 3, 5 * 4 * 3, 7)


# Each on a (2, 8, 6, 10) input of 960 elements: operator, kind, operations.
ELEMENTS = {
    "batch norm": (nn.BatchNorm2d(8), "native_batch_norm", "norm", 2 * 960),
    "batch norm, not affine": (nn.BatchNorm2d(8, affine=False), "native_batch_norm", "norm", 960),
    "instance norm": (nn.InstanceNorm2d(8), "native_batch_norm", "norm", 4 * 960),
    "layer norm": (nn.LayerNorm(10), "native_layer_norm", "norm", 5 * 960),
    "layer norm, not affine": (nn.LayerNorm(10, elementwise_affine=False), "native_layer_norm", "norm", 4 * 960),
    "group norm": (nn.GroupNorm(4, 8), "native_group_norm", "norm", 5 * 960),
    "relu": (nn.ReLU(), "relu", "activation", 960),
    "relu in place": (Apply(lambda x: F.relu_(x + 1)), "relu", "activation", 960),
    "gelu": (nn.GELU(), "gelu", "activation", 960),
    "silu": (nn.SiLU(), "silu", "activation", 960),
    "hardswish": (nn.Hardswish(), "hardswish", "activation", 960),
    "softmax": (nn.Softmax(1), "_softmax", "softmax", 5 * 960),
    "log softmax": (nn.LogSoftmax(1), "_log_softmax", "softmax", 5 * 960),
    "nearest": (nn.Upsample(scale_factor=2), "upsample_nearest2d", "resize", 4 * 960),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), "upsample_bilinear2d", "resize", 4 * 4 * 960),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), "upsample_bicubic2d", "resize", 16 * 4 * 960),
    "1-d linear": (
        nn.Sequential(nn.Flatten(2), nn.Upsample(scale_factor=2, mode="linear")),
        "upsample_linear1d",
        "resize",
        2 * 2 * 960,
    ),
    "max pool": (nn.MaxPool2d(2), "max_pool2d_with_indices", "pool", 4 * 960 // 4),
    "average pool": (nn.AvgPool2d((3, 2), stride=1), "avg_pool2d", "pool", 6 * 2 * 8 * 4 * 9),
    "adaptive pool": (nn.AdaptiveAvgPool2d(2), "_adaptive_avg_pool2d", "pool", 960),
    "mean": (Apply(lambda x: x.mean(1)), "mean", "reduction", 960),
    "variance": (Apply(lambda x: x.var(1)), "var", "reduction", 3 * 960),
    "vector norm": (Apply(lambda x: torch.linalg.vector_norm(x)), "linalg_vector_norm", "reduction", 2 * 960),
    "sum of two": (Apply(lambda x: x + x), "add", "arithmetic", 960),
    "broadcast product": (Apply(lambda x: x * x[:, :1]), "mul", "arithmetic", 960),
    "power": (Apply(lambda x: x.pow(2)), "pow", "arithmetic", 960),
    "comparison": (Apply(lambda x: x > 0), "gt", "arithmetic", 960),
    "sampling at a grid": (
        Apply(lambda x: F.grid_sample(x, constant(2, 5, 5, 2), align_corners=False)),
        "grid_sampler_2d",
        "resize",
        4 * 2 * 8 * 25,
    ),
}


@pytest.mark.parametrize("case", ELEMENTS)
def test_element_operations_by_hand(case):
    model, operator, kind, expected = ELEMENTS[case]
    count = count_macs(model, (6, 10), in_channels=8, batch=2)
    assert count.elementwise[operator] == expected
    assert sum(call.operations for call in count.calls if call.kind == kind) == expected
    assert count.total == 0
    assert not count.unknown


MOVES = [
    Apply(lambda x: torch.cat([x, x])),
    Apply(lambda x: x.transpose(2, 3).contiguous()),
    Apply(lambda x: F.pad(x, (1, 1))),
    Apply(lambda x: x.roll(1, 2)),
    Apply(lambda x: x.double()),
    Apply(lambda x: x[:, [0, 2]]),
    nn.PixelShuffle(2),
]


@pytest.mark.parametrize("model", MOVES)
def test_moving_data_is_a_launch_and_traffic_but_no_arithmetic(model):
    count = count_macs(model, (6, 10), in_channels=8)
    assert (count.total, count.elementwise, count.unknown, count.launches) == (0, {}, {}, 1) or (
        count.launches == 2 and count.calls[0].operator == "lift_fresh"
    )
    assert count.activations > 0


def test_views_cost_nothing():
    model = Apply(lambda x: x.view(2, 4, 2, 60).transpose(1, 2).permute(0, 3, 1, 2)[:, :3].unsqueeze(0).chunk(2)[0])
    count = count_macs(model, (6, 10), in_channels=8, batch=2)
    assert len(count.calls) >= 5
    assert (count.launches, count.activations, count.activation_bytes, count.read_bytes) == (0, 0, 0, 0)


def test_operators_without_a_rule_are_reported():
    count = count_macs(Apply(lambda x: torch.fft.fft2(x).real + torch.cdist(x, x)[..., :1]), (6, 10), in_channels=8)
    assert count.unknown == {"_fft_c2c": 1, "_cdist_forward": 1}
    assert count.launches == len([call for call in count.calls if call.launches])


def test_operators_of_other_libraries_are_reported_with_their_namespace():
    @torch.library.custom_op("test_counting::double", mutates_args=())
    def double(x: Tensor) -> Tensor:
        return x * 2

    double.register_fake(torch.empty_like)
    assert count_macs(Apply(lambda x: double(x)), (6, 10)).unknown == {"test_counting::double": 1}


def test_every_name_in_the_table_is_an_operator_of_one_kind():
    groups = [set(MAC_RULES), set(ELEMENT_RULES), MOVEMENT, VIEWS, ALLOCATIONS]
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names))
    known = {
        name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")
    }
    missing = {name for name in names if name not in known and f"{name}_" not in known}
    assert not missing


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 4),
    inner=st.integers(1, 4),
    outer=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 3),
    size=st.tuples(st.integers(9, 20), st.integers(9, 20)),
    batch=st.integers(1, 3),
    bias=st.booleans(),
)
def test_convolutions_follow_the_closed_formula(
    groups, inner, outer, kernel, stride, dilation, padding, size, batch, bias
):
    options = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups, "bias": bias}
    conv = nn.Conv2d(groups * inner, groups * outer, kernel, **options)
    positions = 1
    for side, k in zip(size, kernel, strict=True):
        positions *= (side + 2 * padding - dilation * (k - 1) - 1) // stride + 1
    count = count_macs(conv, size, in_channels=groups * inner, batch=batch)
    assert count.total == batch * positions * groups * outer * inner * kernel[0] * kernel[1]
    assert count.activations == batch * positions * groups * outer
    assert count.launches == 1


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 3),
    inner=st.integers(1, 4),
    outer=st.integers(1, 4),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
)
def test_transposed_convolutions_follow_the_closed_formula(groups, inner, outer, kernel, stride, size):
    conv = nn.ConvTranspose2d(groups * inner, groups * outer, kernel, stride=stride, groups=groups)
    count = count_macs(conv, size, in_channels=groups * inner)
    assert count.total == size[0] * size[1] * groups * inner * outer * kernel**2


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 5), heads=st.sampled_from([1, 2, 4]), side=st.integers(1, 6))
def test_fused_and_explicit_attention_cost_the_same(batch, heads, side):
    def explicit(x: Tensor) -> Tensor:
        split = tokens(x).unflatten(2, (heads, -1)).transpose(1, 2)
        return (split @ split.mT).softmax(-1) @ split

    fused = count_macs(Apply(lambda x: attend(x, heads)), (side, side), in_channels=8, batch=batch)
    written_out = count_macs(Apply(explicit), (side, side), in_channels=8, batch=batch)
    assert fused.total == written_out.total == batch * side**4 * 16
    assert fused.by_operator == {"scaled_dot_product_attention": fused.total}
    assert fused.launches == 1
    assert fused.activations == batch * side**2 * 8


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_is_seen_whole(need_weights):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(tokens(x), tokens(x), tokens(x), need_weights=need_weights)[0]

    count = count_macs(Attention(), (4, 4), in_channels=8, batch=3)
    assert count.total == 3 * (16 * 8 * 8 * 4 + 2 * 16 * 16 * 8)  # four projections, two products


def test_the_fast_path_of_the_transformer_layer_is_seen_whole():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=20, batch_first=True)
    count = count_macs(nn.Sequential(Apply(tokens), layer), (4, 4), in_channels=8)
    assert count.total == 16 * 8 * 8 * 4 + 2 * 16 * 16 * 8 + 2 * 16 * 8 * 20


class Net(nn.Module):
    """Two named parts, one of them used twice, and a product outside both."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, bias=False)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.body(self.stem(x)))
        return x @ x.mT


class NamedNet(Net):
    def parts(self) -> dict[str, nn.Module]:
        return {"one": self.stem, "two": self.body[0]}


def test_by_part_and_operator_add_up():
    count = count_macs(Net(), (5, 5))
    stem, body, product = 25 * 12, 2 * 25 * 16, 4 * 5 * 5 * 5
    assert count.by_part == {"stem": stem, "body": body, "rest": product}
    inside = {name: sum(call.macs for call in count.calls if name in call.scope) for name in ("stem", "body", "body.0")}
    assert inside == {"stem": stem, "body": body, "body.0": body}
    assert count.by_operator == {"convolution": stem + body, "bmm": product}
    assert count.total == sum(count.by_part.values())
    assert count_macs(NamedNet(), (5, 5)).by_part == {"one": stem, "two": body, "rest": product}


def test_parameters_by_part():
    count = count_params(Net())
    assert (count.total, count.by_part) == (12 + 16 + 8, {"stem": 12, "body": 24})
    assert count_params(NamedNet()).by_part == {"one": 12, "two": 16, "rest": 8}


def test_frozen_and_tied_parameters():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    count = count_params(model)
    assert (count.total, count.trainable, count.by_part) == (24, 20, {"0": 20, "1": 4})
    assert count_macs(nn.Sequential(Apply(lambda x: x[0, 0]), model), (4, 4), in_channels=1).weight_bytes == 24 * 4


def test_weights_are_no_activations_however_they_are_viewed():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1000))  # its weight is transposed before the product
    assert count_macs(model, (4, 4), in_channels=1).peak_activation_bytes == 4 * (16 + 1000)
    assert count_macs(model, (4, 4), in_channels=1, batch=8).peak_activation_bytes == 8 * 4 * (16 + 1000)


def test_traffic_and_peak_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1, bias=False))
    count = count_macs(model, (8, 8), in_channels=2)
    assert count.launches == 3
    assert count.activations == 64 * (4 + 4 + 1)
    assert count.activation_bytes == 4 * count.activations
    assert count.weight_bytes == 4 * (8 + 4)
    assert count.read_bytes == 4 * (64 * 2 + 8 + 64 * 4 + 64 * 4 + 4)
    assert count.peak_activation_bytes == 4 * 64 * (2 + 4 + 1)  # input, hidden, output
    assert count.arithmetic_intensity == 64 * (8 + 4) / (count.read_bytes + count.activation_bytes)


def test_half_precision_halves_the_bytes():
    model = nn.Conv2d(3, 4, 3)
    full, half = count_macs(model, (8, 8)), count_macs(copy.deepcopy(model).to(torch.bfloat16), (8, 8))
    assert (half.activation_bytes, half.weight_bytes) == (full.activation_bytes // 2, full.weight_bytes // 2)
    assert half.total == full.total


def test_counting_leaves_the_model_alone():
    model = Net().train()
    before = copy.deepcopy(model.state_dict())
    count_macs(model, (5, 5))
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) and after[name].device.type == "cpu" for name in before)


def test_plain_tensor_attributes_come_along():
    model = Net()
    model.body[0].scale = torch.ones(3)
    model.stem.table = nn.Parameter(torch.ones(2)) * 2  # not a leaf: copying it alone would fail
    assert count_macs(model, (5, 5)).total


def test_a_model_that_reads_values_is_refused_by_name():
    class Curious(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(
        BenchError, match=r"Curious cannot be counted on a 3 x 8 x 8 input.*operator _local_scalar_dense"
    ):
        count_macs(Curious(), (8, 8))


def test_a_wrong_number_of_channels_is_refused_by_name():
    with pytest.raises(BenchError, match=r"Conv2d cannot be counted on a 3 x 8 x 8 input.*convolution"):
        count_macs(nn.Conv2d(4, 4, 3), (8, 8))


# From the specification of LALE: exact plain MACs at 256x256, 7 classes.
LALE = {
    "lale-s1": 576_323_584,
    "lale-s2": 766_509_056,
    "lale-s3": 956_694_528,
    "lale-s4": 1_146_880_000,
    "lale-b-s1-k7": 651_296_768,
    "lale-b-s2-k7": 916_455_424,
}


@pytest.mark.parametrize("name", LALE)
def test_lale_to_the_last_mac(name):
    model = archs.create(name)
    count = count_macs(model, (256, 256))
    assert count.total == sum(count.by_part.values()) == LALE[name]
    assert not count.unknown
    assert list(count.by_part)[:2] == ["stem", "stage1"]
    assert sum(count_params(model).by_part.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", [(64, 64), (97, 130)])
def test_lale_costs_the_same_with_either_attention(size):
    explicit, fused = (
        count_macs(archs.create("lale-s1", attention=attention), size) for attention in ("explicit", "fused")
    )
    assert explicit.total == fused.total
    assert "scaled_dot_product_attention" in fused.by_operator
    assert fused.launches < explicit.launches


# The same table's CNN rows, and kernel launches as printed there for each.
BASELINES = {
    "smp/linknet-efficientnet_b0": (553_044_480, 300),
    "smp/pan-efficientnet_b0": (950_736_296, 311),
    "smp/unet-efficientnet_b0": (3_014_445_568, 290),
}


@pytest.mark.parametrize("name", BASELINES)
def test_cnn_baselines_to_the_last_mac(name):
    macs, launches = BASELINES[name]
    count = count_macs(archs.create(name), (256, 256))
    assert count.total == macs
    assert not count.unknown
    assert abs(count.launches - launches) <= 5  # the count moves by a few with the version of PyTorch


def test_a_batch_costs_so_many_times_an_image():
    model = archs.create("lale-s1", attention="fused")  # written out, it copies more once there is a batch
    one, five = count_macs(model, (64, 64)), count_macs(model, (64, 64), batch=5)
    assert (five.total, five.activations) == (5 * one.total, 5 * one.activations)
    assert five.launches == one.launches
