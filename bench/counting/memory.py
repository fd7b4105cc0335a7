"""Peak memory of inference and of training.

On a CUDA device: the allocator's own peak (`torch.cuda.max_memory_allocated`), kernels' scratch memory included. On a
CPU, which keeps no such figure: bytes of all tensors alive at a time, followed storage by storage through every
operator, forward and backward (`LiveBytes`); the same on every run, without scratch memory. Both include
weights, buffers and the input, so that a figure says what a device must hold."""

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from archs.errors import first_line
from bench.errors import BenchError


class LiveBytes:
    """Follows storages from the moment they are shown until they are freed.

    Works on any device, `meta` too, and gives the same figure on every run. It sees what PyTorch hands out as
    tensors, not the scratch memory that a kernel takes and gives back within one operator.
    """

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self._known = WeakIdKeyDictionary()

    def show(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages behind these tensors, each once, for as long as anything holds it."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage in self._known:
                continue
            size = storage.nbytes()
            self._known[storage] = size
            weakref.finalize(storage, self._freed, size).atexit = False
            self.now += size
        self.peak = max(self.peak, self.now)

    def pass_over(self, tensors: Iterable[Tensor]) -> None:
        """Leave the storages behind these tensors out, and with them every view of them (a transposed weight, say)."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()] = 0

    def _freed(self, size: int) -> None:
        self.now -= size


def peak_inference_bytes(
    model: nn.Module,
    size: tuple[int, int],
    batch: int = 1,
    device: torch.device | str = "cpu",
    in_channels: int = 3,
) -> int:
    """Peak bytes of one forward pass in eval mode on `(batch, in_channels, *size)` float32.

    Raises:
        BenchError: the model fails at this size, or memory runs out.
    """

    def run(network: nn.Module, x: Tensor) -> None:
        network.eval()
        with torch.no_grad():
            network(x)

    return _peak(run, model, size, batch, torch.device(device), in_channels)


def peak_training_bytes(
    model: nn.Module,
    size: tuple[int, int],
    batch: int = 1,
    device: torch.device | str = "cpu",
    in_channels: int = 3,
) -> int:
    """Peak bytes of two float32 training steps (the second has the optimiser's state beside everything else).

    A step: forward in training mode, auxiliary heads included, mean cross-entropy over pixels, backward, AdamW.

    Raises:
        BenchError: the model fails at this size, or memory runs out.
    """

    def run(network: nn.Module, x: Tensor) -> None:
        network.train()
        optimiser = torch.optim.AdamW(network.parameters())
        for _ in range(2):
            _loss(network, x).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return _peak(run, model, size, batch, torch.device(device), in_channels)


def _loss(network: nn.Module, x: Tensor) -> Tensor:
    forward = getattr(network, "forward_aux", None)
    logits, auxiliary = forward(x) if forward else (network(x), [])
    target = torch.zeros_like(logits[:, 0], dtype=torch.long)
    main = nn.functional.cross_entropy(logits, target)
    return main + sum(weight * nn.functional.cross_entropy(aux, target) for weight, aux in auxiliary)


def _peak(
    run: Callable[[nn.Module, Tensor], None],
    model: nn.Module,
    size: tuple[int, int],
    batch: int,
    device: torch.device,
    in_channels: int,
) -> int:
    measure = _peak_on_cuda if device.type == "cuda" else _peak_of_tensors
    try:
        x = torch.zeros(batch, in_channels, *size, device=device)
        return measure(run, copy.deepcopy(model).to(device), x, device)
    except Exception as error:
        raise BenchError(
            f"the memory of {type(model).__name__} cannot be measured at batch {batch} of "
            f"{in_channels} x {size[0]} x {size[1]} on {device} ({first_line(error)}); try a smaller batch or another "
            "size"
        ) from error


def _peak_on_cuda(run: Callable, network: nn.Module, x: Tensor, device: torch.device) -> int:
    """The allocator's peak less what others held before; weights and input were allocated already and are added."""
    own = sum(t.untyped_storage().nbytes() for t in _distinct([*network.parameters(), *network.buffers(), x]))
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run(network, x)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before + own


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    return list({tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}.values())


def _peak_of_tensors(run: Callable, network: nn.Module, x: Tensor, device: torch.device) -> int:
    live = LiveBytes()
    live.show([*network.parameters(), *network.buffers(), x])
    with _Watching(live):
        run(network, x)
    return live.peak


class _Watching(TorchDispatchMode):
    """Shows every operator's results to a `LiveBytes`."""

    def __init__(self, live: LiveBytes) -> None:
        super().__init__()
        self.live = live

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.live.show(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out
