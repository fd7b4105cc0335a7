"""`measure`: the instruments on a few networks, side by side."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any

import pandas as pd
import typer

import archs
from bench.cli.options import OUTPUT, PROGRESS, DeviceOption, JsonOption, SizeOption, print_json
from bench.errors import BenchError
from bench.study import Variant

COLUMNS = (
    "variant",
    "params",
    "macs",
    "fvcore_macs",
    "thop_macs",
    "storage_bytes",
    "activations",
    "launches",
    "deployed_params",
    "deployed_macs",
    "deployed_launches",
    "peak_inference_bytes",
    "latency_ms",
    "throughput",
)


def measure(
    names: Annotated[list[str], typer.Argument(help="Names, patterns (`lale-*`) or saved configs' paths.")],
    size: SizeOption = 256,
    batch: Annotated[int, typer.Option(help="Images a call for throughput; latency is always at batch 1.")] = 8,
    num_classes: Annotated[int, typer.Option("--classes", help="Number of classes.")] = 7,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    memory_format: Annotated[str, typer.Option(help="contiguous or channels_last.")] = "contiguous",
    runtime: Annotated[str, typer.Option(help="eager or compile; compile time is reported apart.")] = "eager",
    threads: Annotated[int | None, typer.Option(help="CPU threads; one is steadiest on a shared machine.")] = None,
    speed: Annotated[bool, typer.Option(help="Time the networks; --no-speed only counts.")] = True,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure networks: parameters, MACs by three counters, storage, activations, memory, latency, throughput.

    Counts come from one forward pass on the meta device, where no arithmetic is done, so attention is counted
    whichever way it is written; fvcore and thop stand beside it as the field runs them, and miss what they miss.

    Speeds are synchronised with the device, after a warm-up that lasts until times settle, and in rounds: every
    network runs once in each, so that a machine that slows down slows all alike. Latency is the median at batch 1
    with the interval of that median; throughput is for `--batch` images a call. Compare only within one run.
    """
    from bench.environment import environment, resolve_device

    where = resolve_device(device)
    variants = _variants(names)
    rows = {label: _count(variant, (size, size), num_classes, str(where)) for label, variant in variants.items()}
    if speed:
        _time(rows, variants, num_classes, str(where), batch, precision, memory_format, runtime, threads)
    if as_json:
        return print_json({"environment": environment(where), "rows": list(rows.values())})
    return _print(rows, size, batch, num_classes)


def _variants(names: list[str]) -> dict[str, Variant]:
    found = [Variant.named(label) for name in names for label in archs.names(name) or [name]]
    return {variant.label: variant for variant in found}


def _count(variant: Variant, size: tuple[int, int], num_classes: int, device: str) -> dict[str, Any]:
    """Counts at `size`, or at the one size that the network is tied to."""
    from bench.memory import peak_inference_bytes
    from bench.static import static_figures

    size = variant.inputs.fixed or size
    with PROGRESS.status(f"counting {variant.label}"):
        model = archs.build(variant.config, num_classes)
        figures = static_figures(model, size, num_classes)
        try:
            figures["peak_inference_bytes"] = peak_inference_bytes(model, size, 1, device)
        except BenchError as error:
            figures["failures"]["memory"] = str(error)
    return {"variant": variant.label, "family": archs.family_of(variant.config), **figures}


def _time(
    rows: dict[str, dict[str, Any]],
    variants: dict[str, Variant],
    num_classes: int,
    device: str,
    batch: int,
    precision: str,
    memory_format: str,
    runtime: str,
    threads: int | None,
) -> None:
    from bench.speed import SpeedProtocol, measure_speed

    models = {label: archs.build(variant.config, num_classes) for label, variant in variants.items()}
    sizes = sorted({tuple(row["size"]) for row in rows.values()})
    for images, size in product((1, batch), sizes):
        protocol = SpeedProtocol(
            batch=images, precision=precision, memory_format=memory_format, runtime=runtime, threads=threads
        )
        fitting = {label: model for label, model in models.items() if tuple(rows[label]["size"]) == size}
        with PROGRESS.status(f"timing {len(fitting)} networks, interleaved, {images} image(s) a call"):
            speeds = measure_speed(fitting, size, protocol, device)
        for label, found in speeds.items():
            rows[label][f"speed_batch_{images}"] = found.to_dict()
    for row in rows.values():
        row |= {key: row["speed_batch_1"][key] for key in ("latency_ms", "latency_low", "latency_high")}
        row |= {key: row[f"speed_batch_{batch}"][key] for key in ("throughput", "throughput_low", "throughput_high")}


def _print(rows: dict[str, dict[str, Any]], size: int, batch: int, num_classes: int) -> None:
    from bench.columns import measured
    from bench.tables import rich_table

    frame = pd.DataFrame(list(rows.values()))
    caption = f"{size}x{size}, {num_classes} classes; latency at batch 1, throughput at batch {batch}"
    OUTPUT.print(rich_table(frame, measured(frame, COLUMNS), caption))
    for row in rows.values():
        if row["size"] != [size, size]:
            height, width = row["size"]
            OUTPUT.print(f"{row['variant']} is tied to {height}x{width}: all of its figures are at that size")
        for counter, missed in (("fvcore", row["fvcore_unsupported"]), ("thop", row["thop_unsupported"])):
            if missed:
                what = ", ".join(f"{operator} ({calls})" for operator, calls in missed.items())
                OUTPUT.print(f"[dim]{row['variant']}: {counter} did not count {what}[/]")
        for counter, reason in row["failures"].items():
            OUTPUT.print(f"[yellow]{row['variant']}: {counter}: {reason}[/]")
