"""A study that adds trainings where a verdict is undecided, until all are settled, looks or time are up.

Each look is written into the manifest: its level, the seeds of every variant, and its verdicts. So it resumes, a
verdict that was reached stands, and the report reads intervals at the level of the last look.
"""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.engine import StudyInterrupted
from bench.errors import BenchError
from bench.stats import DELTA
from bench.stats.looks import grown, look_levels, look_seeds
from bench.study.declare import VariantStudy
from bench.study.layout import train_label
from bench.study.protocol import FILE, Setting
from bench.study.result import StudyResult, result_of
from bench.study.run import StudyPlan, load_results, plan_study

Run = Callable[[StudyPlan], None]
UNDECIDED = "undecided"


@dataclass(frozen=True)
class Settling:
    """A study that is to be settled.

    Attributes:
        study: with the variants that are compared.
        setting: its seeds are those of the first look.
        run: measures the cells of a plan.
        hours: after which it stops, also inside a look: trainings that run then go on from their checkpoints.
    """

    study: VariantStudy
    setting: Setting
    run: Run
    hours: float

    def __post_init__(self) -> None:
        seeds = tuple(self.setting.seeds)
        if len(seeds) < 2 or seeds != tuple(range(seeds[0], seeds[0] + len(seeds))):
            raise BenchError(f"--settle adds seeds to two or more that follow each other, as 0,1,2: given {seeds}")

    def settle(self) -> StudyPlan:
        """Look, add trainings, look again.

        Raises:
            StudyInterrupted: Ctrl-C, or the time is up before the first look; the same command goes on from there.
        """
        until = time.monotonic() + 3600 * self.hours
        counts = {v.label: len(self.setting.seeds) for v in self.study.variants if self.study.is_trained(v)}
        plan, looks = self.plan(counts, []), [dict(look) for look in self._recorded(counts)]
        seeds = look_seeds(len(self.setting.seeds))
        for number, level in enumerate(look_levels(seeds)):
            if number < len(looks):  # this look was taken before
                counts = looks[number]["seeds"]
                plan = self.plan(counts, looks[: number + 1])
                if number + 1 == len(looks) and not self._measured(plan, until):  # what failed or was lost since
                    break
            else:
                if not self._measured(self.plan(counts, looks), until):
                    if not looks:
                        raise StudyInterrupted(self.plan(counts, looks).missing)
                    plan.manifest.save(plan.folder)  # trainings beyond the last look wait for the next time
                    break
                plan = self._look(counts, level, looks)
            result = result_of(load_results(plan.folder))
            if number + 1 == len(seeds) or time.monotonic() > until or not _open(result):
                break
            if number + 1 >= len(looks):
                counts = self._more(result, counts, seeds[number + 1])
        return plan

    def plan(self, counts: Mapping[str, int], looks: list[dict[str, Any]]) -> StudyPlan:
        """The plan with so many seeds of every variant."""
        first = self.setting.seeds[0]
        whole = plan_study(self.study, replace(self.setting, seeds=tuple(range(first, first + max(counts.values())))))
        folds = range(1, self.setting.folds + 1) or (0,)
        beyond = {
            train_label(label, seed, fold)
            for label, count in counts.items()
            for seed in range(first + count, first + max(counts.values()))
            for fold in folds
        }
        cells = {label: key for label, key in whole.manifest.cells.items() if label not in beyond}
        details = {**whole.manifest.details, "looks": looks} if looks else whole.manifest.details
        labelled = {label: cell for label, cell in whole.labelled.items() if label not in beyond}
        return replace(whole, labelled=labelled, manifest=replace(whole.manifest, cells=cells, details=details))

    def _recorded(self, counts: Mapping[str, int]) -> list[Mapping[str, Any]]:
        """The looks of an earlier run of the same study.

        Raises:
            BenchError: there are looks, and their first one was of other trainings, or under another delta.
        """
        folder = self.setting.out / self.study.name
        if not (folder / FILE).is_file():
            return []
        earlier = load_results(folder).manifest
        looks = earlier.details.get("looks", [])
        if not looks:
            return []
        first = self.plan(counts, []).labelled
        trainings = {label: cell.key for label, cell in first.items() if cell.kind == "train"}
        same = looks[0]["seeds"] == counts and trainings.items() <= earlier.cells.items()
        if not same or earlier.setting.get("delta", DELTA) != self.setting.delta:
            raise BenchError(
                f"{folder} holds looks at other trainings, or under another delta: a study that is settled keeps its "
                "variants, seeds, recipe, data and delta; give those again, or another --out"
            )
        return looks

    def _look(self, counts: Mapping[str, int], level: float, looks: list[dict[str, Any]]) -> StudyPlan:
        """Judge what is trained at the level of this look, and write the look down."""
        looks.append({"level": level, "seeds": dict(counts), "verdicts": {}})
        plan = self.plan(counts, looks)
        plan.manifest.save(plan.folder)
        judged = result_of(load_results(plan.folder)).frame.set_index("variant")["verdict"].dropna()
        looks[-1]["verdicts"] = judged.to_dict()
        plan = self.plan(counts, looks)
        plan.manifest.save(plan.folder)
        return plan

    def _measured(self, plan: StudyPlan, until: float) -> bool:
        """Measure what is missing; whether that was done in time. At the end of it the run is stopped as by Ctrl-C."""
        left = min(max(until - time.monotonic(), 0.0), threading.TIMEOUT_MAX) if plan.missing else threading.TIMEOUT_MAX
        timer = threading.Timer(left, _thread.interrupt_main)
        timer.daemon = True
        handler = signal.getsignal(signal.SIGINT)
        try:
            if handler is signal.SIG_IGN:  # started in the background by a script: the time must end it all the same
                signal.signal(signal.SIGINT, signal.default_int_handler)
            timer.start()
            self.run(plan)
        except KeyboardInterrupt:  # StudyInterrupted is one
            if time.monotonic() < until:
                raise
            return False
        finally:
            timer.cancel()
            signal.signal(signal.SIGINT, handler)
        return True

    def _more(self, result: StudyResult, counts: Mapping[str, int], target: int) -> dict[str, int]:
        """Seeds of every variant at the next look."""
        labels = list(counts)
        present = np.arange(max(counts.values())) < np.array([counts[label] for label in labels])[:, None]
        pairs = [(labels.index(variant), labels.index(base)) for variant, base in _open(result)]
        gamma = result.evidence.trainings.gamma if result.evidence else 0.0
        more = grown(present, pairs, target, gamma).sum(axis=1)
        return {label: int(count) for label, count in zip(labels, more, strict=True)}


def _open(result: StudyResult) -> list[tuple[str, str]]:
    """The comparisons that are undecided, of those that have an effect."""
    rows = result.frame[result.frame["verdict"] == UNDECIDED]
    return list(zip(rows["variant"], rows["base"], strict=True))
