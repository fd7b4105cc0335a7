"""What runs a network: plain PyTorch, its compiler, CUDA graphs, ONNX Runtime or OpenVINO.

Each makes of a network and an input a call without arguments that computes the output anew. Before anything is timed
the output is held against the trained network's in fp32: a runtime or form that computes something else is refused.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.errors import BenchError
from bench.speed.export import difference, export_onnx
from bench.speed.protocol import DTYPES, MEMORY_FORMATS, SpeedProtocol, tensor_cores
from bench.speed.quantise import calibration_batches, float_operators, quantise_onnx, quantise_openvino, read_openvino

TOLERANCES = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1, "int8": 0.5}
"""Largest difference from the trained network's fp32 output, as a share of its largest value. Networks of some fifty
layers lose a few units of their type's precision (1e-7, 5e-4, 5e-4, 4e-3); a wrong operator costs a multiple of these.
"""
EXTRAS = {
    "onnxruntime": ("onnx", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("openvino", ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")),
}
ALLOWED = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
"""Precisions of the runtimes that do not take PyTorch's types."""
GRAPH_WARMUPS = 3  # calls before a capture, which lets libraries choose kernels and allocate what they keep


class OtherOutputError(BenchError):
    """The output is not the trained network's in fp32."""


@dataclass(frozen=True)
class Prepared:
    """A network ready to be called.

    Attributes:
        call: computes the output anew; waited for only by a clock.
        read: the output of a call as a tensor.
        in_float: of an int8 network, how many operators of each type stay in float, where the runtime tells.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Tensor] = lambda output: output
    in_float: dict[str, int] | None = None


class ModelCache:
    """Networks, ONNX files and int8 networks that several contenders share: making them takes seconds to minutes."""

    def __init__(self) -> None:
        self._networks: dict[tuple, tuple[nn.Module, nn.Module]] = {}  # with the original, so that its id stays its own
        self._files: dict[tuple, tuple[nn.Module, bytes]] = {}
        self._quantised: dict[tuple, tuple[nn.Module, Tensor | None, Any]] = {}

    def network(self, model: nn.Module, x: Tensor, protocol: SpeedProtocol) -> nn.Module:
        """A copy of `model` in the protocol's form, type and memory format, on `x`'s device, in eval mode.

        Raises:
            BenchError: the network has no deployed form.
        """
        size = (x.shape[-2], x.shape[-1])
        key = (id(model), protocol.form, protocol.memory_format, x.dtype, x.device, size)
        if key not in self._networks:
            made = _form(model, size, x.shape[1], protocol.form).eval()
            made = made.to(x.device, x.dtype).to(memory_format=MEMORY_FORMATS[protocol.memory_format])
            self._networks[key] = made, model
        return self._networks[key][0]

    def onnx(self, network: nn.Module, x: Tensor) -> bytes:
        """The network as an ONNX file for inputs of `x`'s shape, checked (see `bench.speed.export`)."""
        if isinstance(file := getattr(network, "onnx", None), bytes):
            return file  # it is one (`bench.scenes.exported`)
        key = (id(network), tuple(x.shape))
        if key not in self._files:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "network.onnx"
                export_onnx(network, path, (x.shape[-2], x.shape[-1]), x.shape[0], in_channels=x.shape[1])
                self._files[key] = network, path.read_bytes()
        return self._files[key][1]

    def quantised(self, network: nn.Module, x: Tensor, protocol: SpeedProtocol, calibration: Tensor | None) -> Any:
        """The network in int8 for inputs of `x`'s shape, as the protocol's runtime reads it: a file or a model."""
        key = (id(network), tuple(x.shape), protocol.runtime, protocol.in_float, id(calibration))
        if key not in self._quantised:
            file, batches = self.onnx(network, x), calibration_batches(calibration, len(x))
            if protocol.runtime == "onnxruntime":
                made = quantise_onnx(file, batches)
            else:
                made = quantise_openvino(read_openvino(file), batches, protocol.in_float)
            self._quantised[key] = network, calibration, made
        return self._quantised[key][2]


def prepare(
    network: nn.Module,
    x: Tensor,
    protocol: SpeedProtocol,
    models: ModelCache,
    calibration: Float[Tensor, "n c h w"] | None = None,
) -> Prepared:
    """Make `network` (of the models) ready to be called on `x` in the protocol's runtime.

    Args:
        calibration: scaled images of `x`'s size out of the training data, which int8 needs.

    Raises:
        BenchError: the runtime is not installed, or not for this device or precision.
    """
    refuse_missing(protocol, x.device)
    with tensor_cores(protocol.precision):
        if protocol.runtime in EXPORTED:
            return EXPORTED[protocol.runtime](network, x, protocol, models, calibration)
        return IN_TORCH[protocol.runtime](network, x)


def refuse_missing(protocol: SpeedProtocol, device: torch.device) -> None:
    """Say in one sentence what stands in the way of the protocol's runtime and precision on `device`.

    Raises:
        BenchError: something does.
    """
    runtime, precision = protocol.runtime, protocol.precision
    extra, packages = EXTRAS.get(runtime, ("", ()))
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise BenchError(
            f"{runtime} needs {', '.join(missing)}, which is not installed: pip install 'lale-bench[{extra}]'"
        )
    if device.type != "cuda" and (runtime == "cudagraphs" or precision == "tf32"):
        what = "runtime cudagraphs" if runtime == "cudagraphs" else "precision tf32"
        raise BenchError(f"{what} is for NVIDIA GPUs, not for a {device.type}; leave it out, or give --device cuda")
    if runtime in EXTRAS and device.type != "cpu":
        raise BenchError(f"runtime {runtime} is measured on the CPU only; give --device cpu")
    allowed = ALLOWED.get(runtime, tuple(name for name, dtype in DTYPES.items() if dtype.is_floating_point))
    if precision not in allowed:
        raise BenchError(f"runtime {runtime} is measured in {' or '.join(allowed)}, not in {precision}")


def input_type(protocol: SpeedProtocol) -> torch.dtype:
    """Of weights and input as the runtime takes them: OpenVINO takes fp32 and rounds by itself."""
    return torch.float32 if protocol.runtime in EXTRAS else DTYPES[protocol.precision]


def refuse_other_output(label: str, found: Tensor, wanted: Tensor, protocol: SpeedProtocol) -> float:
    """How far the output is from the trained network's in fp32.

    Raises:
        OtherOutputError: further than `TOLERANCES` allow.
    """
    far = difference(found, wanted)
    if far > TOLERANCES[protocol.precision]:
        raise OtherOutputError(
            f"{label} computes something else in {protocol.runtime}, {protocol.form} form, {protocol.precision}: its "
            f"output differs by {far:.2g} of the largest value (allowed: {TOLERANCES[protocol.precision]:g}); it was "
            "not used"
        )
    return far


def _form(model: nn.Module, size: tuple[int, int], in_channels: int, form: str) -> nn.Module:
    from bench.counting.cells import deploy

    if form == "deployed" and not getattr(model, "deployed", False):
        return deploy(model, size, in_channels)
    return copy.deepcopy(model)


def _eager(model: nn.Module, x: Tensor) -> Prepared:
    return Prepared(lambda: model(x))


def _compile(model: nn.Module, x: Tensor) -> Prepared:
    compiled = torch.compile(model, dynamic=False)
    return Prepared(lambda: compiled(x))


def _autotune(model: nn.Module, x: Tensor) -> Prepared:
    """What the compiler can do if its own time does not matter; on a CPU without Python between the kernels."""
    options: dict[str, Any] = {"max_autotune": True, "freezing": True, "cpp_wrapper": x.device.type == "cpu"}
    compiled = torch.compile(model, dynamic=False, options=options)
    return Prepared(lambda: compiled(x))


def _cudagraphs(model: nn.Module, x: Tensor) -> Prepared:
    """All kernels of a call recorded once and launched together; the output is always in the same place."""
    with torch.cuda.device(x.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(GRAPH_WARMUPS):
                model(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = model(x)
    return Prepared(graph.replay, lambda _: output)


def onnx_session(
    network: nn.Module,
    x: Tensor,
    protocol: SpeedProtocol,
    models: ModelCache,
    calibration: Tensor | None,
    profile: Path | None = None,
) -> Any:
    """A session of ONNX Runtime for `x`: the caller's thread and as many others as PyTorch has.

    They sleep between calls, and leave the next its cores.

    Args:
        profile: what the name of a profile's file begins with; None makes no profile.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    int8 = protocol.precision == "int8"
    file = models.quantised(network, x, protocol, calibration) if int8 else models.onnx(network, x)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def openvino_model(
    network: nn.Module,
    x: Tensor,
    protocol: SpeedProtocol,
    models: ModelCache,
    calibration: Tensor | None,
    **settings: Any,
) -> Any:
    """A compiled model of OpenVINO for `x`: one request at a time, all threads on it.

    In fp32 by the hint too, or some processors would take bf16 unasked.

    Args:
        settings: further ones of OpenVINO's.
    """
    import openvino

    int8 = protocol.precision == "int8"
    model = models.quantised(network, x, protocol, calibration) if int8 else read_openvino(models.onnx(network, x))
    settings |= {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if protocol.precision == "bf16" else "f32",
    }
    return openvino.Core().compile_model(model, "CPU", settings)


def _onnxruntime(
    network: nn.Module, x: Tensor, protocol: SpeedProtocol, models: ModelCache, calibration: Tensor | None
) -> Prepared:
    session = onnx_session(network, x, protocol, models, calibration)
    feed = {"image": x.contiguous().numpy()}
    return Prepared(lambda: session.run(["logits"], feed)[0], torch.from_numpy)


def _openvino(
    network: nn.Module, x: Tensor, protocol: SpeedProtocol, models: ModelCache, calibration: Tensor | None
) -> Prepared:
    compiled = openvino_model(network, x, protocol, models, calibration)
    request, image = compiled.create_infer_request(), x.contiguous().numpy()
    return Prepared(
        lambda: request.infer([image], share_inputs=True, share_outputs=True),
        lambda outputs: torch.from_numpy(outputs[0]),
        float_operators(compiled) if protocol.precision == "int8" else None,
    )


IN_TORCH: dict[str, Callable[[nn.Module, Tensor], Prepared]] = {
    "eager": _eager,
    "compile": _compile,
    "autotune": _autotune,
    "cudagraphs": _cudagraphs,
}
EXPORTED: dict[str, Callable[[nn.Module, Tensor, SpeedProtocol, ModelCache, Tensor | None], Prepared]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def possible_forms(
    model: nn.Module, ran: nn.Module, x: Tensor, protocol: SpeedProtocol, models: ModelCache
) -> list[nn.Module]:
    """The networks of which a runtime may have run any: in eager the one that ran, else the other form as well."""
    if protocol.runtime in ("eager", "cudagraphs"):
        return [ran]
    form = "trained" if protocol.form == "deployed" else "deployed"
    try:
        return [ran, models.network(model, x, replace(protocol, form=form))]
    except BenchError:  # it has no deployed form
        return [ran]
