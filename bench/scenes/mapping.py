"""From a trained network and the path of a scene to a map on the disk."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import archs
from archs import ArchConfig, InputRule
from bench.data.bands import takes_rgb
from bench.errors import BenchError
from bench.scenes import windows
from bench.scenes.exported import OnnxNetwork, can_export_apart, export_apart
from bench.scenes.output import TIFF_SUFFIXES, Draft, Layer, require_room
from bench.scenes.predict import Timing, WindowNetwork, predict_scene, sample_windows
from bench.scenes.source import GEO_SUFFIXES, PICTURE_SUFFIXES, Scene, open_scene, sample_scene
from bench.scenes.windows import Grid
from bench.speed.protocol import SpeedProtocol
from bench.speed.runtimes import EXPORTED, refuse_missing
from bench.training.trained import TrainedNetwork

SAMPLE = "sample"
"""The scene that comes with the suite: Europe and North Africa out of the embedded data set."""


@dataclass(frozen=True)
class Mapping:
    """How scenes are turned into maps.

    Attributes:
        window: side of a window in pixels; None takes that of the tiles that the network was trained on. Networks
            that see the whole window (attention, global pooling) answer otherwise where it is larger.
        overlap: of neighbouring windows, at least, in pixels; None takes a quarter of the window, 64 at most.
        blend: over so many pixels one window's answer fades into the next one's; None takes half of the overlap.
        batch: windows a call; None takes as many as have `windows.PIXELS_A_BATCH` pixels.
        form, runtime, precision: as those of `measure`; int8 is calibrated on windows of the scene.
        device: where the network runs.
        probabilities: whether the probability of each class is written too.
    """

    window: int | None = None
    overlap: int | None = None
    blend: int | None = None
    batch: int | None = None
    form: str = "deployed"
    runtime: str = "eager"
    precision: str = "fp32"
    device: str = "cpu"
    probabilities: bool = False

    def tiling(self, scene: Scene, trained: TrainedNetwork) -> Grid:
        """The windows of a scene."""
        rule = input_rule(trained.config)
        sides = trained.tile_size, rule.fixed, self.window, self.overlap, self.blend, rule.minimum
        return windows.tiling(scene.height, scene.width, *sides)

    def protocol(self, tiling: Grid) -> SpeedProtocol:
        """How the network is run on the windows of a scene."""
        most = self.batch or windows.largest_batch(tiling.side)
        calls = -(-len(tiling) // most)
        own = self.runtime in ("eager", "compile", "autotune")
        return SpeedProtocol(
            batch=-(-len(tiling) // calls),  # even calls: what fills up the last one is computed for nothing
            form=self.form,
            runtime=self.runtime,
            precision=self.precision,
            memory_format="channels_last" if own else "contiguous",
        )


@dataclass(frozen=True)
class Map:
    """A finished map. `timing` is None where no row was to be made; `pixel_area` is in square metres, if known."""

    path: Path
    size: tuple[int, int]
    timing: Timing | None = None
    pixel_area: float | None = None


NO_MAPS = (".jpg", ".jpeg", ".jp2", ".webp", ".gif", ".bmp", ".vrt", ".svg", ".pdf")
"""What nobody calls a folder."""


def find_scenes(scene: str) -> list[Path]:
    """The files that a user means: one file, all scenes of a folder, or a pattern.

    Raises:
        BenchError: there is none.
    """
    path = Path(scene)
    if path.is_file() or (scene == SAMPLE and not path.is_dir()):
        return [path]
    found = path.iterdir() if path.is_dir() else Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
    known = GEO_SUFFIXES | PICTURE_SUFFIXES
    scenes = sorted(file for file in found if file.suffix.lower() in known and not file.name.startswith("."))
    if not scenes:
        raise BenchError(
            f"there is no scene {scene}; give a GeoTIFF, PNG or JPEG, a folder of them, a pattern in quotes, or "
            f"`{SAMPLE}`"
        )
    return scenes


def refuse_shared_maps(scenes: Sequence[Path]) -> None:
    """Refuse scenes of which two would be mapped to one file of a folder (see `output_path`).

    Raises:
        BenchError: there are two such.
    """
    alike = Counter(scene.stem for scene in scenes)
    first: dict[Path, Path] = {}
    for scene in (scene for scene in scenes if alike[scene.stem] > 1):
        other = first.setdefault(output_path(scene, Path(), True, _placed(scene)), scene)
        if other is not scene:
            raise BenchError(
                f"{other} and {scene} would share one map, since maps are named as their scenes: rename one of them, "
                "or map them in two calls with a folder each"
            )


def _placed(scene: Path) -> bool:
    try:
        with open_scene(scene) as opened:
            return opened.place.known
    except BenchError:  # refused when its turn comes
        return scene.suffix.lower() in GEO_SUFFIXES


def output_path(scene: Path, out: Path, many: bool, georeferenced: bool) -> Path:
    """Where a scene's map goes: `out` if it names a file, else a file of the scene's name in the folder `out`.

    Raises:
        BenchError: `out` names a file of another kind.
    """
    if not many and out.suffix.lower() in (*TIFF_SUFFIXES, ".png"):
        return out
    if out.suffix.lower() in NO_MAPS and not out.is_dir():
        raise BenchError(f"a map is a .tif or a .png file, and {out} is neither: give such a name, or a folder")
    return out / f"{scene.stem}{'.tif' if georeferenced else '.png'}"


def map_scene(
    trained: TrainedNetwork,
    path: Path,
    out: Path,
    how: Mapping,
    *,
    many: bool = False,
    overwrite: bool = False,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> Map:
    """Map one scene; killed, the same call goes on where it stopped.

    Args:
        out: of the map: a .tif or .png file, or a folder.
        many: `out` is a folder whatever it is called.
        overwrite: replace a map that another network, or other settings, made.

    Raises:
        BenchError: the scene has other bands than the network takes, cannot be read, or `out` holds another map.
    """
    with _opened(path, len(trained.bands)) as scene:
        _require_bands(trained, scene)
        target = output_path(path, out, many, scene.place.known)
        tiling = how.tiling(scene, trained)
        layers = _layers(trained, target, how.probabilities)
        _refuse_scene_as_map(layers, path)
        drafts = [Draft(layer, scene.height, scene.width, _signature(trained, scene, how, layer)) for layer in layers]
        size = (scene.height, scene.width)
        due = [draft for draft in drafts if not draft.finished]
        _refuse_other_maps(due, overwrite)
        lacking = [draft for draft in due if draft.rows < scene.height]
        try:
            timing = _predicted(trained, scene, how, tiling, lacking, on_window) if lacking else None
            start = time.perf_counter()
            for draft in due:
                draft.finish(scene.place)
            for draft in drafts:  # also what a run left that was killed after its map was finished
                draft.remove()
        finally:
            for draft in drafts:
                draft.close()
        if timing is None:
            return Map(target, size)
        timing = replace(timing, seconds=timing.seconds + time.perf_counter() - start)
        return Map(target, size, timing, scene.place.pixel_area(*size))


def _predicted(
    trained: TrainedNetwork,
    scene: Scene,
    how: Mapping,
    tiling: Grid,
    drafts: list[Draft],
    on_window: Callable[[int, int], None],
) -> Timing:
    """Write the rows that the drafts lack."""
    layers = [draft.layer for draft in drafts]
    layers[0].path.parent.mkdir(parents=True, exist_ok=True)
    require_room(layers, scene.height, scene.width)
    for draft in drafts:
        draft.begin()
    calibration = sample_windows(scene, trained, tiling) if how.precision == "int8" else None
    # Not kept in a name: its memory is given back before the map is finished.
    return predict_scene(scene, _prepared(trained, tiling, how, calibration), tiling, drafts, on_window)


def _prepared(trained: TrainedNetwork, tiling: Grid, how: Mapping, calibration: Tensor | None) -> WindowNetwork:
    """The network for windows; what is exported for a runtime is exported apart, where it can be."""
    protocol = how.protocol(tiling)
    refuse_missing(protocol, torch.device(how.device))
    apart = protocol.runtime in EXPORTED and can_export_apart(trained)
    model = OnnxNetwork(export_apart(trained, how.form, tiling.side, protocol.batch)) if apart else None
    return WindowNetwork(trained, tiling.side, protocol, how.device, calibration, model)


def _opened(path: Path, bands: int) -> AbstractContextManager[Scene]:
    if path.name == SAMPLE and not path.exists():
        return nullcontext(sample_scene(SAMPLE))
    return open_scene(path, bands)


def _require_bands(trained: TrainedNetwork, scene: Scene) -> None:
    if takes_rgb(trained.bands) and scene.dtype != np.uint8:
        raise BenchError(
            f"{scene.name} holds {scene.dtype} and {trained.name} was trained on 8-bit RGB: scale it to 8 bits as the "
            "training tiles were, or train on tiles of such scenes"
        )
    if scene.bands != len(trained.bands):
        raise BenchError(
            f"{scene.name} has {scene.bands} bands and {trained.name} takes {len(trained.bands)}: give a scene with "
            "the bands of its training data, in their order"
        )


def input_rule(config: ArchConfig) -> InputRule:
    """What an architecture, or a file, says of its input; any size where the config is of no registered entry."""
    if isinstance(rule := getattr(config, "inputs", None), InputRule):
        return rule
    rules = (archs.entry(name).inputs for name in archs.names() if archs.entry(name).config == config)
    return next(rules, InputRule())


def _layers(trained: TrainedNetwork, target: Path, probabilities: bool) -> list[Layer]:
    if probabilities and target.suffix.lower() not in TIFF_SUFFIXES:
        target_of_all = target.with_name(f"{target.stem}-probabilities.tif")
    else:
        target_of_all = target.with_name(f"{target.stem}-probabilities{target.suffix}")
    classes = Layer(target, 1, ("class",), trained.colours)
    return [classes, *([Layer(target_of_all, len(trained.names), trained.names)] if probabilities else [])]


def _signature(trained: TrainedNetwork, scene: Scene, how: Mapping, layer: Layer) -> dict[str, Any]:
    """What determines the bytes of a map."""
    settings = asdict(how)
    del settings["batch"], settings["device"], settings["probabilities"]
    found = [(file.name, file.stat()) for file in scene.files if file.is_file()]  # a virtual raster has several
    return {
        "scene": [scene.name, *([name, stat.st_size, stat.st_mtime_ns] for name, stat in found)],
        "weights": trained.digest,
        "trained": [[asdict(band) for band in trained.bands], trained.names, trained.colours],
        "settings": settings,
        "bands": layer.bands,
    }


def _refuse_scene_as_map(layers: list[Layer], path: Path) -> None:
    """No option makes it right to replace what is mapped."""
    for layer in layers:
        if layer.path.exists() and path.exists() and layer.path.samefile(path):
            raise BenchError(f"the map would replace its own scene, {path}: give another place")


def _refuse_other_maps(drafts: list[Draft], overwrite: bool) -> None:
    for draft in drafts:
        if draft.layer.path.exists() and not overwrite:
            raise BenchError(
                f"{draft.layer.path} is there and was made otherwise; give another place, or --overwrite to replace it"
            )
