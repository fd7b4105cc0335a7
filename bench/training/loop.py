"""The parts of a training: the network at its start, and of one step the batch, the loss, the gradient, and the watch
for what is not finite.

Initial weights are drawn under a seed in the network's order, or each by its own name. In the network's order one layer
more moves every draw that follows, so that two variants of one seed begin as unlike as two seeds. By name they begin
alike wherever names and shapes agree. Losses are over logits (N, K, H, W) and class indices (N, H, W), computed in
float32, ignored pixels left out."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from archs import ArchConfig
from archs.segmenter import require_logits
from bench.errors import BenchError
from bench.training.augment import augment
from bench.training.evaluate import autocast
from bench.training.recipe import Recipe
from bench.training.tiles import Tiles, batch_indices, derive_seed, generator, seed_everything


def initial_network(config: ArchConfig, num_classes: int, in_channels: int, recipe: Recipe, seed: int) -> nn.Module:
    """The config's network with its initial weights under `seed`, drawn as the recipe's `init` says."""
    seed_everything(seed)
    if recipe.init == "order":
        return config.build(num_classes=num_classes, in_channels=in_channels)
    with _Writes() as writes:
        model = config.build(num_classes=num_classes, in_channels=in_channels)
    for name, parameter in model.named_parameters():
        torch.manual_seed(derive_seed(seed, f"init {name}"))
        writes.repeat(parameter)
    return model


class _Writes(TorchDispatchMode):
    """Remembers every operation that wrote into a tensor while a network was built, whoever's code it was.

    Repeated on a parameter under a seed of its own they draw it anew from its own distribution: libraries initialise
    in many ways, but all of them by writes such as `uniform_`, `erfinv_`, `mul_` (Kaiming, truncated normal). A
    parameter that was made from a random expression instead of written keeps its values.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[int, list[tuple[Any, Sequence[Any], Mapping[str, Any]]]] = defaultdict(list)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function._schema.is_mutable and args and isinstance(args[0], Tensor):
            self._of[_memory(args[0])].append((function, args, kwargs))  # holds the tensor, so no memory is used twice
        return function(*args, **kwargs)

    def repeat(self, parameter: nn.Parameter) -> None:
        """All writes into the memory of this parameter, once more, in their order."""
        with torch.no_grad():
            for function, args, kwargs in self._of[_memory(parameter)]:
                function(*args, **kwargs)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


Logits = Float[Tensor, "n k h w"]
Truth = UInt8[Tensor, "n h w"]
Loss = Callable[[Logits, Truth], Float[Tensor, ""]]


def dice_loss(logits: Logits, truth: Truth, ignore_index: int | None = None) -> Float[Tensor, ""]:
    """Multiclass soft Dice as the LALE authors use it.

    With p the softmax over classes and t the one-hot truth, sums running over all valid pixels of the batch:

        loss = 1/K * sum over classes k in the batch of (1 - 2 sum p_k t_k / (sum p_k + sum t_k))

    No smoothing. A class that no valid pixel of the batch has contributes zero to the sum, and the mean is still
    over all K classes. A batch without any valid pixel has loss 0.
    """
    classes = logits.shape[1]
    hit = _one_hot(truth, classes)  # (N, K, H, W); nothing is set at ignored pixels
    probability = logits.float().softmax(dim=1)
    overlap = (probability * hit).sum(dim=(0, 2, 3))
    predicted = probability if ignore_index is None else probability * (truth != ignore_index).unsqueeze(1)
    present = hit.sum(dim=(0, 2, 3))
    # An absent class is masked before the division, so that neither value nor gradient can become 0/0.
    size = torch.where(present > 0, predicted.sum(dim=(0, 2, 3)) + present, 1.0)
    return ((1.0 - 2.0 * overlap / size) * (present > 0)).sum() / classes


def _one_hot(truth: Truth, classes: int) -> Float[Tensor, "n k h w"]:
    index = torch.arange(classes, device=truth.device, dtype=truth.dtype).view(1, -1, 1, 1)
    return (truth.unsqueeze(1) == index).float()


def cross_entropy(logits: Logits, truth: Truth, ignore_index: int | None = None) -> Float[Tensor, ""]:
    """Mean cross-entropy over valid pixels; 0, and not 0/0, for a batch without any."""
    skip = -100 if ignore_index is None else ignore_index
    total = functional.cross_entropy(logits.float(), truth.long(), ignore_index=skip, reduction="sum")
    valid = truth.numel() if ignore_index is None else (truth != ignore_index).sum().clamp_min(1)
    return total / valid


def make_loss(recipe: Recipe, ignore_index: int | None) -> Loss:
    """The loss that the recipe names; "dice+ce" is the plain sum."""
    terms = [_TERMS[name] for name in recipe.loss.split("+")]

    def loss(logits: Logits, truth: Truth) -> Float[Tensor, ""]:
        return torch.stack([term(logits, truth, ignore_index) for term in terms]).sum()

    return loss


_TERMS = {"dice": dice_loss, "ce": cross_entropy}


READ_EVERY = 16
"""Steps between two reads of the loss from a GPU: each read waits until the device has caught up."""


def training_batch(
    tiles: Tiles, recipe: Recipe, seed: int, step: int
) -> tuple[Float[Tensor, "n b h w"], UInt8[Tensor, "n h w"]]:
    """The augmented batch of one step, the same for every network trained under this seed."""
    images, masks = tiles.take(batch_indices(seed, step, recipe.batch, len(tiles)))
    batch, masks = augment(images, masks, recipe, generator(seed, "augment", step), tiles.bands)
    return (batch if recipe.channels_last else batch.contiguous()), masks


def descend(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    recipe: Recipe,
    batch: Float[Tensor, "n b h w"],
    truth: UInt8[Tensor, "n h w"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; its loss and the norm of its gradient before clipping, both left on the device.

    Raises:
        BenchError: one image is too small a batch for a batch norm over one pixel.
    """
    optimiser.zero_grad(set_to_none=True)
    with autocast(batch.device, recipe.precision):
        value = _loss_or_sentence(model, loss, batch, truth)
    value.backward()
    limit = math.inf if recipe.clip is None else recipe.clip
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimiser.step()
    return value.detach(), norm


def _loss_or_sentence(
    model: nn.Module, loss: Loss, batch: Float[Tensor, "n b h w"], truth: UInt8[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    try:
        return _loss(model, loss, batch, truth)
    except ValueError as error:  # PyTorch's own, or a network's that knows its rule
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = batch.shape[-2:]
        raise BenchError(
            f"this network cannot train on a batch of {len(batch)} at {height}x{width}: its coarsest map has one "
            "pixel, of which a batch norm finds no variance; use --recipe batch=2 or larger tiles"
        ) from error


def _loss(model: Any, loss: Loss, batch: Float[Tensor, "n b h w"], truth: UInt8[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """The loss of the logits, and of each auxiliary head by its weight where the network has some."""
    if not hasattr(model, "forward_aux"):
        return loss(require_logits(model(batch), batch), truth)
    logits, auxiliary = model.forward_aux(batch)
    return loss(logits, truth) + sum(weight * loss(extra, truth) for weight, extra in auxiliary)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def seed_step(seed: int, step: int) -> None:
    """Reseed torch for what the network itself draws in this step (dropout, drop path)."""
    torch.manual_seed(derive_seed(seed, "step", step))


class LossWatch:
    """Sums the loss and remembers the first step that was not finite, on the device, read only now and then."""

    def __init__(self, device: torch.device, total: float) -> None:
        self.total = torch.tensor(total, dtype=torch.float64, device=device)
        self.failed_step = torch.zeros((), dtype=torch.int64, device=device)
        self.newest = math.nan
        """the loss as last read"""
        self.read_every = READ_EVERY if device.type == "cuda" else 1

    def add(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> None:
        """Take the loss and gradient norm of step `step` (from 1)."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self.failed_step = torch.where(finite | (self.failed_step > 0), self.failed_step, step)
        self.total += loss
        self.last = loss

    def failure(self) -> str:
        """Read from the device: a sentence about the first step that was not finite, or nothing."""
        self.newest = float(self.last)
        step = int(self.failed_step)
        return f"The loss or its gradient became non-finite at step {step}." if step else ""

    def restart(self) -> None:
        """Begin a new sum."""
        self.total.zero_()
