"""Static costs of a model: parameters, multiply-accumulates, storage; exact, and as others count them."""

from bench.counting.foreign import ForeignCount, count_fvcore, count_thop
from bench.counting.macs import MacCount, ParamCount, count_macs, count_params
from bench.counting.storage import Storage, measure_storage

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
