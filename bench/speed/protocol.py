"""How speed is measured: every choice that moves a figure, in one record."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bench.errors import BenchError

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}
PRECISIONS = tuple(DTYPES)
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
RUNTIMES = ("eager", "compile", "autotune", "cudagraphs", "onnxruntime", "openvino")
FORMS = ("trained", "deployed")


@dataclass(frozen=True)
class SpeedProtocol:
    """How to measure.

    Args:
        batch: images a call.
        precision: fp32, tf32 (fp32 whose products a GPU may round to tf32; fp32 itself never is), bf16 or fp16;
            weights and input are of that type (no autocast); or int8, quantised after training by ONNX Runtime or
            OpenVINO's NNCF. OpenVINO takes fp32 and computes in bf16 by its own hint.
        memory_format: contiguous or channels_last.
        runtime: eager, compile (`torch.compile`, shapes fixed), autotune (the same, with kernels chosen by timing
            them and weights folded in as constants), cudagraphs, onnxruntime or openvino; the time that the
            preparation takes is reported apart.
        in_float: operators that an int8 network of OpenVINO keeps in float (see `bench.scenes.accuracy`), by the names
            that `bench.speed.quantise.read_openvino` gives them.
        form: trained, the network as it is; or deployed, `archs.deploy` of it, the same function in fewer operators.
        threads: of PyTorch on the CPU during the measurement; None leaves the number as it is.
        calls: timed calls of each model in a round; fewer, down to one, of a model so slow that the fewest rounds
            would outlast its part of `max_seconds`.
        rounds: at least so many; 6 is the fewest that give a 95 % interval of a median.
        min_seconds: of timed calls, over all models and rounds, at least.
        max_seconds: no round begins after so long, over all models, once there are `rounds` of them.
        precision_goal: rounds go on until each interval's half width is under this share of its median.
        warmup_seconds: the longest that a model may take to settle.
    """

    batch: int = 1
    precision: str = "fp32"
    memory_format: str = "contiguous"
    runtime: str = "eager"
    form: str = "trained"
    in_float: tuple[str, ...] = ()
    threads: int | None = None
    calls: int = 5
    rounds: int = 10
    min_seconds: float = 1.0
    max_seconds: float = 30.0
    precision_goal: float = 0.05
    warmup_seconds: float = 5.0

    def __post_init__(self) -> None:
        known: dict[str, Iterable[str]] = {
            "precision": PRECISIONS,
            "memory_format": MEMORY_FORMATS,
            "runtime": RUNTIMES,
            "form": FORMS,
        }
        for field, options in known.items():
            if getattr(self, field) not in options:
                raise BenchError(f"{field} {getattr(self, field)!r} is not known; there are {', '.join(options)}")
        if self.in_float and not self.restores:
            raise BenchError(f"operators are kept in float in OpenVINO's int8, not in {self.runtime} {self.precision}")
        if self.batch < 1 or self.calls < 1 or (self.threads is not None and self.threads < 1):
            raise BenchError(f"batch ({self.batch}), calls ({self.calls}) and threads ({self.threads}) start at 1")
        if self.rounds < 6:
            raise BenchError(f"rounds is {self.rounds}; a 95 % interval of a median needs at least 6")

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON; `in_float` only where there is some."""
        return {name: value for name, value in asdict(self).items() if name != "in_float" or value}

    @property
    def restores(self) -> bool:
        """Whether operators can be put back into float: in OpenVINO's int8."""
        return (self.runtime, self.precision) == ("openvino", "int8")

    @property
    def schedule(self) -> tuple[Any, ...]:
        """What must be equal of networks that are measured in the same rounds."""
        fields = ("threads", "calls", "rounds", "min_seconds", "max_seconds", "precision_goal", "warmup_seconds")
        return tuple(getattr(self, field) for field in fields)


@contextmanager
def tensor_cores(precision: str) -> Iterator[None]:
    """Let a GPU round fp32 products to tf32 if, and only if, the precision is tf32; elsewhere nothing changes."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
