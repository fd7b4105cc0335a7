"""A search from beginning to end: search, save the front, train it anew on new seeds and score it on test tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from bench.data import open_data
from bench.engine.distributed import SQLITE, Heartbeat
from bench.errors import BenchError
from bench.records import RecordStore
from bench.records.atomic import write_atomically
from bench.records.environment import usable_cores
from bench.records.fingerprint import is_ours
from bench.search.evaluate import Score, TrainingEvaluator, TrainingFailed
from bench.search.front import SearchedTrial, SearchResult, save_front, variant_name
from bench.search.halving import Halving, Rung, halve
from bench.search.jobs import Host, helpers, search_job
from bench.search.report import SearchReport, described, final_name, report_search, save_search, searched_in
from bench.search.study import SearchPlan, run_search, search_name
from bench.speed.protocol import SpeedProtocol
from bench.speed.runtimes import refuse_missing
from bench.study import Setting, Variant, VariantStudy, plan_study, run_study
from bench.study.layout import WEIGHTS, train_label
from bench.study.protocol import FILE as STUDY_FILE
from bench.study.protocol import RECORDS
from bench.study.run import StudyPlan
from bench.study.sharing import share_study
from bench.training.recipe import Recipe
from bench.training.trained import describe_training

if TYPE_CHECKING:
    from bench.data import DataSet

TRIALS_EACH = 8
"""How many trials of a search are worth a process of their own."""


@dataclass(frozen=True)
class SearchSetting:
    """Under what conditions a search is run.

    Attributes:
        data: a data source; the search opens its train and validation tiles only.
        recipe: of every training.
        seeds: of the final trainings; none may be the search's own.
        size: height and width at which MACs and latency are taken, and the budget is meant.
        device: "cpu" or "cuda".
        protocol: how latency is measured, of every candidate alike.
        storage: a URL or the path of a journal file (`bench.engine.distributed.open_storage`); SQLite in the search's
            folder if None.
        out: folder of the results; records are shared with the studies in it.
        name: of the search's folder in `out`; derived from the plan and this setting if empty.
        heartbeat: of the workers of a server.
        processes: how many train at once on this machine, on one thread each; None: one a core of a CPU where there
            are `TRIALS_EACH` trials for each, since proposals of the first few learn little from each other. What is
            proposed depends on which training ends first, unless there is one process. Where latency is measured
            there is one: nothing runs beside what is timed.
        rungs: of successive halving; the search trains at the first, and the best are promoted to the last. Empty:
            every candidate is trained by the recipe.
    """

    data: str
    recipe: Recipe
    seeds: Sequence[int]
    size: tuple[int, int] = (256, 256)
    device: str = "cpu"
    protocol: SpeedProtocol = field(default_factory=SpeedProtocol)
    storage: str | None = None
    out: Path = Path("runs")
    name: str = ""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    processes: int | None = None
    rungs: tuple[Rung, ...] = ()

    def evaluator(self, data: DataSet, rung: Rung | None = None) -> TrainingEvaluator:
        """What trains at a rung, or by the recipe as it is."""
        recipe = rung.recipe(self.recipe) if rung else self.recipe
        return TrainingEvaluator(data, recipe, RecordStore(self.out / RECORDS), self.device, self.size, self.protocol)


def run_and_report(
    plan: SearchPlan, setting: SearchSetting, console: Console | None = None, *, retry_failed: bool = False
) -> SearchReport:
    """Search, save the front's configs, train the front anew and score it on test tiles, write tables and figures.

    Args:
        plan, setting: what is searched for, and under what conditions.
        console: where progress goes; standard error by default.
        retry_failed: whether final trainings that are recorded as failed are repeated. The search's own are not: what
            it proposed after them rests on them.

    Raises:
        BenchError: an impossible budget or field, a seed that the search has seen, data that cannot be opened, a name
            under which another search or a study lies, a protocol for a latency that nothing asks for or this device
            has not; or every trial failed.
        StudyInterrupted: Ctrl-C; the same call goes on from there.
    """
    if plan.seed in setting.seeds:
        raise BenchError(f"seed {plan.seed} is the search's own: score its front on other seeds")
    if setting.processes is not None and setting.processes < 1:
        raise BenchError(f"--processes {setting.processes}: give at least 1")
    if plan.is_timed and setting.processes not in (None, 1):
        raise BenchError(
            f"--processes {setting.processes}: latency is measured while nothing else runs; leave --processes out"
        )
    if Path(setting.name).name != setting.name:
        raise BenchError(f"--name {setting.name} is no name of a folder: give one without a slash, as dubai-small")
    _check_protocol(plan, setting)
    seen = open_data(setting.data, splits=("train", "val"))
    seen.require_scorable()
    open_data(setting.data, splits=("test",)).require_scorable(intervals=True)
    folder = _folder(plan, setting, seen)
    result = _searched(plan, setting, seen, folder, console)
    _require_front(result)
    halving = _halved(result, plan, setting, seen, console) if setting.rungs else None
    result = halving.result if halving else result
    configs = save_front(result, folder / "front", seed=plan.seed, **describe_training(seen))
    save_search(plan, result, seen, folder, halving, setting.protocol)
    alone = setting.storage is None or setting.storage.startswith("sqlite:")
    final = plan_study(final_study(plan, configs, final_name(folder)), _final_setting(setting), adopt=alone)
    for note in [*final.notes, *final.weight_notes(shared=not alone)]:
        (console or Console(stderr=True)).print(note, style="yellow", markup=False)
    if setting.storage is None or alone:
        run_study(final, console=console, retry_failed=retry_failed)
    else:
        share_study(final, setting.storage, data=setting.data, console=console, heartbeat=setting.heartbeat)
    _place_weights(result, plan.base, final, setting.out / WEIGHTS, folder / "front")
    return report_search(folder, setting.data)


def _require_front(result: SearchResult) -> None:
    if not result.front:
        raise BenchError(
            f"all {len(result.trials)} trials of the search failed, the first because {result.trials[0].reason}; "
            "change what causes it, as the recipe or the space, or leave the trials that ran out of memory to a larger "
            "machine under another --out"
        )


def _check_protocol(plan: SearchPlan, setting: SearchSetting) -> None:
    if plan.is_timed:
        refuse_missing(setting.protocol, torch.device(setting.device))
    elif setting.protocol != SpeedProtocol():
        raise BenchError(
            "--form, --runtime and --precision say how latency is measured, and nothing asks for it: give --objectives "
            "f1,latency or --max-latency-ms"
        )


def _folder(plan: SearchPlan, setting: SearchSetting, data: DataSet) -> Path:
    """The search's own: what lies in it is of this search, and what another one found stays where it is."""
    first = setting.rungs[0] if setting.rungs else None
    name = search_name(plan, setting.evaluator(data, first))
    rungs = ",".join(map(str, setting.rungs))
    suffix = f"-{hashlib.sha256(rungs.encode()).hexdigest()[:4]}" if rungs else ""
    folder = setting.out / (setting.name or f"search-{name}{suffix}")
    if (folder / STUDY_FILE).exists():
        raise BenchError(f"{folder} holds a study: give another --name for the search, or leave --name out")
    there, this = searched_in(folder), described(name, [str(rung) for rung in setting.rungs])
    if there not in (None, this):
        raise BenchError(
            f"{folder} holds another search, {there}; this one is {this}: give another --name, or leave --name out"
        )
    return folder


def _searched(
    plan: SearchPlan, setting: SearchSetting, data: DataSet, folder: Path, console: Console | None
) -> SearchResult:
    """The search, at the first rung if there are any."""
    evaluator = setting.evaluator(data, setting.rungs[0] if setting.rungs else None)
    job = search_job(plan, replace(setting, recipe=evaluator.recipe), evaluator.determinants)
    storage = setting.storage or f"sqlite:///{(folder / SQLITE).absolute()}"
    name = search_name(plan, evaluator)
    document = {**job, "name": name, "trials": plan.trials} if job else None
    # A helper is an interpreter of its own, without the plug-ins of this one.
    number = _processes(plan, setting) - 1 if is_ours(plan.base) else 0
    with helpers(number, document, Host(storage, setting.device, setting.out)):
        return run_search(
            plan,
            evaluator,
            folder,
            storage=setting.storage,
            console=console,
            heartbeat=setting.heartbeat,
            job=job,
        )


def _processes(plan: SearchPlan, setting: SearchSetting) -> int:
    if plan.is_timed:
        return 1
    if setting.processes is not None:
        return setting.processes
    return max(1, min(usable_cores(), plan.trials // TRIALS_EACH)) if setting.device == "cpu" else 1


def _halved(
    result: SearchResult, plan: SearchPlan, setting: SearchSetting, data: DataSet, console: Console | None
) -> Halving:
    """The rungs above the first, through the records: what was trained once is not trained again."""
    console = console or Console(stderr=True)
    longest: dict[str, Score] = {}

    def train(trial: SearchedTrial, rung: Rung) -> float | None:
        evaluator = setting.evaluator(data, rung)
        try:
            score = evaluator.score(trial.config, plan.seed, f"halving {trial.key}", lambda *step: None)
        except TrainingFailed as failure:
            console.print(f"{variant_name(trial)}, {rung}: FAILED: {failure}", highlight=False, markup=False)
            return None
        console.print(f"{variant_name(trial)}, {rung}: F1 {score.f1:.4f}", highlight=False, markup=False)
        longest[trial.key] = score
        return score.f1

    found = halve(result, setting.rungs, train, plan.seed)
    scored = [(trial, longest[trial.key]) for trial in found.result.trials]
    trials = tuple(replace(trial, record=score.key, fresh=score.fresh) for trial, score in scored)
    return replace(found, result=replace(found.result, trials=trials))


def final_study(plan: SearchPlan, configs: Sequence[Path], name: str) -> VariantStudy:
    """The study that judges a front: its members and the base they were searched around, on seeds of their own."""
    base = Variant("base", plan.base)
    members = [Variant.named(str(path)) for path in configs]
    same = [member for member in members if member.config == plan.base]
    return VariantStudy(
        name=name,
        question="What do the members of the searched front reach on test tiles, on seeds the search has not seen?",
        variants=(base, *(member for member in members if member not in same)),
        base="base",
        instruments=("static", "train"),
        figures=("pareto", "per_class", "panels"),
    )


def _final_setting(setting: SearchSetting) -> Setting:
    return Setting(
        data=setting.data,
        recipe=setting.recipe,
        seeds=setting.seeds,
        device=setting.device,
        size=setting.size,
        out=setting.out,
        keep_weights=True,
    )


def _place_weights(result: SearchResult, base: Any, final: StudyPlan, kept: Path, front: Path) -> None:
    """The weights of each member's first seed beside its config: the first, since the best would be chosen on test."""
    first = final.manifest.setting["seeds"][0]
    for trial in result.front:
        name = variant_name(trial)
        label = train_label("base" if trial.config == base else name, first)
        source = kept / f"{final.manifest.cells.get(label)}.safetensors"
        if source.exists():
            write_atomically(front / f"{name}.safetensors", source.read_bytes())
