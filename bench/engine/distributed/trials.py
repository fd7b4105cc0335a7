"""What a trial in the storage says of the work on it.

A worker puts its name on a trial while it works on it. A running trial without a name, or with that of a dead worker,
is continued by the next worker as the same trial: so a search that was killed proposes the same points as one that was
not, and no cell is lost.
"""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

WORKER, REASON = "worker", "reason"


def is_decided(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it has its values, or it failed and says why."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and REASON in trial.user_attrs)


def missing(trials: Sequence[FrozenTrial], wanted: int) -> int:
    """How many trials are still to be decided."""
    return wanted - sum(is_decided(trial) for trial in trials)
