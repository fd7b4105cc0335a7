"""fvcore and thop as the field runs them, and the way from the exact count to theirs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import archs
from bench.counting import count_fvcore, count_macs, count_thop
from bench.counting.reconcile import reconcile_fvcore, reconcile_thop
from bench.errors import BenchError

# From the specification of LALE, at 256x256 with 7 classes: the papers' rule is fvcore's default.
PAPER_GMACS = {
    "lale-s1": 0.5855,
    "lale-b-s1-k7": 0.6665,
    "smp/linknet-efficientnet_b0": 0.581,
    "smp/pan-efficientnet_b0": 0.979,
    "smp/unet-efficientnet_b0": 3.047,
}


@pytest.fixture(scope="module")
def counted():
    """Model, exact, fvcore's and thop's count of each named architecture, made once."""
    made = {}

    def get(name):
        if name not in made:
            model = archs.create(name).eval()
            made[name] = tuple(count(model, (256, 256)) for count in (count_macs, count_fvcore, count_thop))
        return made[name]

    return get


@pytest.mark.parametrize("name", PAPER_GMACS)
def test_fvcore_reproduces_the_papers(counted, name):
    _, fvcore, _ = counted(name)
    digits = len(str(PAPER_GMACS[name]).split(".")[1])
    assert round(fvcore.macs / 1e9, digits) == PAPER_GMACS[name]


def test_fvcore_to_the_last_mac(counted):
    assert counted("lale-s1")[1].macs == 585_498_624
    assert counted("smp/unet-efficientnet_b0")[1].macs == 3_047_035_392


def test_thop_misses_the_papers_row(counted):
    """The specification's calibration: printed 3.05, thop 2.59, since it does not know timm's padded convolution."""
    thop = counted("smp/unet-efficientnet_b0")[2]
    assert round(thop.macs / 1e9, 2) == 2.59
    assert thop.unsupported["Conv2dStaticSamePadding"] == 81


@pytest.mark.parametrize("name", PAPER_GMACS)
def test_differences_add_up_for_real_networks(counted, name):
    exact, fvcore, thop = counted(name)
    for way in (reconcile_fvcore(exact, fvcore), reconcile_thop(exact, thop)):
        assert way.exact + sum(row.difference for row in way.rows) == way.foreign
        assert all(row.difference for row in way.rows)
    assert (reconcile_fvcore(exact, fvcore).foreign, reconcile_thop(exact, thop).foreign) == (fvcore.macs, thop.macs)


def test_linknets_differences_are_named(counted):
    exact, fvcore, thop = counted("smp/linknet-efficientnet_b0")
    rows = {row.operator: row for row in reconcile_thop(exact, thop).rows}
    transposed = rows["ConvTranspose2d: convolution"]
    assert transposed.foreign == 4 * transposed.exact  # stride 2: stride^2 times too much
    assert transposed.verdict == "counted otherwise"
    assert rows["Conv2dStaticSamePadding: convolution"].verdict == "skipped"
    assert rows["BatchNorm2d"].verdict == "added"
    assert {row.operator: row.verdict for row in reconcile_fvcore(exact, fvcore).rows} == {
        "batch_norm": "added",
        "adaptive_avg_pool2d": "added",
    }


class Block(nn.Module):
    """What the two counters are known to miss: fused attention, functional and parameter-only products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Conv2d(3, width, 2, stride=2)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Parameter(torch.randn(width, width))
        self.up = nn.ConvTranspose2d(width, 5, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        height, width = x.shape[2:]
        rows = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(rows).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rows = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        rows = rows @ self.mix
        return self.up(rows.transpose(1, 2).unflatten(2, (height, width)))


@settings(max_examples=8, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 4]),
    depth=st.integers(1, 3),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
)
def test_differences_add_up_whatever_the_counters_miss(heads, depth, height, width):
    model = Block(4 * depth * heads, heads)
    size = (2 * height, 2 * width)
    exact, fvcore, thop = (count(model, size) for count in (count_macs, count_fvcore, count_thop))
    channels, positions = 4 * depth * heads, height * width
    attention, mix = 2 * positions**2 * channels, positions * channels**2
    by_fvcore = {row.operator: row.difference for row in reconcile_fvcore(exact, fvcore).rows}
    assert by_fvcore == {"scaled_dot_product_attention": -attention, "layer_norm": 5 * positions * channels}
    by_thop = {row.operator: row.difference for row in reconcile_thop(exact, thop).rows}
    assert by_thop == {
        "Block: scaled_dot_product_attention, mm": -attention - mix,
        "LayerNorm": 4 * positions * channels,
        "ConvTranspose2d: convolution": 3 * positions * channels * 5 * 4,
    }


def test_fvcore_reads_einsums_from_a_rounded_text():
    """It halves the cost that numpy prints with four digits, so 49,179 comes out as 49,180."""

    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("nchw,nchv->ncwv", x, x)

    size = (97, 13)
    exact, fvcore = count_macs(Sum(), size), count_fvcore(Sum(), size)
    assert exact.total == 3 * 97 * 13 * 13
    (row,) = reconcile_fvcore(exact, fvcore).rows
    assert (row.operator, row.verdict) == ("linear, matmul, einsum", "counted otherwise")
    assert row.difference == 1


def test_what_was_not_counted_is_in_the_result():
    model = nn.Sequential(Block(8, 2), nn.SiLU())
    assert count_fvcore(model, (8, 8)).unsupported["aten::scaled_dot_product_attention"] == 1
    assert count_thop(model, (8, 8)).unsupported == {"Block": 1, "SiLU": 1}


def test_the_counters_say_who_they_are():
    assert count_fvcore(nn.Conv2d(3, 4, 1), (4, 4)).counter.startswith("fvcore 0.")
    assert count_thop(nn.Conv2d(3, 4, 1), (4, 4)).counter.startswith("thop 0.")


@pytest.mark.parametrize("count", [count_fvcore, count_thop])
def test_one_layer_alone(count):
    found = count(nn.Conv2d(3, 4, 1), (4, 4))
    assert found.macs == sum(found.by_operator.values()) == 16 * 12


@pytest.mark.parametrize("count", [count_fvcore, count_thop])
def test_the_model_stays_as_it_was(count):
    model = Block(8, 2).train()
    before = copy.deepcopy(model.state_dict())
    count(model, (8, 8))
    after = model.state_dict()
    assert model.training
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("count", "who"), [(count_fvcore, "fvcore"), (count_thop, "thop")])
def test_a_model_that_fails_is_named(count, who):
    with pytest.raises(BenchError, match=rf"{who} cannot .* Conv2d on a 3 x 8 x 8 input"):
        count(nn.Conv2d(4, 4, 3), (8, 8))


@pytest.mark.parametrize("count", [count_fvcore, count_thop])
def test_other_channels(count):
    assert count(nn.Conv2d(5, 4, 1), (4, 4), in_channels=5).macs == 16 * 20
