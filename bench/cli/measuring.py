"""`measure`: the instruments on a few networks, side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import OUTPUT, PROGRESS, DeviceOption, JsonOption, SizeOption, print_json
from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import nn

    from bench.speed.protocol import SpeedProtocol
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
    "peak_training_bytes",
    "latency_ms",
    "throughput",
    "ceiling_share",
    "best_throughput",
    "best_batch",
    "joules_per_image",
)
LATENCY = ("latency_ms", "latency_low", "latency_high")
THROUGHPUT = (
    "throughput", "throughput_low", "throughput_high",
    "ceiling_share", "ceiling_share_low", "ceiling_share_high", "joules_per_image",
)  # fmt: skip


def measure(
    names: Annotated[list[str], typer.Argument(help="Names, patterns (`smp/*`) or saved configs' paths.")],
    size: SizeOption = 256,
    batch: Annotated[int, typer.Option(help="Images a call for throughput; latency is always at batch 1.")] = 8,
    num_classes: Annotated[int, typer.Option("--classes", help="Number of classes.")] = 7,
    form: Annotated[
        str, typer.Option(help="trained; or deployed: the same function in fewer operators (`archs.deploy`).")
    ] = "trained",
    runtime: Annotated[
        str,
        typer.Option(
            help="eager, compile, autotune (compiled, with kernels chosen by timing them), cudagraphs (GPU), "
            "onnxruntime or openvino (CPU; extras onnx, openvino). Preparing and compiling are timed apart."
        ),
    ] = "eager",
    precision: Annotated[str, typer.Option(help="fp32, tf32 (GPU), bf16 or fp16; openvino: fp32 or bf16.")] = "fp32",
    memory_format: Annotated[str, typer.Option(help="contiguous or channels_last.")] = "contiguous",
    sweep_batches: Annotated[
        bool, typer.Option("--sweep-batches", help="Double the batch until throughput stops growing; keep every point.")
    ] = False,
    sweep_seconds: Annotated[float, typer.Option(help="No larger batch is begun after so long.")] = 60.0,
    threads: Annotated[int | None, typer.Option(help="CPU threads; one is steadiest on a shared machine.")] = None,
    speed: Annotated[bool, typer.Option(help="Time the networks; --no-speed only counts.")] = True,
    train_batch: Annotated[
        int | None, typer.Option(help="Also the peak memory of a training step (AdamW, float32) of so many images.")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure networks: parameters, MACs by three counters, storage, activations, memory, latency, throughput.

    **Counts** come from one forward pass without arithmetic, so attention is counted whichever way it is written.
    fvcore and thop stand beside it as the field runs them, and miss what they miss. MACs do not rank speeds by
    themselves: what a network writes to memory and how many kernels it launches often decide, so both have columns.

    **Why calls are waited for.** A GPU answers before it has computed; a clock that stops then is 3 to 40 times off.

    **Why warm-up, and rounds.** First calls compile, choose kernels and allocate, so they are made until times settle.
    Then every network has its turn in every round, in an order that rotates: a machine that slows down slows all alike.
    So compare within one run, not between runs.

    **Why medians with intervals.** One bad moment ruins a mean. The interval holds the median with 95 % confidence and
    assumes no distribution; where two overlap, the run has not shown which is faster.

    **Why two batches.** Latency is one image at a time, as in live use; throughput is `--batch` images a call. The best
    batch differs from network to network: --sweep-batches finds each network's own.

    **Why form, runtime and precision are named.** They move speeds more than most architectures do. Each output is held
    against the trained network's in fp32 before it is timed, and one that differs is refused. A lower precision is only
    worth its speed with its accuracy beside it.

    **Roofline share.** The device's own best (matrix products, a convolution, copies) is measured in the
    same rounds. No network can do its exact MACs faster, nor read weights and input and write its output faster. The
    share says how much is left to gain; beyond 100 % and the measuring error the time is wrong, and the run stops.

    **Energy** is reported where the hardware counts it, and is otherwise "not reported", never 0.
    """
    import archs
    from bench.records.environment import environment, resolve_device
    from bench.speed.protocol import SpeedProtocol
    from bench.speed.runtimes import refuse_missing

    where = resolve_device(device)
    protocol = SpeedProtocol(
        precision=precision, memory_format=memory_format, runtime=runtime, form=form, threads=threads
    )
    refuse_missing(protocol, where)
    variants = _variants(names)
    rows = {
        label: _count(variant, (size, size), num_classes, str(where), train_batch)
        for label, variant in variants.items()
    }
    models = {label: archs.build(variant.config, num_classes) for label, variant in variants.items()} if speed else {}
    if speed:
        _time(rows, models, protocol, batch, str(where))
    if speed and sweep_batches:
        _sweep(rows, models, protocol, sweep_seconds, str(where))
    if as_json:
        return print_json({"environment": environment(where), "rows": list(rows.values())})
    return _print(rows, size, batch, num_classes, protocol)


def _variants(names: list[str]) -> dict[str, Variant]:
    import archs
    from bench.study import Variant

    found = [Variant.named(label) for name in names for label in archs.names(name) or [name]]
    return {variant.label: variant for variant in found}


def _count(
    variant: Variant, size: tuple[int, int], num_classes: int, device: str, train_batch: int | None
) -> dict[str, Any]:
    """Counts at `size`, or at the one size that the network is tied to."""
    import archs
    from bench.counting.memory import peak_inference_bytes, peak_training_bytes
    from bench.counting.static import refuse_other_output, static_figures

    size = variant.inputs.fixed or size
    with PROGRESS.status(f"counting {variant.label}"):
        model = archs.build(variant.config, num_classes)
        refuse_other_output(model, size)
        figures = static_figures(model, size, num_classes)
        try:
            figures["peak_inference_bytes"] = peak_inference_bytes(model, size, 1, device)
            if train_batch:
                figures["peak_training_bytes"] = peak_training_bytes(model, size, train_batch, device)
        except BenchError as error:
            figures["failures"]["memory"] = str(error)
    return {"variant": variant.label, "family": archs.family_of(variant.config), **figures}


def _time(
    rows: dict[str, dict[str, Any]],
    models: dict[str, nn.Module],
    protocol: SpeedProtocol,
    batch: int,
    device: str,
) -> None:
    """Latency at batch 1 and throughput at `batch`, each of all networks in one interleaved run."""
    from bench.speed.measure import Contender, race_isolated

    for images in dict.fromkeys((1, batch)):
        contenders = {
            label: Contender(model, tuple(rows[label]["size"]), replace(protocol, batch=images))
            for label, model in models.items()
        }
        with PROGRESS.status(f"timing {len(models)} networks, interleaved, {images} image(s) a call"):
            raced = race_isolated(contenders, device)
        for label, row in rows.items():
            found = raced.speeds.get(label)
            row[f"speed_batch_{images}"] = found.to_dict() if found else None
            if found is None:
                row["failures"][f"speed at batch {images}"] = raced.failures[label]
    for row in rows.values():
        row |= {key: (row["speed_batch_1"] or {}).get(key) for key in LATENCY}
        row |= {key: (row[f"speed_batch_{batch}"] or {}).get(key) for key in THROUGHPUT}


def _sweep(
    rows: dict[str, dict[str, Any]],
    models: dict[str, nn.Module],
    protocol: SpeedProtocol,
    seconds: float,
    device: str,
) -> None:
    from bench.speed.sweep import sweep_batches

    sizes = {label: tuple(rows[label]["size"]) for label in models}
    with PROGRESS.status(f"looking for the best batch of {len(models)} networks"):
        found = sweep_batches(models, sizes, protocol, device, max_seconds=seconds)
    for label, sweep in found.items():
        record = sweep.to_dict()
        rows[label] |= {"sweep": record, **{key: record[key] for key in ("best_batch", "best_throughput")}}


def _print(rows: dict[str, dict[str, Any]], size: int, batch: int, num_classes: int, protocol: SpeedProtocol) -> None:
    import pandas as pd

    from bench.report.columns import measured
    from bench.report.tables import rich_table

    frame = pd.DataFrame(list(rows.values()))
    caption = (
        f"{size}x{size}, {num_classes} classes; {protocol.form} form, {protocol.runtime}, {protocol.precision}, "
        f"{protocol.memory_format}: latency at batch 1, throughput and roofline share at batch {batch}"
    )
    OUTPUT.print(rich_table(frame, measured(frame, COLUMNS), caption))
    for row in rows.values():
        if row["size"] != [size, size]:
            height, width = row["size"]
            OUTPUT.print(f"{row['variant']} is tied to {height}x{width}: all of its figures are at that size")
        for point in row.get("sweep", {}).get("points", []):
            OUTPUT.print(f"[dim]{row['variant']}: {_point(point)}[/]")
        if "sweep" in row:
            OUTPUT.print(f"{row['variant']}: best at batch {row['best_batch']}; {row['sweep']['ended']}")
        for counter, missed in (("fvcore", row["fvcore_unsupported"]), ("thop", row["thop_unsupported"])):
            if missed:
                what = ", ".join(f"{operator} ({calls})" for operator, calls in missed.items())
                OUTPUT.print(f"[dim]{row['variant']}: {counter} did not count {what}[/]")
        for counter, reason in row["failures"].items():
            OUTPUT.print(f"[yellow]{row['variant']}: {counter}: {reason}[/]")
    if any("throughput" in row and row.get("joules_per_image") is None for row in rows.values()):
        OUTPUT.print("[dim]energy: not reported by this hardware, or not to this user[/]")


def _point(point: dict[str, Any]) -> str:
    if "reason" in point:
        return f"batch {point['batch']}: {point['reason']}"
    low, high = point["throughput_low"], point["throughput_high"]
    return f"batch {point['batch']}: {point['throughput']:.1f} images/s [{low:.1f}, {high:.1f}]"
