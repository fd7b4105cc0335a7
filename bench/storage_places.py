"""Where the suite keeps what it can make again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "LALE_BENCH_CACHE"


def cache_folder() -> Path:
    """The user's cache folder for this suite: `$LALE_BENCH_CACHE`, or where the system keeps caches."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lale-bench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lale-bench"
