"""What a trial of a search carries in its storage, and how a killed one is taken up again.

A process may die at any point. What it was about stays in the storage as a running trial; the next start finds it,
marks it failed and queues its point again as a new trial, which takes over the slot: the position in the search that
decides the seed of the proposal. So a search that was killed goes through the same trials as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

REPLACES, SLOT, REASON, WORKER, CONFIG_KEY = "replaces", "slot", "reason", "worker", "config_key"
SURPLUS, POINT = "surplus", "point"


def slot_of(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """The position of a trial among all `trials` of its search: its number, had no trial been interrupted."""
    if SLOT in trial.user_attrs:
        return trial.user_attrs[SLOT]
    return trial.number - sum(REPLACES in other.user_attrs for other in trials[: trial.number])


def is_decided(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it has its values, or its training failed and said why."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and REASON in trial.user_attrs)


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial ended without a result through no fault of its config."""
    return trial.state == TrialState.FAIL and not {REASON, SURPLUS} & trial.user_attrs.keys()


def is_surplus(trials: Sequence[FrozenTrial], number: int, wanted: int) -> bool:
    """Whether a trial that just began is one too many: several workers may have started the last one."""
    return sum(is_decided(t) or not t.state.is_finished() for t in trials[:number]) >= wanted


def missing(trials: Sequence[FrozenTrial], wanted: int) -> int:
    """How many trials are still to be decided."""
    return wanted - sum(is_decided(trial) for trial in trials)


def take_up(study: Study, is_dead: Callable[[FrozenTrial], bool]) -> int:
    """Queue again what was interrupted; how many trials that is.

    Every step may itself be cut short: a trial is queued once however often this runs.

    Args:
        study: the search.
        is_dead: whether the worker of a running trial is gone.
    """
    trials = study.get_trials(deepcopy=False)
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    lost = [trial for trial in trials if is_interrupted(trial) or _is_abandoned(trial, is_dead)]
    for trial in lost:
        if trial.number not in replaced:
            queue_again(study, trial)
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    return sum(trial.number not in replaced for trial in lost)


def _is_abandoned(trial: FrozenTrial, is_dead: Callable[[FrozenTrial], bool]) -> bool:
    return trial.state == TrialState.RUNNING and is_dead(trial)


def queue_again(study: Study, trial: FrozenTrial) -> None:
    """The same point if it was proposed whole, by this trial or one before; else none: the slot leads to it again."""
    point = dict(trial.params) if CONFIG_KEY in trial.user_attrs else trial.user_attrs.get(POINT, {})
    slot = slot_of(study.get_trials(deepcopy=False), trial)
    study.enqueue_trial(point, user_attrs={REPLACES: trial.number, SLOT: slot, POINT: point})
