"""What really runs in one forward pass, operator by operator, without doing any arithmetic."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archs.errors import first_line
from archs.meta import images_for, meta_copy, result_on_meta
from bench.counting.memory import LiveBytes
from bench.counting.rules import OperatorCost, attention_macs, cost, operator_name, written_tensors
from bench.errors import BenchError


@dataclass(frozen=True)
class OperatorCall:
    """One operator of a forward pass: where it ran, what it cost, what it moved.

    `module` is the qualified name of the innermost module whose call it belongs to, `module_class` the name of that
    module's class and `scope` the modules around it, outermost first. `read_bytes` and `written_bytes` are those of
    its tensor arguments and results, caches not considered.
    """

    operator: str
    module: str
    module_class: str
    scope: tuple[str, ...]
    kind: str
    operations: int
    written: int
    written_bytes: int
    read_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 for operators of any other kind."""
        return self.operations if self.kind == "mac" else 0

    @property
    def launches(self) -> bool:
        """Whether it does work of its own: a kernel on a GPU, a loop on a CPU."""
        return self.kind not in ("view", "allocation")


@dataclass(frozen=True)
class Trace:
    """The operators of one forward pass, in order, and the peak of bytes alive besides the weights."""

    calls: tuple[OperatorCall, ...]
    peak_activation_bytes: int


def trace_forward(model: nn.Module, size: tuple[int, int], in_channels: int = 3, batch: int = 1) -> Trace:
    """Run `model` in eval mode on a `(batch, in_channels, H, W)` input of the meta device.

    Fused attention (`scaled_dot_product_attention`) is one operator, as on the devices that have a kernel for it.

    Raises:
        BenchError: the model cannot run without values (it reads a tensor's content, say), or not at this size.
    """
    recorder = _Recorder()
    try:
        bare = meta_copy(model)
        x = images_for(bare, size, in_channels, batch)
        recorder.live.pass_over([*bare.parameters(), *bare.buffers()])
        recorder.live.show([x])
        with torch.no_grad(), _following(bare, recorder), recorder, _FusedAttention(recorder):
            bare(x)
    except Exception as error:
        raise BenchError(_explain(model, size, in_channels, recorder.last, error)) from error
    return Trace(tuple(recorder.calls), recorder.live.peak)


def _explain(model: nn.Module, size: tuple[int, int], in_channels: int, last: str, error: Exception) -> str:
    where = f" after operator {last}" if last else ""
    return (
        f"{type(model).__name__} cannot be counted on a {in_channels} x {size[0]} x {size[1]} input: its forward "
        f"pass stopped on the meta device{where} ({first_line(error)}); check the size, and that no step "
        "needs a tensor's values"
    )


class _Recorder(TorchDispatchMode):
    """Writes down every operator that reaches the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[OperatorCall] = []
        self.scope: list[tuple[str, str]] = []
        self.live = LiveBytes()
        self.last = ""
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        self.last = operator_name(func)
        out = result_on_meta(func, args, kwargs)
        results = _tensors(out)
        named = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        price = cost(func, _with_defaults(func, named), next(iter(results), None))
        self.record(self.last, price, named, written_tensors(self.last, named, results))
        return out

    def record(self, operator: str, price: OperatorCost, arguments: dict[str, Any], results: list[Tensor]) -> None:
        module, module_class = self.scope[-1] if self.scope else ("", "")
        launched = price.kind not in ("view", "allocation")
        self.live.show(results)
        self.calls.append(
            OperatorCall(
                operator,
                module,
                module_class,
                tuple(name for name, _ in self.scope),
                price.kind,
                price.operations,
                written=sum(t.numel() for t in results) if launched else 0,
                written_bytes=sum(_bytes(t) for t in results) if launched else 0,
                read_bytes=sum(_bytes(t) for t in _tensors(arguments)) if launched else 0,
            )
        )

    @contextmanager
    def pause(self) -> Iterator[None]:
        self.paused = True
        try:
            yield
        finally:
            self.paused = False


class _FusedAttention(TorchFunctionMode):
    """Records fused attention as the one operator that it is.

    The meta device has no kernel for it and would take it apart into products, scalings and a softmax: the same MACs,
    but launches and traffic that no device shows.
    """

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or self.recorder.paused:
            return func(*args, **kwargs)
        named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
        self.recorder.last = "scaled_dot_product_attention"
        with self.recorder.pause():
            out = func(*args, **kwargs)
        self.recorder.record(self.recorder.last, OperatorCost("mac", attention_macs(named, out)), named, [out])
        return out


@contextmanager
def _following(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep `recorder.scope` at the modules that are being called; a shared module goes by its first name."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            enter = partial(_enter, recorder, (name, type(module).__name__))
            stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            stack.callback(module.register_forward_hook(partial(_leave, recorder), always_call=True).remove)
        yield


def _enter(recorder: _Recorder, label: tuple[str, str], module: nn.Module, args: Any) -> None:
    recorder.scope.append(label)


def _leave(recorder: _Recorder, module: nn.Module, args: Any, out: Any) -> None:
    recorder.scope.pop()


def _with_defaults(func: Any, named: dict[str, Any]) -> dict[str, Any]:
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return defaults | named


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    """Bytes that a pass over `tensor` touches: a broadcast (expanded) tensor is no larger than its memory."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def totals(pairs: Sequence[tuple[str, int]] | Iterator[tuple[str, int]]) -> dict[str, int]:
    """Sums by name, in order of first appearance, zero sums left out."""
    sums: dict[str, int] = {}
    for name, value in pairs:
        sums[name] = sums.get(name, 0) + value
    return {name: value for name, value in sums.items() if value}
