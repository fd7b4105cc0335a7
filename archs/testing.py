"""A conformance kit: what every architecture here must do, as tests that an outside one inherits.

    from archs.testing import ArchitectureTestCase

    class TestMine(ArchitectureTestCase):
        config = MyConfig()

Runs under pytest and under unittest. What follows from shapes alone is tried on the meta device, at no cost; what
needs arithmetic on the smallest image that the network takes.
"""

import copy
import json
import tempfile
import unittest
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archs.errors import ArchError
from archs.fields import sides
from archs.meta import build_on_meta
from archs.registry import ArchConfig, Check, InputRule, override
from archs.saved import from_dict, to_dict

CLASSES, CHANNELS = 5, 3
PASSES = 6  # until every parameter has had a gradient: dropout and stochastic depth may starve some in one


class ShapeTestCase(unittest.TestCase):
    """The part of the battery that needs no arithmetic; attributes as in `ArchitectureTestCase`."""

    _whole: ClassVar[Any]
    __test__ = False  # for pytest: the battery without an architecture is no test

    config: ClassVar[ArchConfig]
    inputs: ClassVar[InputRule] = InputRule()
    checks: ClassVar[tuple[Check, ...]] = ()
    thin: ClassVar[Mapping[str, Any]] = {}
    side: ClassVar[int] = 64
    without_gradient: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__test__ = hasattr(cls, "config")

    @classmethod
    def setUpClass(cls) -> None:
        """Refuse to run without an architecture."""
        if not hasattr(cls, "config"):
            raise unittest.SkipTest("no architecture: set `config` in a subclass")
        cls._whole = on_meta(cls.config)

    def test_config_survives_json(self) -> None:
        """The config is hashable, frozen data that a file can hold."""
        plain = json.loads(json.dumps(to_dict(self.config)))
        self.assertEqual(from_dict(plain), self.config)
        self.assertEqual(hash(from_dict(plain)), hash(self.config))

    def test_logits_have_the_images_size(self) -> None:
        """`(N, C, H, W)` to `(N, K, H, W)` at the smallest usual size."""
        self.check_logits(self._whole, self.smallest())

    def test_other_sizes_get_a_sentence(self) -> None:
        """An image that does not fit the declared rule is refused by the network itself, as `ArchError`."""
        for height, width in self.misfits():
            with self.subTest(size=(height, width)), self.assertRaises(ArchError):
                self._whole(torch.empty(2, CHANNELS, height, width, device="meta"))

    def test_parts_cover_the_network(self) -> None:
        """`parts()`, where there is one, holds every layer once."""
        if not hasattr(self._whole, "parts"):
            self.skipTest("no parts()")
        counted = [id(parameter) for part in self._whole.parts().values() for parameter in part.parameters()]
        self.assertEqual(len(counted), len(set(counted)))
        layers = [module for module in self._whole.modules() if next(module.children(), None) is None]
        self.assertFalse({id(p) for layer in layers for p in layer.parameters()} - set(counted))

    def test_declared_figures(self) -> None:
        """Parameters, and MACs by PyTorch's own counter on the meta device, where it misses no product."""
        counters = {
            "params": lambda model, size: sum(parameter.numel() for parameter in model.parameters()),
            "macs": macs,
        }
        for check in self.checks:
            if check.quantity in counters:
                with self.subTest(check=check):
                    found = counters[check.quantity](on_meta(self.config, check.num_classes), check.size)
                    self.assertLessEqual(abs(found - check.value), check.tolerance, f"found {found}")

    # What the tests are made of; a subclass may replace any

    @classmethod
    def thin_config(cls) -> ArchConfig:
        """The smaller config of the same code."""
        return override(cls.config, **cls.thin)

    def check_logits(
        self, model: nn.Module, size: tuple[int, int], channels: int = CHANNELS, classes: int = CLASSES
    ) -> None:
        """Logits of the image's size, from a network on the meta device."""
        with torch.no_grad():
            logits = model(torch.empty(2, channels, *size, device="meta"))
        self.assertEqual(tuple(logits.shape), (2, classes, *size))

    def smallest(self) -> tuple[int, int]:
        """The smallest usual size that the rule allows."""
        if self.inputs.fixed is not None:
            return self.inputs.fixed
        step = self.inputs.multiple_of
        side = -(-max(self.inputs.minimum, self.side) // step) * step
        return side, side

    def misfits(self) -> Iterator[tuple[int, int]]:
        """Sizes that the declared rule forbids, if it forbids any."""
        height, width = self.smallest()
        if self.inputs.fixed is not None:
            yield height + 32, width
            yield height, width - 1
        if self.inputs.minimum > 1:
            yield self.inputs.minimum - 1, self.inputs.minimum - 1
        if self.inputs.multiple_of > 1:
            yield height, width + 1


class ArchitectureTestCase(ShapeTestCase):
    """The battery. A subclass sets `config`, and whatever else differs from the defaults.

    Attributes:
        config: the architecture; its `build(num_classes, in_channels)` gives the network under test.
        inputs: the sizes of image and the smallest training batch that it declares.
        checks: figures that it must reproduce; "params" and "macs" are tried here.
        thin: fields of the config that make a smaller network of the same code, on which everything that takes time
            is tried; empty for the network itself.
        side: of the images that a network of any size is tried on.
        without_gradient: shell patterns of the parameters that the logits do not depend on.
    """

    _thin: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        """Build what all tests without arithmetic share."""
        super().setUpClass()
        cls._thin = on_meta(cls.thin_config())

    def test_declared_sizes(self) -> None:
        """The smallest image, odd sides, rectangles."""
        for height, width in self.sizes():
            with self.subTest(size=(height, width)):
                self.check_logits(self._thin, (height, width))

    def test_any_channels_and_classes(self) -> None:
        """1, 3 or 4 channels, 2 or 5 classes."""
        for channels, classes in ((1, 5), (3, 2), (4, 2)):
            with self.subTest(in_channels=channels, num_classes=classes):
                self.check_logits(on_meta(self.thin_config(), classes, channels), self.thin_size(), channels, classes)

    def test_work_grows_with_the_batch(self) -> None:
        """Two images take twice the multiply-accumulates of one: nothing is done for a batch as a whole."""
        one = macs(self._thin, self.thin_size())
        self.assertGreater(one, 0)
        self.assertEqual(macs(self._thin, self.thin_size(), batch=2), 2 * one)

    # With arithmetic

    def test_every_parameter_learns(self) -> None:
        """A gradient in every parameter but those declared to have none, and in none of those."""
        model = self.network().train()
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        exempt = {name for name in names if any(fnmatchcase(name, p) for p in self.without_gradient)}
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():  # a branch that starts with a gain of 0 would hide what is in it
                parameter.add_(0.02 * torch.randn_like(parameter))
        for _ in range(PASSES):
            self.loss(model).backward()
            silent = {name for name in names if not _learns(model.get_parameter(name))}
            if silent <= exempt:
                break
        self.assertEqual(silent, exempt)

    def test_images_do_not_meet(self) -> None:
        """In evaluation the logits of an image do not depend on the others of its batch, but on the image."""
        model, x = self.network(), self.images(2)
        with torch.no_grad():
            together = model(x)
            for i in range(len(x)):
                self.assert_close(model(x[i : i + 1]), together[i : i + 1], 1e-4)
        self.assertFalse(torch.allclose(together[0], together[1]))

    def test_evaluation_repeats(self) -> None:
        """Twice the same logits, and nothing of the network changed by it."""
        model, x = self.network(), self.images(2)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with torch.no_grad():
            self.assertTrue(torch.equal(model(x), model(x)))
        self.assertTrue(all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()))

    def test_weights_survive_a_file(self) -> None:
        """Saved as safetensors and loaded into another network of the config, or copied: the same logits."""
        model, other, x = self.network(), self.network(seed=1), self.images(1)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            self.assertFalse(torch.equal(other(x), model(x)))
            path = Path(folder) / "weights.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
            other.load_state_dict(load_file(path))
            self.assertTrue(torch.equal(other(x), model(x)))
            self.assertTrue(torch.equal(copy.deepcopy(model)(x), model(x)))

    def test_auxiliary_heads(self) -> None:
        """`forward_aux`, where there is one: the logits of `forward`, and weighted ones of the same shape."""
        model: Any = self.network()
        x = self.images(2)
        if not hasattr(model, "forward_aux"):
            self.skipTest("no forward_aux")
        with torch.no_grad():
            logits, heads = model.forward_aux(x)
            self.assertTrue(torch.equal(logits, model(x)))
        for weight, aux in heads:
            self.assertGreater(weight, 0)
            self.assertEqual(aux.shape, logits.shape)

    def test_smallest_training_batch(self) -> None:
        """A training step at the declared smallest batch, and none below it."""
        batch = self.inputs.min_train_batch
        model = self.network().train()
        self.loss(model, batch).backward()
        if batch > 1:
            with self.assertRaises(ValueError, msg=f"a batch of {batch - 1} trains too: declare it"):
                self.loss(model, batch - 1, self.least())

    def test_bfloat16_autocast(self) -> None:
        """Under autocast: finite logits near those of float32."""
        model, x = self.network(), self.images(2)
        with torch.no_grad():
            full = model(x)
            with torch.autocast("cpu", torch.bfloat16):
                half = model(x)
        self.assertTrue(half.isfinite().all())
        self.assertLess(((half.float() - full).norm() / full.norm()).item(), 0.1)

    def test_channels_last(self) -> None:
        """The same logits with channels innermost in memory."""
        model, x = self.network(), self.images(2)
        with torch.no_grad():
            plain = model(x)
            model = model.to(memory_format=torch.channels_last)
            self.assert_close(model(x.to(memory_format=torch.channels_last)), plain, 1e-4)

    # With a compiler

    def test_compile(self) -> None:
        """`torch.compile` follows the forward pass whole (backend "eager"), and the logits are the same."""
        model, x = self.network(), self.images(2)
        torch.compiler.reset()
        with torch.no_grad():
            self.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x), 1e-5)

    def test_export(self) -> None:
        """`torch.export` takes it, and the exported program gives the same logits."""
        model, x = self.network(), self.images(2)
        with torch.no_grad():
            program = torch.export.export(model, (x,))
            self.assert_close(program.module()(x), model(x), 1e-5)

    # What the tests are made of; a subclass may replace any

    def network(self, seed: int = 0) -> nn.Module:
        """The thin network with random weights, in evaluation form."""
        torch.manual_seed(seed)
        return self.thin_config().build(CLASSES, CHANNELS).eval()

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Sizes that the declared rule allows: the least, odd and rectangular ones."""
        height, width = self.thin_size()
        if self.inputs.fixed is not None:
            yield height, width
            return
        yield self.least()
        step = self.inputs.multiple_of
        yield height + step, width + 33 * step
        yield height + 35 * step, width + 2 * step

    def thin_size(self) -> tuple[int, int]:
        """Height and width that the thin network takes: its own where it is tied to one, else the smallest usual."""
        own = getattr(self.thin_config(), "image_size", None) if self.inputs.fixed else None
        return sides(own, self.smallest())

    def least(self) -> tuple[int, int]:
        """The smallest image that the rule allows."""
        if self.inputs.fixed is not None:
            return self.thin_size()
        step = self.inputs.multiple_of
        side = -(-self.inputs.minimum // step) * step
        return side, side

    def images(self, batch: int, size: tuple[int, int] | None = None) -> Tensor:
        """Random images for the thin network."""
        generator = torch.Generator().manual_seed(batch)
        return torch.randn(batch, CHANNELS, *(size or self.thin_size()), generator=generator)

    def loss(self, model: Any, batch: int | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """A number that depends on every logit, of the main and of the auxiliary heads."""
        x = self.images(batch or max(2, self.inputs.min_train_batch), size)
        logits, heads = model.forward_aux(x) if hasattr(model, "forward_aux") else (model(x), [])
        return sum((out * torch.randn_like(out)).sum() for out in (logits, *(aux for _, aux in heads)))

    def assert_close(self, found: Tensor, expected: Tensor, tolerance: float) -> None:
        """Equal within `tolerance` of the largest expected value."""
        worst = (found - expected).abs().max() / expected.abs().max()
        self.assertLess(worst.item(), tolerance)


def on_meta(config: ArchConfig, num_classes: int = CLASSES, in_channels: int = CHANNELS) -> nn.Module:
    """A network without values, in evaluation form."""
    return build_on_meta(config, num_classes, in_channels).to("meta").eval()


def macs(model: nn.Module, size: tuple[int, int], batch: int = 1) -> int:
    """Multiply-accumulates of a network on the meta device, by PyTorch's own counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(batch, CHANNELS, *size, device="meta"))
    return counter.get_total_flops() // 2


def _learns(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())
