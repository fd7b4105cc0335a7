"""Where the time of an inference goes, by type of operator and precision, as OpenVINO and ONNX Runtime count it."""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.speed.measure import Contender, example_input, limited_threads
from bench.speed.protocol import SpeedProtocol
from bench.speed.runtimes import ModelCache, onnx_session, openvino_model, refuse_missing

CALLS, WARMUPS = 20, 3
PRECISIONS = {
    "f32": "fp32", "float": "fp32", "f16": "fp16", "float16": "fp16", "bf16": "bf16", "bfloat16": "bf16",
    "i8": "int8", "u8": "int8", "int8": "int8", "uint8": "int8",
}  # fmt: skip
"""Names of types in the profiles, as those of a protocol."""
Timed = tuple[str, str, float]
"""Type of an operator, type of its numbers, and how long it took."""


@dataclass(frozen=True)
class OperatorTime:
    """All operators of one type and precision.

    Attributes:
        operator: the runtime's name for it; `Subgraph` is several that OpenVINO has made one of.
        precision: of what it reads, so that a conversion counts as what it converts.
        count: of them in a network.
        share: of the time of all operators, in 0..1.
    """

    operator: str
    precision: str
    count: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


def refuse_unprofiled(protocol: SpeedProtocol) -> None:
    """Raise `BenchError` for a runtime that does not tell the time of its operators."""
    if protocol.runtime not in PROFILERS:
        raise BenchError(f"{protocol.runtime} is not profiled by operator; give --runtime {' or '.join(PROFILERS)}")


def operator_times(contender: Contender, models: ModelCache | None = None) -> list[OperatorTime]:
    """Profile a network on the CPU, the longest share first; operators that the runtime skips are left out.

    Profiling itself takes time, so these calls are none of those that a speed is made of.

    Args:
        models: of a race of the same network, so that it is not made again.

    Raises:
        BenchError: the runtime is not installed, or tells no times.
    """
    protocol, models = contender.protocol, models or ModelCache()
    refuse_unprofiled(protocol)
    refuse_missing(protocol, torch.device("cpu"))
    x = example_input(contender, torch.device("cpu"))
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    counts: Counter[tuple[str, str]] = Counter()
    with limited_threads(protocol.threads), torch.inference_mode():
        network = models.network(contender.model, x, protocol)
        for operator, kind, took in PROFILERS[protocol.runtime](network, x, protocol, models, contender.calibration):
            key = operator, PRECISIONS.get(kind, kind)
            seconds[key] += took
            counts[key] += 1
    whole = sum(seconds.values())
    found = [OperatorTime(*key, round(counts[key] / CALLS), took / whole) for key, took in seconds.items()]
    return sorted(found, key=lambda one: one.share, reverse=True)


def _openvino(
    network: nn.Module, x: Tensor, protocol: SpeedProtocol, models: ModelCache, calibration: Tensor | None
) -> Iterator[Timed]:
    compiled = openvino_model(network, x, protocol, models, calibration, PERF_COUNT=True)
    request, image = compiled.create_infer_request(), x.contiguous().numpy()
    for call in range(WARMUPS + CALLS):
        request.infer([image], share_inputs=True, share_outputs=True)
        for one in request.profiling_info if call >= WARMUPS else ():
            if one.status == one.Status.EXECUTED:
                yield one.node_type, one.exec_type.rpartition("_")[2].lower(), one.real_time.total_seconds()


def _onnxruntime(
    network: nn.Module, x: Tensor, protocol: SpeedProtocol, models: ModelCache, calibration: Tensor | None
) -> Iterator[Timed]:
    with tempfile.TemporaryDirectory() as folder:
        session = onnx_session(network, x, protocol, models, calibration, Path(folder) / "profile")
        for _ in range(WARMUPS + CALLS):
            session.run(["logits"], {"image": x.contiguous().numpy()})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    for event in nodes[len(nodes) * WARMUPS // (WARMUPS + CALLS) :]:
        read = event["args"]["input_type_shape"] or event["args"]["output_type_shape"]
        yield event["args"]["op_name"], next(iter(read[0])), event["dur"]


PROFILERS = {"openvino": _openvino, "onnxruntime": _onnxruntime}
