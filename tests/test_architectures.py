"""The conformance kit over the whole registry: a class an entry, and the table of what the entries cannot.

Entries that share a thin network (they differ in depths and widths alone) are tried with arithmetic and compilers once.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from representatives import QUICK, marks

import archs
from archs.testing import ArchitectureTestCase, ShapeTestCase, macs
from bench.counting import count_macs

TABLE = Path(__file__).parents[1] / "results" / "conformance.md"

# By pattern of names; of each, the first that fits. What the words mean is said in `ArchitectureTestCase`.
THIN = {
    "lale-*": {"depths": (1, 1, 1, 1)},
    "lwganet-*": {"depths": (1, 1, 1, 1), "stem_width": 32, "encoder.act": "gelu", "drop_path": 0.1},
    "lemevit-*": {"depths": (1, 1, 1, 1, 1), "widths": (32, 32, 64, 64, 96)},
    "lemore": {"encoder.image_size": 128, "blocks": 1},
    "lemore+*": {"image_size": 128},
    "smp/dpt-deit3*": {"encoder_name": "deit3_small_patch16_224", "image_size": 64},
    "smp/dpt-maxvit*": {"image_size": 64},
    "smp/dpt-efficientformer*": {"encoder_name": "efficientformer_l1"},
    "smp/dpt-fastvit*": {"encoder_name": "fastvit_sa12"},
    "smp/unet-*": {},
    "smp/*-efficientnet_b0": {"encoder_name": "resnet18"},
}
SIDE = {"lemore*": 128}  # on 64, the pooled map has one pixel, and attention over one pixel learns nothing
UNUSED_BY_LEMEVIT = (  # the dense form keeps what only the classifier reads
    "encoder.stages.3.transition.*",
    "encoder.stages.4.transition.*",
    "encoder.stages.2.blocks.0.attention.meta_out.*",
    "encoder.norm.*",
    "encoder.norm_meta.*",
)
WITHOUT_GRADIENT = {
    "lemevit-*": UNUSED_BY_LEMEVIT,
    "smp/dpt-*": tuple(f"network.encoder.model.{part}*" for part in ("norm.", "head", "final_conv.")),  # the classifier
    "smp/unet-*": ("network.encoder._conv_head.*", "network.encoder._bn1.*"),  # the classifier's last layer, left on
    "smp/pan-*": ("network.decoder.fpa.down3.2.conv.bias",),  # before a batch norm over two pixels
}
CANNOT = {
    "smp/dpt-efficientformer*": {
        "export": "timm keeps its attention biases in a plain dict, which export refuses to see assigned",
    },
    "smp/dpt-maxvit*": {
        "work_grows_with_the_batch": "timm looks its position biases up by matrix products, once for a whole batch",
    },
}
COMPILED = (
    "lale-s1",
    "lwganet-l0+mlp",
    "lemevit-base+mlp",
    "lemore+mlp",
    "smp/linknet-efficientnet_b0",
    "smp/dpt-deit3_base_patch16_224",
    "timm/convnext_atto+mlp",
)


def of(name, table, otherwise):
    return next((value for pattern, value in table.items() if fnmatchcase(name, pattern)), otherwise)


class Shapes(ShapeTestCase):
    """What every entry is tried on."""

    def test_registered_rule_is_the_networks_own(self):
        """Entries of libraries state their rule in the registry; the network asks the library."""
        rule = getattr(self._whole, "rule", None) or getattr(getattr(self._whole, "encoder", None), "rule", None)
        if rule is not None:
            self.assertEqual((rule.fixed, rule.minimum), (self.inputs.fixed, self.inputs.minimum))


def _must_fail(test: Callable[[Shapes], None]) -> Callable[[Shapes], None]:
    """The test of a property that is said not to hold: one that does hold is a wrong table."""

    def reversed_test(self: Shapes) -> None:
        with _no_subtests(self):
            try:
                test(self)
            except Exception:  # whatever it raises, the property does not hold
                return
        self.fail(f"{test.__name__} holds; take it out of `cannot`")

    reversed_test.__doc__ = test.__doc__
    return reversed_test


@contextmanager
def _no_subtests(case: Any) -> Iterator[None]:
    """Let a failure inside a subtest stop the test: a subtest would report it and go on."""

    @contextmanager
    def plain(**_: Any) -> Iterator[None]:
        yield

    case.subTest = plain
    try:
        yield
    finally:
        del case.subTest


class Everything(ArchitectureTestCase, Shapes):
    """What one entry of each code is tried on.

    `cannot` says of a property (a test's name without `test_`) why it does not hold: such a test must fail.
    """

    cannot: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls.cannot:
            setattr(cls, f"test_{name}", _must_fail(getattr(cls, f"test_{name}")))

    def test_the_exact_counter_agrees_with_pytorchs(self):
        """Multiply-accumulates by our rule table are half of what PyTorch's own counter calls FLOPs."""
        self.assertEqual(count_macs(self._thin, self.thin_size()).total, macs(self._thin, self.thin_size()))


class Compiled(Everything):
    """What one entry of each family is tried on besides: it takes half a minute."""

    @pytest.mark.slow
    def test_full_compiler(self):
        """`torch.compile` with its own backend gives the same logits."""
        model, x = self.network(), self.images(1)
        torch.compiler.reset()
        with torch.no_grad():
            self.assert_close(torch.compile(model)(x), model(x), 1e-4)


def _class_of(name, bases, **attributes):
    entry = archs.entry(name)
    return type(
        name,
        bases,
        {
            "config": entry.config,
            "inputs": entry.inputs,
            "checks": entry.checks,
            "pytestmark": list(marks(name)),
            "thin": of(name, THIN, {}),
            "side": of(name, SIDE, 64),
            "without_gradient": of(name, WITHOUT_GRADIENT, ()),
            "__module__": __name__,
            **attributes,
        },
    )


def _generate():
    seen = set()
    for name in archs.names():
        code = json.dumps(archs.to_dict(archs.override(archs.entry(name).config, **of(name, THIN, {}))))
        if code in seen:
            yield _class_of(name, (Shapes,))
        else:
            seen.add(code)
            yield _class_of(name, (Compiled if name in COMPILED else Everything,), cannot=of(name, CANNOT, {}))


CASES = {case.__name__: case for case in _generate()}
globals().update({f"Test_{name}": case for name, case in CASES.items()})
del Compiled, Everything, Shapes


# The table


def table():
    """What an entry takes, and what it cannot: each property is tried by the classes above."""
    lines = [
        "# What each architecture takes, and what it cannot",
        "",
        "Made and checked by `tests/test_architectures.py`. All take any number of channels and classes, run in "
        "bfloat16 autocast and channels-last, under `torch.compile` and through `torch.export`, except as said here.",
        "",
        "| architecture | images | smallest batch that trains | cannot |",
        "| --- | --- | --- | --- |",
    ]
    for name in archs.names():
        inputs = archs.entry(name).inputs
        images = str(inputs) + (f" ({inputs.note})" if inputs.note else "")
        reasons = "; ".join(f"{what.replace('_', ' ')}: {why}" for what, why in of(name, CANNOT, {}).items())
        lines.append(f"| {name} | {images} | {inputs.min_train_batch} | {reasons} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_up_to_date():
    found = table()
    if not TABLE.exists() or TABLE.read_text(encoding="utf-8") != found:
        made = TABLE.with_suffix(".found.md")
        made.write_text(found, encoding="utf-8")
        raise AssertionError(f"{TABLE.name} is out of date; what it should say is in {made}")


def test_every_pattern_of_these_tables_is_used():
    for pattern in (*THIN, *SIDE, *WITHOUT_GRADIENT, *CANNOT, *COMPILED, *QUICK):
        assert archs.names(pattern), pattern
    assert sum(hasattr(case, "test_full_compiler") for case in CASES.values()) == len(COMPILED)
