"""The UNetFormer decoder against the published counts and golden numbers, and what its boxes must do."""

import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden_fill, golden_input
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from archs.decoders.unetformer import (
    STRIDES,
    UNetFormerConfig,
    UNetFormerDecoder,
    WindowAttention,
    relative_positions,
)
from archs.errors import ArchError
from archs.lwganet import VARIANTS
from archs.segmenter import pair

L0, L1, L2 = VARIANTS
WIDTHS = (8, 16, 32, 64)


def segmenter(name, num_classes=7):
    return pair(VARIANTS[name], UNetFormerConfig(), num_classes, 3)


def on_meta(name, num_classes=7):
    with torch.device("meta"):
        return segmenter(name, num_classes)


def params(module):
    return sum(parameter.numel() for parameter in module.parameters())


def pyramid(h, w, n=2):
    """Four maps of an image of h x w pixels, sides rounded up."""
    sides = [(-(-h // stride), -(-w // stride)) for stride in STRIDES]
    return [golden_input((n, width, *side)) for width, side in zip(WIDTHS, sides, strict=True)]


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return UNetFormerDecoder(WIDTHS, 5, UNetFormerConfig())


@pytest.mark.parametrize(
    ("name", "decoder", "by_classes"),
    [
        (L0, 517_790, {2: 1_850_208, 5: 1_850_592, 6: 1_850_720, 7: 1_850_848, 8: 1_850_976}),
        (L1, 548_510, {2: 5_743_760, 5: 5_744_144, 6: 5_744_272, 7: 5_744_400, 8: 5_744_528}),
        (L2, 579_230, {2: 12_581_452, 5: 12_581_836, 6: 12_581_964, 7: 12_582_092, 8: 12_582_220}),
    ],
)
def test_parameters(name, decoder, by_classes):
    assert {k: params(on_meta(name, k)) for k in by_classes} == by_classes
    parts = on_meta(name).decoder.parts()
    assert sum(params(part) for part in parts.values()) == decoder
    assert params(parts["aux_head"]) == 37_440
    assert [params(parts[part]) for part in ("b4", "b3", "b2")] == [96_968] * 3


@pytest.mark.parametrize(
    ("name", "by_size"),
    [
        (L0, {256: 780_583_264, 512: 3_146_949_120, 1024: 12_989_658_464}),
        (L1, {256: 1_474_160_832, 512: 5_945_876_992, 1024: 24_587_233_472}),
        (L2, {256: 2_998_613_536, 512: 12_068_444_800, 1024: 49_477_866_016}),
    ],
)
def test_macs(name, by_size):
    model = on_meta(name).eval()
    for size, expected in by_size.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, size, size, device="meta"))
        assert counter.get_total_flops() == 2 * expected


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "figures"),
    [
        (L0, (-0.065172265, 0.097771094, 75.146537, 0.028132787, -0.017930815, 0.010176457, -0.041464255)),
        (L1, (-0.056988822, 0.083589485, 64.548501, -0.004551109, -0.016601236, -0.025971176, -0.067621433)),
        (L2, (-0.32174051, 0.44067817, 354.00917, -0.012072077, -0.61650795, -0.0016132125, -0.055525437)),
    ],
)
def test_golden_logits(name, figures):
    logits = golden_fill(segmenter(name))(golden_input((1, 3, 256, 256)))
    assert_golden(logits, (1, 7, 256, 256), figures)


def test_relative_positions_tell_offsets_apart():
    table = relative_positions(3)
    for query in range(9):
        for key in range(9):
            dy, dx = query // 3 - key // 3, query % 3 - key % 3
            assert table[query, key] == (dy + 2) * 5 + (dx + 2)
    assert relative_positions(8).unique().tolist() == list(range(225))


def by_hand(attention, x):
    """Window attention of one image, window by window and head by head."""
    k, heads = attention.window, attention.heads
    h, w = x.shape[-2:]
    padded = F.pad(x, (0, -w % k, 0, -h % k), mode="reflect")
    qkv = attention.qkv(padded)
    head_width = x.shape[1] // heads
    out = torch.empty_like(padded)
    for top in range(0, padded.shape[2], k):
        for left in range(0, padded.shape[3], k):
            tokens = qkv[0, :, top : top + k, left : left + k].flatten(1).reshape(3, heads, head_width, k * k)
            for head in range(heads):
                q, key, v = tokens[:, head]
                bias = attention.bias_table[:, head][relative_positions(k)]
                weights = (q.T @ key * head_width**-0.5 + bias).softmax(-1)
                window = (weights @ v.T).T.reshape(head_width, k, k)
                out[0, head * head_width : (head + 1) * head_width, top : top + k, left : left + k] = window
    return out[..., :h, :w]


@torch.no_grad()
@pytest.mark.parametrize("mode", ["explicit", "fused"])
def test_window_attention_by_hand(mode):
    attention = golden_fill(WindowAttention(UNetFormerConfig(width=16, heads=2, window=4, attention=mode)))
    x = golden_input((1, 16, 7, 12))
    torch.testing.assert_close(attention(x), by_hand(attention, x))


@torch.no_grad()
def test_fused_attention_is_the_same_function():
    explicit = golden_fill(UNetFormerDecoder(WIDTHS, 3, UNetFormerConfig()))
    fused = UNetFormerDecoder(WIDTHS, 3, UNetFormerConfig(attention="fused")).double().eval()
    fused.load_state_dict(explicit.state_dict())
    features = pyramid(96, 160)
    torch.testing.assert_close(explicit(features), fused(features))


@settings(max_examples=10, deadline=None)
@given(h=st.integers(1, 140), w=st.integers(1, 140))
def test_maps_of_any_size(h, w):
    features = pyramid(h, w, n=1)
    decoder = golden_fill(UNetFormerDecoder(WIDTHS, 3, UNetFormerConfig()))
    with torch.no_grad():
        logits, aux = decoder.forward_aux(features)
    assert logits.shape == (1, 3, *features[0].shape[-2:])
    assert aux.shape == (1, 3, *features[1].shape[-2:])
    assert logits.isfinite().all()
    assert aux.isfinite().all()


@torch.no_grad()
def test_auxiliary_logits_beside_the_same_logits(decoder):
    golden_fill(decoder)
    features = pyramid(96, 160)
    logits, aux = decoder.forward_aux(features)
    assert torch.equal(logits, decoder(features))
    assert torch.equal(aux, decoder.aux_head(decoder._climb(features)))
    assert decoder.aux_weight == 0.4


@torch.no_grad()
def test_auxiliary_head_adds_the_maps_with_aligned_corners():
    """With its convolution set to pass the sum through, a corner is the sum of the three maps' corners."""
    head = UNetFormerDecoder(WIDTHS, 16, UNetFormerConfig()).aux_head.eval()
    width = head.conv.conv.weight.shape[0]
    head.conv.conv.weight.copy_(F.pad(torch.eye(width)[:, :, None, None], (1, 1, 1, 1)))
    head.classify.weight.copy_(torch.eye(16, width)[:, :, None, None])
    maps = tuple(torch.rand(1, width, side, side) for side in (8, 4, 2))
    corners = [sum(x[0, :16, i, i] for x in maps) for i in (0, -1)]
    found = head(maps)
    for i, corner in zip((0, -1), corners, strict=True):
        torch.testing.assert_close(found[0, :, i, i], corner, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(96, 160), (97, 131)])
def test_a_gradient_in_every_parameter(decoder, size):
    logits, aux = decoder.forward_aux([x.float() for x in pyramid(*size)])
    (logits.square().mean() + aux.square().mean()).backward()
    silent = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_the_auxiliary_head_alone_is_not_reached_by_forward(decoder):
    decoder([x.float() for x in pyramid(64, 64)]).square().mean().backward()
    silent = {name.split(".")[0] for name, p in decoder.named_parameters() if p.grad is None}
    assert silent == {"aux_head"}


@torch.no_grad()
def test_evaluation_repeats_and_images_do_not_meet(decoder):
    golden_fill(decoder)
    features = pyramid(64, 96, n=3)
    together = decoder(features)
    assert torch.equal(together, decoder(features))
    alone = torch.cat([decoder([x[i : i + 1] for x in features]) for i in range(3)])
    torch.testing.assert_close(together, alone)


@torch.no_grad()
def test_half_precision_and_channels_last_agree(decoder):
    golden_fill(decoder).float()
    features = [x.float() for x in pyramid(65, 96)]
    plain = decoder(features)
    last = decoder([x.to(memory_format=torch.channels_last) for x in features])
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder(features)
    torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-5)
    assert (plain - half).norm() < 0.05 * plain.norm()


def test_a_segmenter_answers_at_the_size_of_its_image():
    model = segmenter(L0, 5).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 97, 131)).shape == (1, 5, 97, 131)


def test_other_strides_get_a_sentence():
    with pytest.raises(ArchError, match=r"strides \(16, 16, 16, 16\).*\(4, 8, 16, 32\)"):
        UNetFormerConfig().build_decoder(WIDTHS, (16,) * 4, 7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 60),
        ("width", 0),
        ("heads", 7),
        ("window", 7),
        ("dropout", 1.0),
        ("attention", "flash"),
        ("mlp_ratio", 0),
    ],
)
def test_impossible_fields_get_a_sentence(field, value):
    with pytest.raises(ArchError, match=r"unetformer .* is not possible"):
        UNetFormerConfig(**{field: value})
