"""A study's figures as timm spells those of its benchmarks (`results/benchmark-infer-*.csv`), for tools that read them.

timm's names, units and order: parameters in millions, MACs in billions, the time of a batch in milliseconds. Macro F1
and IoU follow in percent, as its accuracies are. `infer_macts` is left out: timm counts the outputs of some operators
only. Nothing is rounded.
"""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records.atomic import write_atomically
from bench.report.columns import is_missing

NAMES = {
    "variant": "model",
    "throughput": "infer_samples_per_sec",
    "params": "param_count",
    "macs": "infer_gmacs",
    "f1": "macro_f1",
    "iou": "macro_iou",
}
"""Our column, and what it is called there; image size, batch size and the time of a batch are worked out."""
DIVISORS = {"params": 1e6, "macs": 1e9, "f1": 0.01, "iou": 0.01}


def write_timm(frame: pd.DataFrame, size: tuple[int, int], batch: int | None, path: Path) -> Path:
    """Write one row a variant, empty where nothing was measured.

    Args:
        frame: see `bench.report.columns.COLUMNS`.
        size: height and width of the images; the larger one is written.
        batch: that of the throughput; None where no speed was measured.
        path: of the CSV file.
    """
    rows = [_row(row, max(size), batch) for row in frame.to_dict("records")]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_atomically(path, out.getvalue().encode())


def _row(row: dict[str, Any], size: int, batch: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {NAMES[key]: "" if is_missing(row[key]) else _scaled(key, row[key]) for key in NAMES}
    rate = found["infer_samples_per_sec"]
    return {
        "model": found["model"],
        "infer_img_size": size,
        "infer_samples_per_sec": rate,
        "infer_step_time": 1000 * batch / rate if batch and rate else "",
        "infer_batch_size": batch or "",
        **{name: found[name] for name in ("param_count", "infer_gmacs", "macro_f1", "macro_iou")},
    }


def _scaled(key: str, value: Any) -> Any:
    return float(value) / DIVISORS[key] if key in DIVISORS else value
