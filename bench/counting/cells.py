"""Every figure of a model that needs no running, as it trains and as it is deployed, and the cells that record them.

Studies and searches build their cells here, in `bench.speed.cells` and in `bench.training.cells` and nowhere else, so
that equal questions have equal keys and a figure measured for one answers all."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

import archs
from archs import ArchConfig
from archs.errors import ArchError, first_line
from archs.meta import build_on_meta, images_for, meta_copy
from archs.segmenter import require_logits
from bench.counting import (
    ForeignCount,
    MacCount,
    count_fvcore,
    count_macs,
    count_params,
    count_thop,
    measure_storage,
)
from bench.engine import Cell, CellContext
from bench.errors import BenchError
from bench.records.identity import network_determinants, network_libraries, versions


def static_figures(
    config_or_model: Any, size: tuple[int, int], num_classes: int = 7, in_channels: int = 3
) -> dict[str, Any]:
    """Count parameters, MACs (exact, fvcore, thop), traffic and storage of one image of `(in_channels, *size)`.

    Keys that begin with `deployed_` are of `archs.deploy(model)`, the same function in fewer operators, by the exact
    count alone: other counters are there to be compared with figures of papers, which are of the trained form.

    Args:
        config_or_model: a module, or a config that `archs.build` takes.
        num_classes: of the network that a config builds; a module has what it has.

    Returns:
        A dict of plain numbers, strings and dicts, ready for JSON. A counter that fails leaves `None` in its figures
        and its sentence in `failures`, under the counter's name; the other counters' figures stand.
    """
    if isinstance(config_or_model, nn.Module):
        return _figures(config_or_model, size, in_channels)
    found = _figures(build_on_meta(config_or_model, num_classes, in_channels), size, in_channels)
    if not found["failures"]:
        return found
    return _figures(archs.build(config_or_model, num_classes, in_channels), size, in_channels)


def refuse_other_output(model: nn.Module, size: tuple[int, int], in_channels: int = 3) -> None:
    """Find out whether a network returns logits of the image's size, before any figure of it is believed.

    Raises:
        BenchError: it returns something else.
    """
    x = images_for(model, size, in_channels)
    try:
        with torch.no_grad():
            output = meta_copy(model)(x)
    except Exception:  # each counter says for itself why it stopped
        return
    try:
        require_logits(output, x)
    except ArchError as error:
        raise BenchError(f"{type(model).__name__} cannot be measured: {error}") from None


def _figures(model: nn.Module, size: tuple[int, int], in_channels: int) -> dict[str, Any]:
    failures: dict[str, str] = {}

    def attempt(counter: str, count: Callable[[], Any]) -> Any:
        try:
            return count()
        except BenchError as error:
            failures[counter] = str(error)
            return None

    exact = attempt("macs", lambda: count_macs(model, size, in_channels))
    fvcore = attempt("fvcore", lambda: count_fvcore(model, size, in_channels))
    thop = attempt("thop", lambda: count_thop(model, size, in_channels))
    return {
        "size": list(size),
        "in_channels": in_channels,
        **_params(model),
        **_exact(exact),
        **_foreign("fvcore", fvcore),
        **_foreign("thop", thop),
        **_storage(model),
        **_deployed(model, size, in_channels, attempt),
        "failures": failures,
    }


DEPLOYED = ("deployed_params", "deployed_macs", "deployed_launches", "deployed_file_bytes")


def _deployed(
    model: nn.Module, size: tuple[int, int], in_channels: int, attempt: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
    """The figures of the deployed form that differ from the trained one's; all `None` where there is no such form."""
    network = attempt("deployed", lambda: deploy(meta_copy(model), size, in_channels))
    if network is None:
        return dict.fromkeys(DEPLOYED)
    exact = attempt("deployed macs", lambda: count_macs(network, size, in_channels))
    figures = (
        count_params(network).total,
        None if exact is None else exact.total,
        None if exact is None else exact.launches,
        measure_storage(network).file_bytes["float32"],
    )
    return dict(zip(DEPLOYED, figures, strict=True))


def deploy(model: nn.Module, size: tuple[int, int], in_channels: int) -> nn.Module:
    """`archs.deploy`, recorded at `size` where the network takes none of the sizes that show more of it.

    Raises:
        BenchError: the network has no deployed form.
    """
    try:
        return archs.deploy(model, in_channels=in_channels)
    except ArchError:
        pass
    except Exception as error:  # a network of anyone's, taken apart, may raise anything
        raise _no_deployed_form(model, error) from error
    try:
        return archs.deploy(model, size, in_channels)
    except Exception as error:
        raise _no_deployed_form(model, error) from error


def _no_deployed_form(model: nn.Module, error: Exception) -> BenchError:
    return BenchError(f"{type(model).__name__} has no deployed form: {first_line(error)}")


def _params(model: nn.Module) -> dict[str, Any]:
    count = count_params(model)
    return {"params": count.total, "params_trainable": count.trainable, "params_by_part": count.by_part}


def _exact(count: MacCount | None) -> dict[str, Any]:
    names = {
        "macs": "total",
        "macs_by_operator": "by_operator",
        "macs_by_part": "by_part",
        "element_operations": "elementwise",
        "unknown_operators": "unknown",
        "activations": "activations",
        "activation_bytes": "activation_bytes",
        "read_bytes": "read_bytes",
        "launches": "launches",
        "weight_bytes": "weight_bytes",
        "peak_activation_bytes": "peak_activation_bytes",
        "arithmetic_intensity": "arithmetic_intensity",
    }
    return {key: None if count is None else getattr(count, name) for key, name in names.items()}


def _foreign(prefix: str, count: ForeignCount | None) -> dict[str, Any]:
    return {
        f"{prefix}_macs": None if count is None else count.macs,
        f"{prefix}_by_operator": None if count is None else count.by_operator,
        f"{prefix}_unsupported": None if count is None else count.unsupported,
    }


def _storage(model: nn.Module) -> dict[str, Any]:
    storage = measure_storage(model)
    return {
        "storage_bytes": storage.file_bytes["float32"],
        "storage_bytes_by_type": storage.file_bytes,
        "paper_mib": storage.paper_mib,
    }


IMAGE_CHANNELS = 3
# Of what a static record holds. 2 has the deployed form beside the trained one; 3 leaves fvcore's count of the deployed
# form out, and weights, however they are viewed, out of the peak of activations.
STATIC_SCHEMA = 3


def static_cell(
    config: ArchConfig, label: str, size: tuple[int, int], num_classes: int, in_channels: int = IMAGE_CHANNELS
) -> Cell:
    """Counts of a network: parameters, MACs by every counter, storage, activations; no arithmetic is timed."""
    determinants = {
        "schema": STATIC_SCHEMA,
        **network_determinants(config, num_classes, in_channels),
        "size": size,
        "versions": versions("torch", "fvcore", "thop", *network_libraries(config)),
    }

    run = partial(_static_figures, config, size, num_classes, in_channels)
    return Cell("static", f"{label}: counts", determinants, run, untimed=True, about={"config": archs.to_dict(config)})


def _static_figures(
    config: ArchConfig, size: tuple[int, int], num_classes: int, in_channels: int, context: CellContext
) -> Mapping[str, Any]:
    refuse_other_output(archs.build(config, num_classes, in_channels), size, in_channels)
    return static_figures(config, size, num_classes, in_channels)


def cost_cell(config: ArchConfig, label: str, size: tuple[int, int], num_classes: int) -> Cell:
    """Parameters and exact MACs alone: what a list wants, in a fraction of a second."""
    determinants = {
        **network_determinants(config, num_classes, IMAGE_CHANNELS),
        "size": size,
        "versions": versions("torch", *network_libraries(config)),
    }

    run = partial(_costs, config, size, num_classes)
    return Cell("cost", label, determinants, run, untimed=True, about={"config": archs.to_dict(config)})


def _costs(config: ArchConfig, size: tuple[int, int], num_classes: int, context: CellContext) -> Mapping[str, Any]:
    model = archs.build(config, num_classes, IMAGE_CHANNELS)
    return {"params": count_params(model).total, "macs": count_macs(model, size, IMAGE_CHANNELS).total}
