"""Static costs of a model: parameters, multiply-accumulates, storage; exact, and as others count them."""

from bench.counting.foreign import ForeignCount
from bench.counting.fvcore_count import count_fvcore
from bench.counting.macs import MacCount, count_macs
from bench.counting.params import ParamCount, count_params
from bench.counting.storage import Storage, measure_storage
from bench.counting.thop_count import count_thop

__all__ = [
    "ForeignCount",
    "MacCount",
    "ParamCount",
    "Storage",
    "count_fvcore",
    "count_macs",
    "count_params",
    "count_thop",
    "measure_storage",
]
