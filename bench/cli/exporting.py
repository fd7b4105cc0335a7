"""`export`: a network as config, weights and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import (
    OUTPUT,
    JsonOption,
    SetOption,
    SizeOption,
    parse_settings,
    print_json,
    writable_file,
    writable_folder,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import nn


def export(
    name: Annotated[str, typer.Argument(help="A name, or a saved config's path, as `runs/search/front/NAME.json`.")],
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights; else those beside the config, else random ones.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="Write the network as this ONNX file.", callback=writable_file)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write `config.json` and `weights.safetensors` here.", callback=writable_folder)
    ] = None,
    size: SizeOption = 256,
    batch: Annotated[int, typer.Option(help="Images a call of the ONNX network.")] = 1,
    num_classes: Annotated[int | None, typer.Option("--classes", help="Else as the config says, or 7.")] = None,
    deployed: Annotated[
        bool, typer.Option("--deployed/--as-trained", help="ONNX: with what can be folded folded in.")
    ] = True,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a network: a registered one, a trained one, or a member of a searched front.

    The ONNX file is run by ONNX Runtime on random images and must give the same logits as the network as it was
    trained (within 1e-4 of the largest), or it is not written. It takes `image`, float32 (batch, 3, H, W), in the
    range that training used, and gives `logits`.
    """
    import archs
    from bench.speed.export import export_onnx, save_network, trained_classes, weights_beside
    from bench.training.checkpoint import load_weights

    if onnx is None and out is None:
        raise BenchError("there is nothing to write: give --onnx FILE, --out FOLDER, or both")
    config = archs.config(name, **parse_settings(settings))
    classes = num_classes or trained_classes(name)
    model = archs.build(config, classes).eval()
    source = weights or weights_beside(name)
    if source is not None:
        load_weights(model, source)
    report = {"name": name, "classes": classes, "weights": str(source) if source else "random", "files": []}
    if out is not None:
        report["files"] += [str(path) for path in save_network(config, model, out, classes)]
    if onnx is not None:
        exported = export_onnx(_form(model, deployed, (size, size)), onnx, (size, size), batch, reference=model)
        report["files"].append(str(onnx))
        report["onnx"] = {"bytes": exported.bytes, "difference": exported.difference, "agreement": exported.agreement}
    return print_json(report) if as_json else _print(report)


def _form(model: nn.Module, deployed: bool, size: tuple[int, int]) -> nn.Module:
    import archs

    return archs.deploy(model, size) if deployed else model


def _print(report: dict) -> None:
    OUTPUT.print(f"{report['name']}, {report['classes']} classes, weights: {report['weights']}", highlight=False)
    if found := report.get("onnx"):
        OUTPUT.print(
            f"checked with ONNX Runtime: logits differ by {found['difference']:.1e} of the largest one, "
            f"{found['agreement']:.2%} of the pixels get the same class",
            highlight=False,
        )
    for path in report["files"]:
        OUTPUT.print(path, highlight=False)
