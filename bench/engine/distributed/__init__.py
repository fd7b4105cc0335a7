"""Work shared among processes and hosts over an Optuna storage: a search's trials, or the cells of a study.

`open_shared` opens the storage and says how its workers know of each other; a `WorkLoop` is one worker's part. Optuna
is imported only here and above, so that the engine itself stays light.
"""

from bench.engine.distributed.loop import WorkLoop, note
from bench.engine.distributed.storage import (
    REASON,
    SQLITE,
    WORKER,
    Heartbeat,
    experimental,
    is_decided,
    is_file,
    missing,
    open_storage,
    quiet,
    through_outages,
    without_password,
)
from bench.engine.distributed.workers import Workers, open_shared

__all__ = [
    "REASON",
    "SQLITE",
    "WORKER",
    "Heartbeat",
    "WorkLoop",
    "Workers",
    "experimental",
    "is_decided",
    "is_file",
    "missing",
    "note",
    "open_shared",
    "open_storage",
    "quiet",
    "through_outages",
    "without_password",
]
