"""An ONNX file that `lale-bench export` wrote, as a trained network: ONNX Runtime stands where PyTorch did.

What a network needs beside its weights (classes, and what scales its bands) is read from the file's metadata.
"""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archs import InputRule
from bench.counting.cells import deploy
from bench.engine.helpers import import_paths
from bench.errors import BenchError
from bench.speed.export import METADATA, export_onnx, require_onnx
from bench.speed.protocol import SpeedProtocol
from bench.training.trained import TrainedNetwork, described, open_trained

START = "from bench.scenes.exported import export_asked; export_asked()"
IN_TORCH = ("compile", "autotune", "cudagraphs")


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime runs on the CPU; `onnx` is its file, which other runtimes take as it is."""

    deployed = True

    def __init__(self, file: bytes) -> None:
        super().__init__()
        self.onnx = file

    @cached_property
    def _session(self) -> Any:
        return _session(self.onnx)

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        return torch.from_numpy(self._session.run(["logits"], {"image": image.contiguous().numpy()})[0])

    def __deepcopy__(self, memo: dict) -> "OnnxNetwork":
        return self  # it has no state


@dataclass(frozen=True)
class OnnxConfig:
    """What an ONNX file takes: None where the file leaves a number open."""

    family: ClassVar[str] = "onnx"
    file: Path
    batch: int | None
    size: tuple[int, int] | None

    @property
    def inputs(self) -> InputRule:
        """The size of an image."""
        return InputRule(fixed=self.size)

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """The network of the file, whatever is asked for."""
        return OnnxNetwork(self.file.read_bytes())


@dataclass(frozen=True)
class ExportedNetwork(TrainedNetwork):
    """A trained network of which there is an ONNX file alone; `weights` and `path` are that file."""

    config: OnnxConfig

    def build(self) -> nn.Module:
        return OnnxNetwork(self.weights.read_bytes())

    def suited(self, protocol: SpeedProtocol, side: tuple[int, int]) -> SpeedProtocol:
        """ONNX Runtime unless OpenVINO is asked for, and the file's own batch.

        Raises:
            BenchError: the file takes another size, or a runtime of PyTorch is asked for.
        """
        if self.config.size not in (None, side):
            taken, given = (f"{height} x {width}" for height, width in (self.config.size or side, side))
            raise BenchError(
                f"{self.name} takes images of {taken} px and these are of {given} px: export the network again with "
                "--size, or give the folder of its training"
            )
        if protocol.runtime in IN_TORCH:
            raise BenchError(
                f"{self.name} is an ONNX file, which {protocol.runtime} cannot run: give --runtime onnxruntime or "
                "openvino, or the folder of its training"
            )
        runtime = "onnxruntime" if protocol.runtime == "eager" else protocol.runtime
        batch = self.config.batch or protocol.batch
        return replace(protocol, runtime=runtime, form="deployed", memory_format="contiguous", batch=batch)


def can_export_apart(trained: TrainedNetwork) -> bool:
    """Whether `export_apart` takes it: another process knows the suite's own families and no plugin's."""
    return type(trained.config).__module__.split(".")[0] == "archs"


@lru_cache(maxsize=2)
def export_apart(trained: TrainedNetwork, form: str, side: tuple[int, int], batch: int) -> bytes:
    """The network as an ONNX file for images of one size, by a process of its own.

    What PyTorch's exporter imports and leaves behind, some 300 MiB, stays with a process until it ends.

    Raises:
        BenchError: it cannot be exported, or the file computes something else.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        asked = pickle.dumps((trained, form, side, batch, path))
        # -P: of what lies in the working folder nothing is imported
        done = subprocess.run(
            [sys.executable, "-P", "-c", START], input=asked, capture_output=True, env={**os.environ, **import_paths()}
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise BenchError(said[-1] if said else f"the export of {trained.name} ended with status {done.returncode}")
        return path.read_bytes()


def export_asked() -> None:
    """In that process: export what standard input asks for; what is wrong is the last line of standard error."""
    trained, form, side, batch, path = pickle.load(sys.stdin.buffer)  # of the process that started this one
    try:
        model = trained.build()
        ran = deploy(model, side, len(trained.bands)) if form == "deployed" else model
        export_onnx(ran, path, side, batch, in_channels=len(trained.bands), reference=model)
    except BenchError as error:
        sys.exit(str(error))


def open_network(network: str) -> TrainedNetwork:
    """The trained network that a user names: what `open_trained` takes, or an ONNX file.

    Raises:
        BenchError: there is none, or what is there is incomplete.
    """
    return open_exported(Path(network)) if network.endswith(".onnx") else open_trained(network)


def open_exported(path: Path) -> ExportedNetwork:
    """The network of an ONNX file with the metadata that `lale-bench export --onnx` writes.

    Raises:
        BenchError: there is no such file, it is no network from an image to logits, or it does not say what it needs.
    """
    require_onnx()
    try:
        session = _session(path.read_bytes())
    except Exception as error:  # ONNX Runtime has a class of its own for each of its failures
        raise BenchError(f"{path} cannot be read as ONNX ({str(error).strip().splitlines()[0]})") from None
    fields = described(_metadata(path, session.get_modelmeta().custom_metadata_map))
    batch, size = _shapes(path, session, len(fields["bands"]), len(fields["names"]))
    return ExportedNetwork(path.name, path, weights=path, config=OnnxConfig(path, batch, size), **fields)


def _session(file: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _metadata(path: Path, found: dict[str, str]) -> dict[str, Any]:
    try:
        about = json.loads(found[METADATA])
        described(about)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BenchError(
            f"{path.name} does not say which classes it has and how its pixels are scaled: `lale-bench export --onnx` "
            f"writes that as metadata; into a file of your own put an entry `{METADATA}`, JSON of the form "
            '{"num_classes": 2, "classes": [{"name": "water", "rgb": [0, 0, 255]}, ...], "bands": [{"name": "red", '
            '"low": 0, "high": 255, "mean": 0.5, "deviation": 0.25}, ...]}, with onnx.helper.set_model_props'
        ) from None
    return about


def _shapes(path: Path, session: Any, bands: int, classes: int) -> tuple[int | None, tuple[int, int] | None]:
    """Batch and size of the input, None where they are open.

    Raises:
        BenchError: input and output are not (batch, bands, H, W) and (batch, classes, H, W).
    """
    image, logits = ([(one.name, one.shape) for one in ends] for ends in (session.get_inputs(), session.get_outputs()))
    named = [name for name, _ in image] == ["image"] and [name for name, _ in logits] == ["logits"]
    if not named or len(image[0][1]) != 4 or len(logits[0][1]) != 4:
        raise BenchError(
            f"{path.name} takes {dict(image)} and gives {dict(logits)}; it must take one `image` (batch, bands, H, W) "
            "and give `logits` (batch, classes, H, W)"
        )
    (batch, channels, height, width), (_, outputs, *_) = image[0][1], logits[0][1]
    for what, said, has in (("bands", bands, channels), ("classes", classes, outputs)):
        if isinstance(has, int) and has != said:
            raise BenchError(f"{path.name} has {has} {what} and its metadata name {said}: one of them is wrong")
    if session.get_inputs()[0].type != "tensor(float)":
        raise BenchError(f"{path.name} takes {session.get_inputs()[0].type} and images are float32: export it in fp32")
    if isinstance(height, int) != isinstance(width, int):
        raise BenchError(f"{path.name} takes images of {height} x {width} px: leave both sides open, or neither")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return batch if isinstance(batch, int) else None, size
