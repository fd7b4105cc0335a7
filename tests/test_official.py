"""Official checkpoints: made up from the published lists of names and shapes, loaded into every form."""

import argparse
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import archs
from archs.official import lemevit, lwganet
from archs.official.loading import unwrap

KEYS = Path(__file__).parent / "data" / "official_keys"
FAMILIES = {"lwganet-l0": (lwganet, "lwganet_l0.tsv"), "lemevit-tiny": (lemevit, "lemevit_tiny.tsv")}


@cache
def official(file, num_classes=1000):
    """Random values under the official names and shapes."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for line in (KEYS / file).read_text().splitlines():
        name, shape, _ = line.split("\t")
        sides = [] if shape == "scalar" else [int(side) for side in shape.split("x")]
        if name in ("head.weight", "head.bias"):
            sides[0] = num_classes
        if not sides:
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(sides, generator=generator)
        else:
            state[name] = 0.1 * torch.randn(sides, generator=generator)
    return state


def form(kind, name, num_classes=1000):
    torch.manual_seed(1)
    if kind == "classifier":
        return archs.create_classifier(name, num_classes).eval()
    return (archs.create_backbone(name) if kind == "backbone" else archs.create(f"{name}+mlp")).eval()


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def saved(folder, content):
    path = folder / "official.pth"
    torch.save(content, path)
    return path


def assert_loaded(model, name, state, prefix=""):
    """Every official tensor that this form has a place for stands in it, value by value."""
    module, _ = FAMILIES[name]
    own = model.state_dict()
    key_map = module.official_key_map(archs.entry(name).config.encoder)
    seen = 0
    for theirs, ours in key_map.items():
        if prefix + ours in own and theirs in state:
            assert torch.equal(own[prefix + ours], state[theirs].to(own[prefix + ours].dtype)), theirs
            seen += 1
    assert seen > 200


# Into each form, from each wrapper


def bare(state):
    return state


def wrapped(key, prefix="", **beside):
    return lambda state: {key: {prefix + name: value for name, value in state.items()}, **beside}


ARGUMENTS = argparse.Namespace(lr=1e-3, data=["a"], output=Path("runs"))
CHECKPOINTS = {
    "bare": bare,
    "model": wrapped("model", optimizer={"state": {}, "param_groups": [{"lr": 0.1}]}, epoch=3),
    "timm": wrapped("state_dict", args=ARGUMENTS, metric=np.float64(0.5), state_dict_ema={}),
    "ema": wrapped("state_dict_ema", arch="x"),
    "clafa": wrapped("network", optimizer={}),
    "distributed": wrapped("state_dict", "module.", args=ARGUMENTS),
    "mmseg": wrapped("state_dict", "backbone.", meta={"classes": ("a", "b")}),
    "both": wrapped("state_dict", "module.backbone."),
    "lightning": wrapped("state_dict", "net.backbone.", epoch=1),
}


@pytest.mark.parametrize("wrapper", CHECKPOINTS)
def test_each_wrapper_is_taken_off(tmp_path, wrapper):
    state = official("lwganet_l0.tsv")
    model = form("backbone", "lwganet-l0")
    report = archs.load_official(model, saved(tmp_path, CHECKPOINTS[wrapper](state)))
    assert_loaded(model, "lwganet-l0", state)
    assert report.wrapper == next((key for key in CHECKPOINTS[wrapper](state) if key in report.wrapper), "")


@pytest.mark.parametrize("kind", ["segmenter", "backbone", "classifier"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_checkpoint_fills_each_form(tmp_path, name, kind):
    state = official(FAMILIES[name][1])
    model = form(kind, name)
    before = snapshot(model)
    report = archs.load_official(model, saved(tmp_path, {"model": state, "args": ARGUMENTS}))
    assert_loaded(model, name, state, "encoder." if kind == "segmenter" else "")
    assert set(report.loaded) | set(report.kept) == set(before)
    assert not set(report.loaded) & set(report.kept)
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in report.kept)
    norms = ["norms"] if name.startswith("lwganet") else []
    expected = {"segmenter": ["decoder", *(["encoder"] if norms else [])], "backbone": norms, "classifier": []}[kind]
    assert sorted({entry.partition(".")[0] for entry in report.kept}) == expected
    heads = {entry for entry in report.ignored if "head" in entry}
    assert bool(heads) == (kind != "classifier")


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_the_three_forms_compute_the_same_encoder(tmp_path, name):
    path = saved(tmp_path, {"model": official(FAMILIES[name][1])})
    segmenter, backbone, classifier = (form(kind, name) for kind in ("segmenter", "backbone", "classifier"))
    for model in (segmenter, backbone, classifier):
        archs.load_official(model, path)
    x = torch.randn(1, 3, 64, 64)
    maps = backbone(x)
    for a, b in zip(maps, segmenter.encoder(x), strict=True):
        torch.testing.assert_close(a, b)
    if name.startswith("lwganet"):
        inner = [norm(found) for norm, found in zip(backbone.norms, classifier.trunk(x), strict=True)]
    else:
        inner = [found for found, _ in classifier.run(x)[1:]]
    for a, b in zip(maps, inner, strict=True):
        torch.testing.assert_close(a, b)
    untouched = form("backbone", name)(x)
    assert not torch.allclose(maps[-1], untouched[-1])


@pytest.mark.parametrize(
    ("name", "file"), [("lwganet-l0", "lwganet_l0_backbone.tsv"), ("lemevit-tiny", "lemevit_tiny_backbone.tsv")]
)
def test_a_dense_checkpoint_fills_the_dense_form_whole_and_leaves_the_head(tmp_path, name, file):
    path = saved(tmp_path, {"state_dict": {f"backbone.{key}": value for key, value in official(file).items()}})
    backbone = form("backbone", name)
    assert not archs.load_official(backbone, path).kept
    assert_loaded(backbone, name, official(file))
    report = archs.load_official(form("classifier", name), path)
    assert {key.partition(".")[0] for key in report.kept} <= {"head", "pre_head"}
    assert report.kept


def test_a_head_of_other_classes_stays_and_is_listed(tmp_path):
    path = saved(tmp_path, {"model": official("lwganet_l0.tsv", num_classes=45)})
    model = form("classifier", "lwganet-l0", num_classes=30)
    report = archs.load_official(model, path)
    assert report.kept == ("head.weight", "head.bias")
    assert "pre_head.weight" in report.loaded
    assert set(report.ignored) >= {"head.weight", "head.bias"}


def test_a_deployed_network_is_refused_since_half_of_the_file_has_no_place_in_it(tmp_path):
    path = saved(tmp_path, official("lwganet_l0.tsv"))
    deployed = archs.deploy(form("segmenter", "lwganet-l0"))
    before = {name: value.clone() for name, value in deployed.state_dict().items()}
    with pytest.raises(archs.ArchError, match="load it first"):
        archs.load_official(deployed, path)
    backbone = archs.deployment.fold(form("segmenter", "lwganet-l0")).encoder  # taken out, it does not know of it
    with pytest.raises(archs.ArchError, match="in the file, not in the network"):
        archs.load_official(backbone, path)
    torch.testing.assert_close(dict(deployed.state_dict()), before)


def test_a_file_of_other_bands_says_so(tmp_path):
    model = archs.create("lwganet-l0", in_channels=4)
    with pytest.raises(archs.ArchError, match=r"was made for 3 bands and this \w+ takes 4"):
        archs.load_official(model, saved(tmp_path, official("lwganet_l0.tsv")))


def test_safetensors_and_half_precision_are_taken(tmp_path):
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in official("lwganet_l0.tsv").items()
    }
    path = tmp_path / "official.safetensors"
    save_file(half, path)
    model = form("segmenter", "lwganet-l0")
    report = archs.load_official(model, path)
    assert report.wrapper == ""
    assert_loaded(model, "lwganet-l0", half, "encoder.")
    assert all(tensor.dtype != torch.float16 for tensor in model.state_dict().values())


def test_batch_counters_come_along_and_the_constant_kernel_does_not(tmp_path):
    model = form("backbone", "lwganet-l0")
    report = archs.load_official(model, saved(tmp_path, official("lwganet_l0.tsv")))
    assert model.trunk.stem.norm.num_batches_tracked == 7
    assert any(name.endswith("max_m2.filt") for name in report.ignored)


def test_other_parts_of_a_whole_network_are_ignored(tmp_path):
    state = official("lemevit_tiny_backbone.tsv")
    whole = {f"backbone.{name}": value for name, value in state.items()}
    whole |= {"decode_head.conv_seg.weight": torch.zeros(5, 512, 1, 1), "auxiliary_head.conv_seg.bias": torch.zeros(5)}
    whole |= {f"backbone.extra_norms.{i}.weight": torch.zeros(64) for i in range(4)}
    report = archs.load_official(form("backbone", "lemevit-tiny"), saved(tmp_path, {"state_dict": whole}))
    assert sorted({name.partition(".")[0] for name in report.ignored}) == [
        "auxiliary_head",
        "decode_head",
        "extra_norms",
    ]


def test_the_report_says_what_happened(tmp_path):
    report = archs.load_official(form("backbone", "lwganet-l0"), saved(tmp_path, official("lwganet_l0.tsv")))
    assert "official.pth loaded" in str(report)
    assert "(norms)" in str(report)
    assert "head" in str(report)


# What does not fit


@pytest.mark.parametrize(
    ("name", "file", "example"),
    [
        ("lwganet-l0", "lwganet_l1.tsv", r"Stem.proj.weight: 64x3x4x4 in the file, 32x3x4x4 in the network"),
        ("lwganet-l0", "lwganet_l2.tsv", r"stages.2.blocks.3.mlp.0.weight: in the file, not in the network"),
        ("lemevit-tiny", "lemevit_small.tsv", r"stages.3.7.attn.qkv.weight: not in the file"),
    ],
)
def test_another_variant_is_refused_with_the_list(tmp_path, name, file, example):
    model = form("segmenter", name)
    before = snapshot(model)
    with pytest.raises(archs.ArchError, match=example):
        archs.load_official(model, saved(tmp_path, {"model": official(file)}))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_one_missing_tensor_is_named_and_nothing_is_loaded(tmp_path):
    state = dict(official("lemevit_tiny.tsv"))
    del state["stages.3.5.attn.qkv.bias"]
    state["downsample_layers.0.0.weight"] = "no tensor"
    model = form("backbone", "lemevit-tiny")
    before = snapshot(model)
    with pytest.raises(archs.ArchError) as caught:
        archs.load_official(model, saved(tmp_path, {"model": state}))
    assert str(caught.value).splitlines()[1:] == [
        "  downsample_layers.0.0.weight: str in the file, 32x3x3x3 in the network",
        "  stages.3.5.attn.qkv.bias: not in the file",
    ]
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_half_a_set_of_output_norms_is_refused(tmp_path):
    state = {key: value for key, value in official("lwganet_l0_backbone.tsv").items() if not key.startswith("norm4.")}
    with pytest.raises(archs.ArchError, match=r"4 tensors differ:\n  norm4.weight: not in the file"):
        archs.load_official(form("backbone", "lwganet-l0"), saved(tmp_path, state))


def test_another_family_is_refused(tmp_path):
    path = saved(tmp_path, {"model": official("lemevit_tiny.tsv")})
    with pytest.raises(archs.ArchError, match=r"another architecture.*none of the tensors of LWGANetEncoder"):
        archs.load_official(form("segmenter", "lwganet-l0"), path)
    with pytest.raises(archs.ArchError, match=r"no official checkpoint is known for LALEEncoder.*lwganet, lemevit"):
        archs.load_official(archs.create("lale-s1"), path)
    with pytest.raises(archs.ArchError, match="no official checkpoint is known for Linear"):
        archs.load_official(nn.Linear(1, 1), path)


def test_a_name_under_two_prefixes_is_refused():
    with pytest.raises(archs.ArchError, match=r"Stem.norm.weight twice"):
        unwrap({"state_dict": {"module.Stem.norm.weight": 1, "backbone.Stem.norm.weight": 2}})


# Files that are not what they say


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "mark"
    content = {"model": official("lwganet_l0.tsv"), "extra": Hostile(mark)}
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Hostile(mark)))
    for path in (saved(tmp_path, content), plain):
        with pytest.raises(archs.ArchError, match="refused: it holds more than tensors and plain data"):
            archs.load_official(form("backbone", "lwganet-l0"), path)
    assert not mark.exists()
    pickle.loads(plain.read_bytes())
    assert mark.exists()  # it would have run


def test_a_pickled_network_is_refused_by_name(tmp_path):
    path = saved(tmp_path, {"model": nn.Linear(2, 2)})
    with pytest.raises(archs.ArchError, match=r"torch.nn.modules.linear.Linear"):
        archs.load_official(form("backbone", "lwganet-l0"), path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_truncated_file_gets_a_sentence(tmp_path, suffix, share):
    path = tmp_path / f"official.{suffix}"
    state = official("lwganet_l0.tsv")
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(archs.ArchError, match=r"official\.\w+ is damaged or cut short"):
        archs.load_official(form("backbone", "lwganet-l0"), path)


def test_what_is_no_checkpoint_gets_a_sentence(tmp_path):
    model = form("backbone", "lwganet-l0")
    with pytest.raises(archs.ArchError, match=r"none.pth cannot be read: No such file"):
        archs.load_official(model, tmp_path / "none.pth")
    with pytest.raises(archs.ArchError, match="cannot be read"):
        archs.load_official(model, tmp_path)
    text = tmp_path / "text.pth"
    text.write_text("<!doctype html> not found")
    with pytest.raises(archs.ArchError, match=r"text.pth is (damaged|refused)"):
        archs.load_official(model, text)
    with pytest.raises(archs.ArchError, match="holds a list, not a dict"):
        archs.load_official(model, saved(tmp_path, [torch.zeros(1)]))
