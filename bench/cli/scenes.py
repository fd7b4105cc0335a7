"""`predict`, `evaluate` and `publish`: trained networks on scenes, on data sets, and for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    DELTA_HELP,
    OUTPUT,
    PROGRESS,
    DataOption,
    DeviceOption,
    JsonOption,
    in_float_sentences,
    parse_settings,
    print_json,
    writable_file,
    writable_folder,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.scenes.accuracy import PrecisionScore
    from bench.scenes.evaluation import Evaluation
    from bench.scenes.mapping import Map, Mapping
    from bench.training.trained import TrainedNetwork

NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="A folder that `train` wrote, a member of a search's front (`front/NAME.json`), an ONNX file that "
        "`export` wrote, or a network whose weights come with the suite, as `NAME@world`."
    ),
]
FormOption = Annotated[str, typer.Option(help="`deployed` or `trained`.")]
RuntimeOption = Annotated[str, typer.Option(help="As of `measure`: eager, compile, openvino and others.")]
PrecisionOption = Annotated[str, typer.Option(help="As of `measure`: fp32, bf16, int8 and others.")]


def predict(
    network: NetworkArgument,
    scene: Annotated[
        str,
        typer.Argument(help="A GeoTIFF, PNG or JPEG, a folder of them, a pattern in quotes, or `sample`."),
    ],
    out: Annotated[Path, typer.Argument(help="The map, as .tif or .png, or a folder.")],
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels of a window, a multiple of 32; default: that of the training tiles."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that neighbouring windows share; by default a quarter, 64 at most.")
    ] = None,
    blend: Annotated[
        int | None, typer.Option(help="Pixels over which one window fades into the next; by default half the overlap.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Windows a call; by default as many as have 512 x 512 pixels.")
    ] = None,
    form: FormOption = "deployed",
    runtime: RuntimeOption = "eager",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class too, a byte each (255 is 1).")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a map that was made otherwise.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Map scenes of any size with a trained network.

    Windows are read, predicted, blended and written as they come, so memory does not grow with the scene. The map is a
    Cloud Optimized GeoTIFF with the scene's coordinates and a colour table, or a palette PNG. Killed, the same command
    goes on. A scene that cannot be mapped is named with the reason, and the others go on.
    """
    from bench.records.environment import resolve_device
    from bench.scenes.exported import open_network
    from bench.scenes.mapping import Mapping, find_scenes, output_path, refuse_shared_maps

    scenes = find_scenes(scene)
    refuse_shared_maps(scenes)
    many = len(scenes) > 1 or Path(scene).is_dir()
    one_file = output_path(scenes[0], out, many, georeferenced=True) == out
    writable_file(out) if one_file else writable_folder(out)
    trained = open_network(network)
    how = Mapping(window, overlap, blend, batch, form, runtime, precision, str(resolve_device(device)), probabilities)
    reports = [_map_one(trained, path, out, how, many, overwrite) for path in scenes]
    if as_json:
        print_json(reports)
    failed = [report for report in reports if "problem" in report]
    if len(scenes) == 1 and failed:
        raise BenchError(failed[0]["problem"])
    if failed:
        raise BenchError(f"{len(failed)} of {len(scenes)} scenes were not mapped: {failed[0]['problem']}")


def _map_one(
    trained: TrainedNetwork, path: Path, out: Path, how: Mapping, many: bool, overwrite: bool
) -> dict[str, Any]:
    """What became of one scene; a problem with one must not cost the others their maps."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bench.scenes.mapping import map_scene

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    try:
        with Progress(*columns, TimeRemainingColumn(), console=PROGRESS, transient=True) as progress:
            task = progress.add_task(escape(path.name), total=None)

            def on_window(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            found = map_scene(trained, path, out, how, many=many, overwrite=overwrite, on_window=on_window)
    except BenchError as error:
        if many:
            PROGRESS.print(f"{path.name}: {error}", markup=False, highlight=False)
        return {"scene": path.name, "problem": str(error)}
    PROGRESS.print(f"{path.name}: {_sentence(found)}", markup=False, highlight=False)
    return {"scene": path.name, **_report(found)}


def _report(found: Map) -> dict[str, Any]:
    """Rates of one map as plain JSON; None where nothing was computed, or the pixel size is not known."""
    report: dict[str, Any] = {"map": str(found.path), "height": found.size[0], "width": found.size[1]}
    if found.timing is None:
        return report | {"pixels_per_s": None, "km2_per_s": None}
    timing = found.timing
    rate = timing.useful / timing.seconds
    bare = timing.processed / timing.network_seconds if timing.network_seconds else None
    return report | {
        "pixels_per_s": rate,
        "km2_per_s": rate * found.pixel_area / 1e6 if found.pixel_area else None,
        "network_share_processed": timing.network_seconds / timing.seconds,
        "network_share_useful": rate / bare if bare else None,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> int | None:
    """Most memory that this process has held so far, PyTorch included; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def _sentence(found: Map) -> str:
    report = _report(found)
    if report["pixels_per_s"] is None:
        return f"{found.path} is there already"
    land = f", {report['km2_per_s']:,.3g} km2/s" if report["km2_per_s"] else ""
    share = report["network_share_useful"]
    memory = f"; {report['peak_mib']:,} MiB of memory at most" if report["peak_mib"] else ""
    ratio = f" ({share:.0%} of it over useful pixels)" if share else ""
    return (
        f"{found.path}, {found.size[1]} x {found.size[0]} px: {report['pixels_per_s']:,.0f} px/s{land}; "
        f"{report['network_share_processed']:.0%} of the time in the network{ratio}{memory}"
    )


def evaluate(
    network: NetworkArgument,
    data: DataOption = "world",
    split: Annotated[str, typer.Option(help="Which tiles: test, val or train.")] = "test",
    renamed: Annotated[
        list[str] | None,
        typer.Option("--map", help="NETWORK_CLASS=DATA_CLASS, where the names differ; repeatable."),
    ] = None,
    form: FormOption = "deployed",
    runtime: RuntimeOption = "eager",
    precision: PrecisionOption = "fp32",
    delta: Annotated[float, typer.Option(min=0, help=DELTA_HELP)] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Tiles a call.")] = 8,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a trained network on any data set with the same classes, or a map to its classes.

    Macro F1 and IoU are of one confusion matrix pooled over all pixels, with an interval over scenes; beside them each
    class, the pixels near boundaries, and the expected calibration error. A precision other than fp32 is scored beside
    fp32 on the same tiles; int8 is calibrated on the training tiles.
    """
    from bench.data import open_data
    from bench.records.environment import resolve_device
    from bench.scenes.accuracy import PrecisionScore
    from bench.scenes.accuracy_control import network_within
    from bench.scenes.evaluation import evaluate_network, evaluate_trained
    from bench.scenes.exported import open_network
    from bench.speed.protocol import SpeedProtocol

    trained = open_network(network)
    layout = "channels_last" if runtime in ("eager", "compile", "autotune") else "contiguous"
    protocol = SpeedProtocol(batch=batch, form=form, runtime=runtime, precision=precision, memory_format=layout)
    names = {key: str(value) for key, value in parse_settings(renamed).items()}
    where = str(resolve_device(device))
    needed = ("train",) * (precision == "int8") + ("val",) * protocol.restores
    tiles = open_data(data, tuple(dict.fromkeys((*needed, split))))
    ready, restoration = network_within(trained, tiles, protocol, where, delta / 100, names)
    found = evaluate_network(ready, tiles, split, names)
    report = {"network": trained.name, "data": tiles.name, "split": split, **_scores(found, tiles)}
    if precision != "fp32":
        plain = SpeedProtocol(batch=batch, form=form)
        exact = evaluate_trained(trained, tiles, plain, where, split, None, names)
        report |= _against_fp32(PrecisionScore.of(found, exact, delta / 100, restoration))
    return print_json(report) if as_json else _print_scores(report)


def _against_fp32(found: PrecisionScore) -> dict[str, Any]:
    return {
        "points_against_fp32": 100 * (found.f1 - found.fp32),
        "delta": 100 * found.delta,
        "verdict_against_fp32": found.verdict,
        **found.in_floating_point(),
    }


def publish(
    network: NetworkArgument,
    out: Annotated[
        Path,
        typer.Argument(
            help="Folder for config, weights and card; its name is the network's.", callback=writable_folder
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="The data whose test tiles it is scored on; default: world if trained on that."),
    ] = None,
    licence: Annotated[str, typer.Option("--license", help="Licence of the weights, for the card.")] = "",
    device: DeviceOption = "auto",
) -> None:
    """Make a trained network ready to pass on: config, weights in float16, and a card of its scores and costs.

    The scores are those of the float16 weights on the test tiles of `--data`.
    """
    from bench.data import open_data
    from bench.records.environment import resolve_device
    from bench.scenes.card import publish as publish_scored
    from bench.scenes.evaluation import evaluate_trained
    from bench.scenes.exported import open_network
    from bench.speed.protocol import SpeedProtocol

    trained, where = open_network(network), resolve_device(device)
    if data is None and trained.trained_on != "world":
        raise BenchError(
            f"{trained.name} was trained on {trained.trained_on or 'data that its config does not name'}: give --data, "
            "the folder of tiles that its card is to score it on"
        )
    tiles = open_data(data or "world", ("test",))

    def score(passed_on: TrainedNetwork) -> dict[str, Any]:
        found = evaluate_trained(passed_on, tiles, SpeedProtocol(batch=8), where)
        return {"data": tiles.name, "split": "test", **_scores(found, tiles)}

    OUTPUT.print(str(publish_scored(trained, out, score, licence)), markup=False, highlight=False)


def _scores(found: Evaluation, data: DataSet) -> dict[str, Any]:
    """Scores of an evaluation as plain JSON, shares in 0..1; None for what a class without a pixel does not have."""
    from bench.stats import scene_interval
    from bench.training.metrics import scores

    whole, near = scores(found.confusions.sum(0)), scores(found.boundaries.sum(0))
    interval = scene_interval(found.confusions, found.scenes)
    return {
        "macro_f1": whole.macro_f1,
        "macro_f1_interval": list(interval) if interval else None,
        "scenes": len(set(found.scenes)),
        "scenes_known": data.scenes_known,
        "macro_iou": whole.macro_iou,
        "boundary_f1": near.macro_f1,
        "accuracy": whole.accuracy,
        "calibration_error": found.reliability.error,
        "f1": {name: _number(value) for name, value in zip(data.classes.names, whole.f1, strict=True)},
    }


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _print_scores(report: dict[str, Any]) -> None:
    from rich.markup import escape

    interval = report["macro_f1_interval"]
    unit = "scenes" if report["scenes_known"] else "tiles, whose scenes are not known"
    bounds = f" [{interval[0]:.1%}, {interval[1]:.1%}] over {report['scenes']} {unit}" if interval else ""
    OUTPUT.print(escape(f"{report['network']} on {report['data']} ({report['split']}):"), highlight=False)
    OUTPUT.print(escape(f"  macro F1 {report['macro_f1']:.1%}{bounds}"), highlight=False)
    OUTPUT.print(
        f"  macro IoU {report['macro_iou']:.1%}, accuracy {report['accuracy']:.1%}, macro F1 near boundaries "
        f"{report['boundary_f1']:.1%}, expected calibration error {report['calibration_error']:.1%}",
        highlight=False,
    )
    if "points_against_fp32" in report:
        OUTPUT.print(
            f"  against fp32 on these tiles: {report['points_against_fp32']:+.2f} points of macro F1, "
            f"{report['verdict_against_fp32']} (delta {report['delta']:g})",
            highlight=False,
        )
    for sentence in in_float_sentences(report):
        OUTPUT.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    for name, value in report["f1"].items():
        OUTPUT.print(escape(f"  {name}: {'absent' if value is None else f'{value:.1%}'}"), highlight=False)
