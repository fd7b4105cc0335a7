"""`measure`: the instruments on a few networks, side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    DEFAULT_DATA,
    DELTA_HELP,
    PROGRESS,
    DataOption,
    DeviceOption,
    JsonOption,
    SizeOption,
    print_json,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import nn

    from archs import ArchConfig, InputRule
    from bench.data import DataSet
    from bench.speed.measure import Contender
    from bench.speed.protocol import SpeedProtocol
    from bench.speed.runtimes import ModelCache
    from bench.training.trained import TrainedNetwork

LATENCY = ("latency_ms", "latency_low", "latency_high")
THROUGHPUT = (
    "throughput", "throughput_low", "throughput_high",
    "ceiling_share", "ceiling_share_low", "ceiling_share_high", "joules_per_image",
)  # fmt: skip


def measure(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names, patterns (`smp/*`), saved configs' paths, or trained networks (a folder that `train` wrote, a "
            "member of a front, `NAME@world`)."
        ),
    ],
    size: SizeOption = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images a call for throughput; latency is always at batch 1.")] = 8,
    num_classes: Annotated[int, typer.Option("--classes", min=1, help="Number of classes.")] = 7,
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
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, tf32 (GPU), bf16 or fp16; onnxruntime: fp32 or int8 (quantised after training, calibrated on "
            "the training tiles of --data); openvino: fp32, bf16 or int8."
        ),
    ] = "fp32",
    data: DataOption = DEFAULT_DATA,
    delta: Annotated[
        float,
        typer.Option(min=0, help=DELTA_HELP),
    ] = 1.0,
    memory_format: Annotated[str, typer.Option(help="contiguous or channels_last.")] = "contiguous",
    sweep_batches: Annotated[
        bool, typer.Option("--sweep-batches", help="Double the batch until throughput stops growing; keep every point.")
    ] = False,
    sweep_seconds: Annotated[float, typer.Option(help="No larger batch is begun after so long.")] = 60.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one is steadiest where others work.")] = None,
    speed: Annotated[bool, typer.Option(help="Time the networks; --no-speed only counts.")] = True,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Also each type of operator's share of the time, in onnxruntime and openvino."),
    ] = False,
    train_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Also the peak memory of a training step (AdamW, fp32) of so many images."),
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
    against the trained network's in fp32 before it is timed, and one that differs is refused. A lower precision
    is worth its speed only with its accuracy, so trained networks are scored on the test tiles of `--data`, in fp32 and
    in that precision; of an untrained one the row says that there is none. Where OpenVINO's int8 loses more than
    --delta on the validation tiles, the operators that cost most stay in float, and the row names them.

    **Roofline share.** The device's own best (matrix products, a convolution, copies) is measured in the
    same rounds. No network can do its exact MACs faster, nor read weights and input and write its output faster. The
    share says how much is left to gain; beyond 120 % and the measuring error the time is wrong, and is refused.

    **Energy** is reported where the hardware counts it, and is otherwise "not reported", never 0.
    """
    from bench.cli.measured import print_measured
    from bench.records.environment import environment, resolve_device
    from bench.speed.operators import refuse_unprofiled
    from bench.speed.protocol import SpeedProtocol
    from bench.speed.runtimes import ModelCache, refuse_missing

    where = resolve_device(device)
    protocol = SpeedProtocol(
        precision=precision, memory_format=memory_format, runtime=runtime, form=form, threads=threads
    )
    refuse_missing(protocol, where)
    if profile:
        refuse_unprofiled(protocol)
    networks = _networks(names, num_classes)
    rows = {label: _count(network, (size, size), str(where), train_batch) for label, network in networks.items()}
    if speed or profile:
        tiles = _tiles(data, protocol, networks)
        if tiles is not None:
            _score(rows, networks, tiles, protocol, str(where), delta / 100)
        contenders = _contenders(networks, rows, protocol, tiles)
        models = ModelCache()
        if speed and contenders:
            _time(rows, contenders, batch, str(where), models)
        if profile:
            _profile(rows, contenders, models)
        if speed and sweep_batches and contenders:
            _sweep(rows, contenders, sweep_seconds, str(where))
    if as_json:
        return print_json({"environment": environment(where), "rows": list(rows.values())})
    return print_measured(rows, size, batch, num_classes, protocol)


@dataclass(frozen=True)
class _Network:
    """What is measured under one label; `trained`: its weights, if it has some."""

    label: str
    config: ArchConfig
    num_classes: int
    inputs: InputRule
    trained: TrainedNetwork | None = None

    def build(self) -> nn.Module:
        from bench.speed.comparison import untrained

        return self.trained.build() if self.trained else untrained(self.config, self.num_classes)


def _networks(names: list[str], num_classes: int) -> dict[str, _Network]:
    """What is to be measured, by label.

    Raises:
        BenchError: an ONNX file, or a trained network of other than three bands, whose images are not those of the
            others.
    """
    import archs
    from bench.scenes.mapping import input_rule
    from bench.study import Variant
    from bench.training.trained import find_trained

    found = {}
    for name in names:
        if name.endswith(".onnx"):
            raise BenchError(
                f"{name} is an ONNX file, whose MACs and roofline share `measure` cannot count: give the folder of its "
                "training with --form deployed and --runtime onnxruntime or openvino, which times the same network; "
                "`predict` and `evaluate` take the file"
            )
        trained = find_trained(name)
        if trained is not None and len(trained.bands) != 3:
            raise BenchError(f"{name} takes {len(trained.bands)} bands, and `measure` compares networks of three")
        if trained is not None:
            found[name] = _Network(name, trained.config, len(trained.names), input_rule(trained.config), trained)
            continue
        for variant in [Variant.named(label) for label in archs.names(name) or [name]]:
            found[variant.label] = _Network(variant.label, variant.config, num_classes, variant.inputs)
    return found


def _tiles(data: str, protocol: SpeedProtocol, networks: dict[str, _Network]) -> DataSet | None:
    """What a lower precision is calibrated, controlled and scored on; None where nothing of it is done."""
    from bench.data import open_data

    if protocol.precision == "fp32":
        return None
    controlled = protocol.restores and any(network.trained for network in networks.values())
    return open_data(data, ("train",) * (protocol.precision == "int8") + ("val",) * controlled + ("test",))


def _contenders(
    networks: dict[str, _Network], rows: dict[str, dict[str, Any]], protocol: SpeedProtocol, tiles: DataSet | None
) -> dict[str, Contender]:
    from bench.data.bands import RGB
    from bench.speed.measure import Contender
    from bench.speed.quantise import TIMED_IMAGES, calibration_images

    found = {}
    for label, network in networks.items():
        size = tuple(rows[label]["size"])
        calibration = None
        if tiles is not None and protocol.precision == "int8":
            own = tiles.bands if len(tiles.bands) == len(RGB) else RGB  # `measure` builds networks of three bands
            bands = network.trained.bands if network.trained else own
            try:
                calibration = calibration_images(tiles, bands, size, TIMED_IMAGES)
            except BenchError as error:
                rows[label]["failures"]["speed"] = str(error)
                continue
            rows[label]["timed_calibration_images"] = len(calibration)
        in_float = tuple(rows[label].get("accuracy_control", {}).get("operators", ()))
        found[label] = Contender(network.build(), size, replace(protocol, in_float=in_float), calibration)
    return found


def _score(
    rows: dict[str, dict[str, Any]],
    networks: dict[str, _Network],
    tiles: DataSet,
    protocol: SpeedProtocol,
    device: str,
    delta: float,
) -> None:
    """Macro F1 of fp32 and of the precision, the verdict, and what stays in float."""
    from bench.scenes.accuracy import accuracy_columns

    for label, row in rows.items():
        with PROGRESS.status(f"scoring {label} in {protocol.precision} and fp32"):
            row |= accuracy_columns(networks[label].trained, tiles, protocol, device, delta)
        row |= {"accuracy_data": f"{tiles.name}, {len(tiles['test'])} test tiles", "accuracy_delta": delta}


def _count(network: _Network, size: tuple[int, int], device: str, train_batch: int | None) -> dict[str, Any]:
    """Counts at `size`, or at the one size that the network is tied to."""
    import archs
    from bench.counting.cells import refuse_other_output, static_figures
    from bench.counting.memory import peak_inference_bytes, peak_training_bytes

    size = network.inputs.fixed or size
    with PROGRESS.status(f"counting {network.label}"):
        model = network.build()
        refuse_other_output(model, size)
        figures = static_figures(model, size)
        try:
            figures["peak_inference_bytes"] = peak_inference_bytes(model, size, 1, device)
            if train_batch:
                figures["peak_training_bytes"] = peak_training_bytes(model, size, train_batch, device)
        except BenchError as error:
            figures["failures"]["memory"] = str(error)
    about = {"family": archs.family_of(network.config), "num_classes": network.num_classes}
    return {"variant": network.label, **about, **figures}


def _time(
    rows: dict[str, dict[str, Any]], contenders: dict[str, Contender], batch: int, device: str, models: ModelCache
) -> None:
    """Latency at batch 1 and throughput at `batch`, each of all networks in one interleaved run.

    `models` keeps those of batch 1.
    """
    from bench.speed.measure import race_isolated

    for images in dict.fromkeys((1, batch)):
        asked = {label: replace(one, protocol=replace(one.protocol, batch=images)) for label, one in contenders.items()}
        with PROGRESS.status(f"timing {len(asked)} networks, interleaved, {images} image(s) a call"):
            raced = race_isolated(asked, device, models=models if images == 1 else None)
        for label, row in rows.items():
            found = raced.speeds.get(label)
            row[f"speed_batch_{images}"] = found.to_dict() if found else None
            if label in raced.failures:
                row["failures"][f"speed at batch {images}"] = raced.failures[label]
    for row in rows.values():
        row |= {key: (row["speed_batch_1"] or {}).get(key) for key in LATENCY}
        row |= {key: (row[f"speed_batch_{batch}"] or {}).get(key) for key in THROUGHPUT}


def _profile(rows: dict[str, dict[str, Any]], contenders: dict[str, Contender], models: ModelCache) -> None:
    """The time of one image's operators."""
    from archs.errors import first_line
    from bench.speed.operators import operator_times

    for label, contender in contenders.items():
        with PROGRESS.status(f"profiling {label}"):
            try:
                rows[label]["operators"] = [found.to_dict() for found in operator_times(contender, models)]
            except Exception as error:  # whatever a network raises is the answer
                rows[label]["failures"]["profile"] = first_line(error)


def _sweep(rows: dict[str, dict[str, Any]], contenders: dict[str, Contender], seconds: float, device: str) -> None:
    from bench.speed.sweep import sweep_batches

    with PROGRESS.status(f"looking for the best batch of {len(contenders)} networks"):
        found = sweep_batches(contenders, device, max_seconds=seconds)
    for label, sweep in found.items():
        record = sweep.to_dict()
        rows[label] |= {"sweep": record, **{key: record[key] for key in ("best_batch", "best_throughput")}}
