"""What `measure` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.cli.options import OUTPUT, in_float_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.speed.protocol import SpeedProtocol

COUNTS = (
    "variant", "params", "macs", "fvcore_macs", "thop_macs", "storage_bytes", "activations", "launches",
    "deployed_params", "deployed_macs", "deployed_launches", "peak_inference_bytes", "peak_training_bytes",
)  # fmt: skip
SPEEDS = (
    "variant", "latency_ms", "throughput", "ceiling_share", "best_throughput", "best_batch", "joules_per_image",
    "fp32_f1", "precision_f1", "precision_verdict",
)  # fmt: skip


def print_measured(
    rows: dict[str, dict[str, Any]], size: int, batch: int, num_classes: int, protocol: SpeedProtocol
) -> None:
    """Counts, speeds, profiles and notes of networks that were measured, each a row."""
    import pandas as pd

    from bench.report.columns import measured
    from bench.report.tables import rich_table

    frame = pd.DataFrame(list(rows.values()))
    OUTPUT.print(rich_table(frame, measured(frame, COUNTS), f"{size}x{size}, {num_classes} classes"))
    if len(timed := measured(frame, SPEEDS)) > 1:
        OUTPUT.print(rich_table(frame, timed, _conditions(rows, size, batch, protocol)))
    for row in rows.values():
        if "operators" in row:
            _print_operators(row, protocol)
        _print_sweep(row)
        for sentence in _notes(row, size, num_classes):
            OUTPUT.print(f"{row['variant']}: {sentence}", markup=False, highlight=False, soft_wrap=True)
        for counter, reason in row["failures"].items():
            OUTPUT.print(f"{row['variant']}: {counter}: {reason}", style="yellow", markup=False, highlight=False)
    if load := _background(rows):
        OUTPUT.print(load, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if any("throughput" in row and row.get("joules_per_image") is None for row in rows.values()):
        OUTPUT.print("[dim]energy: not reported by this hardware, or not to this user[/]")


def _notes(row: dict[str, Any], size: int, num_classes: int) -> Iterator[str]:
    """What holds for one network alone, and what no counter, or not every one, has counted of it."""
    height, width = row["size"]
    if (height, width) != (size, size):
        yield f"tied to {height}x{width}: all of its figures are at that size"
    if row["num_classes"] != num_classes:
        yield f"{row['num_classes']} classes: all of its figures are of so many"
    missed = {"fvcore": row["fvcore_unsupported"], "thop": row["thop_unsupported"]}
    for counter, operators in missed.items():
        if operators:
            yield f"{counter} did not count {_listed(operators)}"
    if row["unknown_operators"]:
        yield f"not counted by any, so that its MACs are more: {_listed(row['unknown_operators'])}"
    yield from in_float_sentences(row)


def _listed(operators: dict[str, int]) -> str:
    return ", ".join(f"{operator} ({calls})" for operator, calls in operators.items())


def _background(rows: dict[str, dict[str, Any]]) -> str:
    """A sentence if other processes took cores that the threads needed; empty if there were enough."""
    from bench.records.environment import usable_cores
    from bench.speed.comparison import load_sentence

    keys = [key for row in rows.values() for key in row if key.startswith("speed_batch_")]
    speeds = [row[key] for row in rows.values() for key in keys if row.get(key)]
    load = load_sentence(speeds, usable_cores())
    return f"{load}; the times are too long: measure again on an idle machine" if load else ""


def _print_operators(row: dict[str, Any], protocol: SpeedProtocol) -> None:
    import pandas as pd

    from bench.report.columns import Column
    from bench.report.tables import rich_table

    columns = [
        Column("operator", "Operator"),
        Column("precision", "Precision"),
        Column("count", "Count", "count"),
        Column("share", "Share of the time", "percent"),
    ]
    title = f"{row['variant']}: operators of {protocol.runtime} in {protocol.precision}, {protocol.form} form, batch 1"
    OUTPUT.print(rich_table(pd.DataFrame(row["operators"]), columns, title))


def _print_sweep(row: dict[str, Any]) -> None:
    for point in row.get("sweep", {}).get("points", []):
        OUTPUT.print(f"[dim]{row['variant']}: {_point(point)}[/]")
    if "sweep" in row:
        OUTPUT.print(f"{row['variant']}: best at batch {row['best_batch']}; {row['sweep']['ended']}")


def _conditions(rows: dict[str, dict[str, Any]], size: int, batch: int, protocol: SpeedProtocol) -> str:
    """Under which the speeds hold, and the scores beside them."""
    told = (
        f"{size}x{size}; {protocol.form} form, {protocol.runtime}, {protocol.precision}, {protocol.memory_format}: "
        f"latency at batch 1, throughput and roofline share at batch {batch}"
    )
    scored = next((row for row in rows.values() if "accuracy_data" in row), None)
    if scored is None:
        return told
    calibrated = ", whose training tiles int8 is calibrated on" if protocol.precision == "int8" else ""
    delta = 100 * scored["accuracy_delta"]
    return f"{told}. Macro F1 on {scored['accuracy_data']}{calibrated}; equivalent: within {delta:g} points"


def _point(point: dict[str, Any]) -> str:
    if "reason" in point:
        return f"batch {point['batch']}: {point['reason']}"
    low, high = point["throughput_low"], point["throughput_high"]
    return f"batch {point['batch']}: {point['throughput']:.1f} images/s [{low:.1f}, {high:.1f}]"
