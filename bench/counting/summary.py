"""What `list` and `show` print: costs of every entry, and one network part by part."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import archs
from archs import ArchConfig, Entry
from archs.meta import images_for, meta_copy
from bench.counting import count_macs, count_params
from bench.counting.cells import IMAGE_CHANNELS, cost_cell
from bench.counting.macs import parts_of
from bench.engine import Outcome, run_cells
from bench.records import SCHEMA, RecordStore
from bench.records.environment import environment, user_cache


def listing(names: list[str], size: tuple[int, int], console: Console) -> list[dict[str, Any]]:
    """One row an entry; counted once and remembered in the user's cache folder.

    An entry that cannot take `size` is counted at the size that it does take, and its row says so.
    """
    entries = [archs.entry(name) for name in names]
    cells = [cost_cell(entry.config, entry.name, entry.inputs.fixed or size, 7) for entry in entries]
    store = RecordStore(user_cache() / f"costs-{SCHEMA}")
    outcomes = run_cells(cells, store, environment=environment("cpu"), console=console)
    return [_listed(entry, outcome) for entry, outcome in zip(entries, outcomes, strict=True)]


def _listed(entry: Entry, outcome: Outcome) -> dict[str, Any]:
    result: Mapping[str, Any] = outcome.record.result or {}
    return {
        "name": entry.name,
        "family": entry.family,
        "params": result.get("params"),
        "macs": result.get("macs"),
        "size": list(outcome.cell.determinants["size"]),
        "problem": outcome.record.reason or None,
        "paper": entry.provenance.paper,
        "year": entry.provenance.year,
        "licence": entry.provenance.licence,
        "source": entry.provenance.source,
        "reconstruction": entry.provenance.reconstruction,
        "input": str(entry.inputs),
        "min_train_batch": entry.inputs.min_train_batch,
    }


@dataclass(frozen=True)
class Part:
    """One part of a network: what leaves it, its parameters, its multiply-accumulates for one image."""

    name: str
    output: str
    params: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """A network part by part, for one image of `size`."""

    size: tuple[int, int]
    parts: tuple[Part, ...]
    params: int
    macs: int
    activations: int
    launches: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def table(self) -> Table:
        """For `rich.print`."""
        table = Table(box=None, show_footer=True)
        footers = ("total", "", f"{self.params:,}", f"{self.macs:,}", "100.0 %")
        for header, footer in zip(("part", "output", "parameters", "MACs", "share"), footers, strict=True):
            table.add_column(header, footer, justify="left" if header in ("part", "output") else "right")
        for part in self.parts:
            share = f"{100 * part.macs / max(1, self.macs):.1f} %"
            table.add_row(part.name, part.output, f"{part.params:,}", f"{part.macs:,}", share)
        table.caption = (
            f"one {self.size[0]}x{self.size[1]} image; {self.activations / 1e6:.1f} M activations written, "
            f"{self.launches} kernel launches (eager, torch {torch.__version__})"
        )
        return table


def summarise(config: ArchConfig, size: tuple[int, int], num_classes: int) -> Summary:
    """Count a network part by part.

    Raises:
        ArchError: it cannot take the size.
        BenchError: it cannot be counted.
    """
    model = archs.build(config, num_classes, IMAGE_CHANNELS).eval()
    params, macs = count_params(model), count_macs(model, size)
    shapes = _output_shapes(model, size)
    names = list(dict.fromkeys((*params.by_part, *macs.by_part)))
    parts = tuple(
        Part(name, shapes.get(name, ""), params.by_part.get(name, 0), macs.by_part.get(name, 0)) for name in names
    )
    return Summary(size, parts, params.total, macs.total, macs.activations, macs.launches)


def _output_shapes(model: nn.Module, size: tuple[int, int]) -> dict[str, str]:
    """What leaves each part, as text, for one image; no arithmetic is done."""
    twin = meta_copy(model)
    shapes: dict[str, str] = {}
    for name, part in parts_of(twin).items():
        part.register_forward_hook(lambda _module, _inputs, output, name=name: shapes.update({name: _shape(output)}))
    with torch.inference_mode():
        twin(images_for(twin, size, IMAGE_CHANNELS))
    return shapes


def _shape(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return "x".join(str(side) for side in output.shape[1:])
    return ", ".join(_shape(item) for item in output) if isinstance(output, list | tuple) else ""
