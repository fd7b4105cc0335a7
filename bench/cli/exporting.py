"""`export`: a network as config, weights and ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    OUTPUT,
    JsonOption,
    SetOption,
    parse_settings,
    print_json,
    writable_file,
    writable_folder,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import nn

    from archs import ArchConfig

DEFAULT_CLASSES = 7


def export(
    name: Annotated[
        str,
        typer.Argument(
            help="A folder that `train` wrote, a saved config's path (`front/NAME.json` of a search), NAME@DATA, or a "
            "registered name."
        ),
    ],
    weights: Annotated[Path | None, typer.Option(help="Trained weights; else those beside the config.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Export random weights where there are no trained ones.")
    ] = False,
    onnx: Annotated[
        Path | None, typer.Option(help="Write the network as this ONNX file.", callback=writable_file)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write `config.json` and `weights.safetensors` here.", callback=writable_folder)
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels of an image; default: that of the training tiles, else 256."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a call of the ONNX network.")] = 1,
    num_classes: Annotated[int | None, typer.Option("--classes", min=1, help="Else as the config says, or 7.")] = None,
    deployed: Annotated[
        bool, typer.Option("--deployed/--as-trained", help="ONNX: with what can be folded folded in.")
    ] = True,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a network: a registered one, a trained one, or a member of a searched front.

    The ONNX file is run by ONNX Runtime on random images and must give the same logits as the network as it was
    trained (within 1e-4 of the largest), or it is not written. It takes `image`, float32 (batch, bands, H, W), in the
    range that training used, and gives `logits`. Its metadata name classes and bands and what scales these, so that
    `predict` and `evaluate` take the file.
    """
    import archs
    from bench.speed.export import export_onnx
    from bench.training.checkpoint import load_weights
    from bench.training.trained import saved_config, weights_beside

    if onnx is None and out is None:
        raise BenchError("there is nothing to write: give --onnx FILE, --out FOLDER, or both")
    saved = saved_config(name)
    config = archs.config(saved or name, **parse_settings(settings))
    source = weights or (weights_beside(saved) if saved else None)
    if source is None and not random_weights:
        raise BenchError(
            f"{name} has no trained weights{' beside its config' if saved else ''}: give --weights FILE, or "
            "--random-weights to export it with random ones"
        )
    about = _about(saved, num_classes)
    channels = len(about["bands"])
    model = archs.build(config, about["num_classes"], channels).eval()
    if source is not None:
        load_weights(model, source)
    report = {"name": name, "classes": about["num_classes"], "weights": str(source or "random"), "files": []}
    if out is not None:
        report["files"] += [str(path) for path in _save(config, model, out, about)]
    if onnx is not None:
        sides = (size, size) if size else tuple(about.get("tile_size", (256, 256)))
        form = archs.deploy(model, sides, channels) if deployed else model
        exported = export_onnx(form, onnx, sides, batch, in_channels=channels, reference=model, about=about)
        report["files"].append(str(onnx))
        report["onnx"] = {"bytes": exported.bytes, "difference": exported.difference, "agreement": exported.agreement}
    return print_json(report) if as_json else _print(report)


def _about(saved: Path | None, num_classes: int | None) -> dict[str, Any]:
    """What the saved file says of classes and bands; its classes are dropped where another number is asked for."""
    from bench.data.bands import RGB

    found = json.loads(saved.read_text(encoding="utf-8")) if saved and saved.is_file() else {}
    about = {key: found[key] for key in ("trained_on", "classes", "tile_size", "bands", "credit") if key in found}
    known = found.get("num_classes", DEFAULT_CLASSES)
    if num_classes not in (None, known):
        about.pop("classes", None)
    if "bands" not in about:
        about["bands"] = [band.to_dict() for band in RGB]
    return {"num_classes": num_classes or known, **about}


def _save(config: ArchConfig, model: nn.Module, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Write `config.json` and `weights.safetensors`, which `train --weights`, `export` and others read again."""
    import archs
    from bench.training.checkpoint import save_weights
    from bench.training.trained import CONFIG, WEIGHTS

    if any((folder / name).exists() for name in (CONFIG, WEIGHTS)):
        raise BenchError(f"{folder} holds a network, which would be lost: give another --out, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / WEIGHTS)
    return [archs.save_config(config, folder / CONFIG, **about), folder / WEIGHTS]


def _print(report: dict[str, Any]) -> None:
    lines = [f"{report['name']}, {report['classes']} classes, weights: {report['weights']}"]
    if found := report.get("onnx"):
        lines.append(
            f"checked with ONNX Runtime: logits differ by {found['difference']:.1e} of the largest one, "
            f"{found['agreement']:.2%} of the pixels get the same class"
        )
    for line in [*lines, *report["files"]]:
        OUTPUT.print(line, highlight=False, markup=False, soft_wrap=True)
