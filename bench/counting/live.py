"""Which bytes of tensors are alive at a time."""

import weakref
from collections.abc import Iterable

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


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
