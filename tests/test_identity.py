"""Keys: what a network is, what data hold; fields at their default, names and colours change none."""

import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import archs
from bench.counting.cells import static_cell
from bench.data import open_data
from bench.data.dataset import assemble
from bench.records import fingerprint as fingerprint_module
from bench.records import source as source_module
from bench.records.fingerprint import network_fingerprint
from bench.records.identity import changed_fields
from bench.records.source import normalised
from bench.speed.cells import speed_cell
from bench.speed.protocol import SpeedProtocol
from bench.training.cells import train_cell
from bench.training.recipe import Recipe, recipe_named

PLUGIN = '''
"""A network of a user's own."""
from dataclasses import dataclass
from typing import ClassVar

import archs
from torch import nn

KERNELS = {"body": 3}


def body(width):
    """A block."""
    return nn.Conv2d(width, width, KERNELS["body"], padding=1)


class Net(nn.Module):
    gain = 2

    def __init__(self, width, num_classes, in_channels):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 1)
        self.body = body(width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        return self.gain * self.head(self.body(self.stem(x)).relu())


@dataclass(frozen=True)
class MyConfig:
    family: ClassVar[str] = "mine"
    width: int = 8

    def build(self, num_classes, in_channels):
        return Net(self.width, num_classes, in_channels)
'''


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("LALE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprint_module, "_remembered", {})


def fingerprint_of(source, folder):
    """The fingerprint of the plug-in `source`, loaded as the command line loads plug-ins."""
    import runpy

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"plugin{len(list(folder.iterdir()))}.py"
    path.write_text(textwrap.dedent(source))
    return network_fingerprint(runpy.run_path(str(path))["MyConfig"](), 5, 3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.head(self.body", "self.head(0.5 * self.body"),  # what forward does
        (".relu()", ".tanh()"),
        ("gain = 2", "gain = 3"),  # an attribute of a class
        ('"body": 3', '"body": 5'),  # a constant that a function reads
        ("padding=1)", "padding=1, bias=False)"),  # another tensor
        ("self.head = ", "self.extra = nn.Conv2d(width, width, 1)\n        self.head = "),  # a layer, same fields
        ("padding=1)", "padding=1, padding_mode='reflect')"),  # same tensors
    ],
)
def test_an_edited_network_is_another(tmp_path, old, new):
    assert old in PLUGIN
    assert fingerprint_of(PLUGIN, tmp_path) != fingerprint_of(PLUGIN.replace(old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A block."""', '"""Another sentence."""  # and a comment'),
        ("def body(width):", "def body(\n    width\n):"),
        ('KERNELS["body"]', "KERNELS['body']"),
        ("    width: int = 8\n", "    width: int = 8\n    unused: int = 3\n"),  # a field with a default
        ("KERNELS = ", "UNUSED = 7\nKERNELS = "),
    ],
)
def test_comments_layout_and_new_defaults_are_no_change(tmp_path, old, new):
    assert old in PLUGIN
    assert fingerprint_of(PLUGIN, tmp_path) == fingerprint_of(PLUGIN.replace(old, new), tmp_path)


def test_the_same_tokens_under_every_python_there_is(tmp_path):
    """f-strings are one token up to Python 3.11 and several later: here they are one word."""
    text = "def f(x):\n    '''Doc.'''\n    y = f'{x!r:>{4}} a{{b' + 'c'  # note\n    return {y: \"d\"}\n"
    expected = "def f ( x ) : \n <indent> y = f'{x!r:>{4}} a{{b' + 'c' \n return { y : 'd' } \n <dedent>"
    assert normalised(text) == expected
    script = tmp_path / "tokens.py"
    script.write_text(Path(source_module.__file__).read_text() + f"\nprint(normalised({text!r}), end='')\n")
    found = [shutil.which(f"python3.{minor}") for minor in range(11, 15)]
    for python in filter(_runs, [sys.executable, *filter(None, found)]):
        assert subprocess.run([python, script], capture_output=True, text=True, check=True).stdout == expected


def _runs(python):
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def test_ours_are_kept_in_the_cache_and_told_apart(own_cache, tmp_path):
    first = network_fingerprint(archs.config("lale-s1"), 7, 3)
    assert len(list((tmp_path / "cache" / "networks").iterdir())) == 1
    fingerprint_module._remembered.clear()
    assert network_fingerprint(archs.config("lale-s1"), 7, 3) == first  # from the file
    assert network_fingerprint(archs.config("lale-s1"), 7, 4) != first
    assert network_fingerprint(archs.config("lale-s2"), 7, 3) != first


def test_building_a_fingerprint_draws_no_random_number(own_cache):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    network_fingerprint(archs.config("lale-s1"), 7, 3)
    assert torch.rand(1) == expected


def test_a_revision_changes_the_fingerprint(own_cache):
    @dataclass(frozen=True)
    class Revised:
        family: ClassVar[str] = "revised"
        revision: ClassVar[int] = 1

        def build(self, num_classes, in_channels):
            return nn.Conv2d(in_channels, num_classes, 1)

    before = network_fingerprint(Revised(), 7, 3)
    Revised.revision = 2
    assert network_fingerprint(Revised(), 7, 3) != before


def test_a_field_with_a_default_that_comes_later_changes_no_key():
    config = archs.config("lale-s1", depths=(1, 2, 1, 1))
    later = make_dataclass(
        "LALEConfig", [("added", int, 0)], bases=(type(config),), frozen=True, namespace={"family": "lale"}
    )(**{field.name: getattr(config, field.name) for field in fields(config)})
    assert archs.to_dict(config, defaults=False) == {"family": "lale", "depths": [1, 2, 1, 1]}
    assert archs.to_dict(later, defaults=False) == archs.to_dict(config, defaults=False)
    assert archs.from_dict(archs.to_dict(config, defaults=False)) == config


@pytest.mark.parametrize("setting", [recipe_named("quick"), Recipe(), SpeedProtocol(batch=8)])
def test_settings_are_told_by_what_is_not_default(setting):
    changed = changed_fields(setting)
    again = replace(type(setting)(), **changed)
    assert again.to_dict() == setting.to_dict()
    assert all(getattr(type(setting)(), name) != value for name, value in changed.items())


def test_a_data_set_is_its_pixels_and_classes():
    data = open_data("terrain:size=32,train=4,val=2,test=2")
    renamed = replace(data, name="another folder")
    repainted = assemble(
        data.name, replace(data.classes, colours=tuple((9, 9, i) for i in range(7))), data.splits.values()
    )
    other_classes = assemble(
        data.name, replace(data.classes, names=(*data.classes.names[:-1], "Sea")), data.splits.values()
    )
    key = _train_key(data)
    assert _train_key(renamed) == _train_key(repainted) == key
    assert _train_key(other_classes) != key
    assert _train_key(open_data("terrain:size=32,train=4,val=2,test=2,seed=1")) != key


def _train_key(data):
    return train_cell(archs.config("lale-s1"), "any", data, recipe_named("smoke"), 0, "cpu").key


def test_speed_depends_on_the_libraries_in_the_network():
    configs = {"ours": archs.config("lale-s1")}
    ours = speed_cell(configs, (64, 64), 7, SpeedProtocol(), "cpu")
    smp = speed_cell({**configs, "smp": archs.config("smp/unet-resnet18")}, (64, 64), 7, SpeedProtocol(), "cpu")
    assert set(ours.determinants["versions"]) == {"torch"}
    assert set(smp.determinants["versions"]) == {"torch", "timm", "segmentation-models-pytorch"}


def test_a_record_tells_in_full_what_its_key_leaves_out():
    cell = static_cell(archs.config("lale-s1"), "any", (64, 64), 7)
    assert cell.determinants["config"] == {"family": "lale"}
    assert cell.about["config"] == archs.to_dict(archs.config("lale-s1"))
