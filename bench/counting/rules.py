"""What each operator of PyTorch costs: the one table behind every exact count.

Operators are those of ATen, as the dispatcher sees them, after composite functions (`linear`, `matmul`, `einsum`)
have been taken apart. Each falls into exactly one kind:

=============  ===============================================================================================
`mac`          multiply-accumulates: 1 for each multiplication whose product is summed; additions of a bias are
               not counted; attention counts both products over all pairs of queries and keys, masked or not
`norm`         element operations: batch norm with stored statistics 2 an element (scale, shift), without affine
               parameters 1; any norm that computes its statistics 5 an element, without affine parameters 4
`activation`   1 for each element written
`softmax`      5 for each element (maximum, difference, exponential, sum, quotient)
`resize`       for each element written: nearest 1, linear 2, bilinear 4, trilinear 8, bicubic 16
`pool`         the window's area for each element written; adaptive: 1 for each element read
`reduction`    1 for each element read; variance 3 (mean, squared difference, sum), vector norm 2 (square, sum)
`arithmetic`   1 for each element written
`movement`     copies, gathers, padding, fills: a launch and traffic, no arithmetic
`view`         another look at the same memory: nothing at all
`allocation`   uninitialised memory: nothing at all
`unknown`      anything else: counted as a launch and reported by name, since its arithmetic would be missing
=============  ===============================================================================================

Only `mac` enters a MAC count; the others are kept apart for readers who want to add them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

Arguments = Mapping[str, Any]  # an operator's arguments by the names of its schema
Rule = Callable[[Arguments, Tensor], int]  # from the arguments and the first output to a number of operations


@dataclass(frozen=True)
class OperatorCost:
    """The kind of an operator (see the module's table) and its number of operations of that kind."""

    kind: str
    operations: int


# --- multiply-accumulates -------------------------------------------------------------------------------------


def convolution_macs(a: Arguments, out: Tensor) -> int:
    """Every weight meets every output position; transposed, every input position. Padding counts as data."""
    positions = a["input"] if a["transposed"] else out
    return positions.numel() * prod(a["weight"].shape[1:])


def matrix_product_macs(left: str, right: str) -> Rule:
    """(..., m, k) @ (..., k, n): m * k * n for each matrix of the batch."""
    return lambda a, out: a[left].numel() * a[right].shape[-1]


def vector_product_macs(left: str) -> Rule:
    """Each element of the left operand (a matrix or a vector) is used once."""
    return lambda a, out: a[left].numel()


def linear_macs(a: Arguments, out: Tensor) -> int:
    """(..., k) with weight (n, k)."""
    return a["input"].numel() * a["weight"].shape[0]


def attention_macs(a: Arguments, out: Tensor) -> int:
    """Query (..., H, L, E), key (..., S, E), value (..., S, V), out (..., H, L, V): L * S * (E + V) a head."""
    heads = prod(out.shape[:-1]) // a["query"].shape[-2]
    keys = a["key"].shape[-2]
    return heads * a["query"].shape[-2] * keys * (a["query"].shape[-1] + a["value"].shape[-1])


def attention_macs_heads_last(a: Arguments, out: Tensor) -> int:
    """The same for the kernels that take (B, L, H, E)."""
    batch, queries, heads, width = a["query"].shape
    keys = a["key"].shape[1]
    return batch * heads * queries * keys * (width + a["value"].shape[-1])


MAC_RULES: dict[str, Rule] = {
    "convolution": convolution_macs,
    "linear": linear_macs,
    "mm": matrix_product_macs("self", "mat2"),
    "addmm": matrix_product_macs("mat1", "mat2"),
    "bmm": matrix_product_macs("self", "mat2"),
    "baddbmm": matrix_product_macs("batch1", "batch2"),
    "addbmm": matrix_product_macs("batch1", "batch2"),
    "_scaled_mm": matrix_product_macs("self", "mat2"),
    "mv": vector_product_macs("self"),
    "addmv": vector_product_macs("mat"),
    "dot": vector_product_macs("self"),
    "vdot": vector_product_macs("self"),
    "scaled_dot_product_attention": attention_macs,
    "_scaled_dot_product_flash_attention": attention_macs,
    "_scaled_dot_product_flash_attention_for_cpu": attention_macs,
    "_scaled_dot_product_efficient_attention": attention_macs,
    "_scaled_dot_product_cudnn_attention": attention_macs,
    "_scaled_dot_product_fused_attention_overrideable": attention_macs,
    "_flash_attention_forward": attention_macs_heads_last,
    "_efficient_attention_forward": attention_macs_heads_last,
}

# --- element operations ---------------------------------------------------------------------------------------


def _written(times: int) -> Rule:
    return lambda a, out: times * out.numel()


def _read(times: int) -> Rule:
    return lambda a, out: times * _first_tensor(a).numel()


def _first_tensor(a: Arguments) -> Tensor:
    return next(value for value in a.values() if isinstance(value, Tensor))


def _batch_norm(a: Arguments, out: Tensor) -> int:
    statistics = 3 if a.get("training", False) else 0
    return out.numel() * (statistics + (2 if a["weight"] is not None else 1))


def _norm_with_statistics(a: Arguments, out: Tensor) -> int:
    return out.numel() * (5 if a["weight"] is not None else 4)


def _window(dimensions: int) -> Rule:
    def rule(a: Arguments, out: Tensor) -> int:
        size = list(a["kernel_size"])
        return out.numel() * prod(size * dimensions if len(size) == 1 else size)

    return rule


def _named(kind: str, rule: Rule, names: str) -> dict[str, tuple[str, Rule]]:
    return dict.fromkeys(names.split(), (kind, rule))


ELEMENT_RULES: dict[str, tuple[str, Rule]] = {
    **_named(
        "norm",
        _batch_norm,
        "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit "
        "_native_batch_norm_legit_no_training _batch_norm_no_update _batch_norm_with_update",
    ),
    **_named("norm", _norm_with_statistics, "native_layer_norm native_group_norm _fused_rms_norm"),
    **_named(
        "activation",
        _written(1),
        "relu relu6 leaky_relu prelu _prelu_kernel rrelu_with_noise elu celu selu gelu silu mish sigmoid tanh "
        "hardswish hardsigmoid hardtanh softplus log_sigmoid_forward threshold softshrink hardshrink glu",
    ),
    **_named("softmax", _written(5), "_softmax _safe_softmax _log_softmax"),
    **_named("resize", _written(1), "upsample_nearest1d upsample_nearest2d upsample_nearest3d"),
    **_named("resize", _written(1), "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"),
    **_named("resize", _written(2), "upsample_linear1d"),
    **_named("resize", _written(4), "upsample_bilinear2d _upsample_bilinear2d_aa grid_sampler_2d"),
    **_named("resize", _written(8), "upsample_trilinear3d grid_sampler_3d"),
    **_named("resize", _written(16), "upsample_bicubic2d _upsample_bicubic2d_aa"),
    **_named("pool", _window(1), "avg_pool1d"),
    **_named("pool", _window(2), "avg_pool2d max_pool2d_with_indices"),
    **_named("pool", _window(3), "avg_pool3d max_pool3d_with_indices"),
    **_named(
        "pool",
        _read(1),
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d",
    ),
    **_named(
        "reduction",
        _read(1),
        "sum mean amax amin aminmax max min prod argmax argmin any all cumsum cumprod logsumexp nansum topk sort "
        "logcumsumexp cummax cummin",
    ),
    **_named("reduction", _read(2), "linalg_vector_norm norm"),
    **_named("reduction", _read(3), "var std var_mean std_mean"),
}


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


MOVEMENT = _set(
    "clone copy _to_copy contiguous cat stack constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d index index_put index_select index_copy gather scatter "
    "take masked_fill masked_select masked_scatter slice_scatter select_scatter roll flip rot90 repeat tile eye "
    "repeat_interleave pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im "
    "embedding zero fill full full_like zeros zeros_like ones ones_like new_zeros new_ones new_full arange linspace "
    "tril triu tril_indices triu_indices scalar_tensor one_hot nonzero permute_copy view_copy expand_copy "
    "bernoulli uniform normal rand randn rand_like randn_like randint randperm native_dropout dropout"
)
# Views whose schema does not say so, and results that share the memory of an argument.
VIEWS = _set(
    "_unsafe_view _reshape_alias as_strided lift_fresh lift detach alias resolve_conj resolve_neg unsafe_split "
    "unsafe_split_with_sizes unsafe_chunk"
)
ALLOCATIONS = _set("empty empty_like empty_strided new_empty new_empty_strided resize")


def operator_name(func: Any) -> str:
    """`aten.relu_.default` and `aten.relu.default` are both `relu`; other libraries keep their namespace."""
    namespace, name = func._schema.name.split("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return name if namespace == "aten" else f"{namespace}::{name}"


def is_view(func: Any) -> bool:
    """Whether an operator gives another look at its argument's memory."""
    return func.is_view or operator_name(func) in VIEWS


def written_tensors(operator: str, arguments: Arguments, results: list[Tensor]) -> list[Tensor]:
    """What a call really writes: batch norm with stored statistics returns no new ones on any device but meta."""
    stored = operator == "native_batch_norm" and not arguments["training"]
    return results[:1] if stored else results


def cost(func: Any, arguments: Arguments, out: Tensor | None) -> OperatorCost:
    """The cost of one call: `arguments` by schema name, `out` the first tensor it returns."""
    name = operator_name(func)
    if is_view(func):
        return OperatorCost("view", 0)
    if name in ALLOCATIONS:
        return OperatorCost("allocation", 0)
    if name in MOVEMENT:
        return OperatorCost("movement", 0)
    if out is None:
        return OperatorCost("unknown", 0)
    return _arithmetic(func, name, arguments, out)


def _arithmetic(func: Any, name: str, arguments: Arguments, out: Tensor) -> OperatorCost:
    if name in MAC_RULES:
        return OperatorCost("mac", MAC_RULES[name](arguments, out))
    if name in ELEMENT_RULES:
        kind, rule = ELEMENT_RULES[name]
        return OperatorCost(kind, rule(arguments, out))
    if torch.Tag.pointwise in func.tags:
        return OperatorCost("arithmetic", out.numel())
    return OperatorCost("unknown", 0)
