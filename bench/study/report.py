"""From records to tables, figures and sentences. Nothing here is measured, and nothing is typed by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from bench.data import DataSet, open_data
from bench.data.classes import parse_classes
from bench.data.folds import fold
from bench.engine.display import duration
from bench.errors import BenchError
from bench.records import Record
from bench.report.columns import COLUMNS, Column, column, is_missing, measured
from bench.report.formats import TIMM, chosen
from bench.report.tables import write_tables
from bench.report.timm import write_timm
from bench.stats import SCENES, THESE_IMAGES
from bench.stats.looks import LOOKS, MOST_SEEDS, mean_variance
from bench.stats.verdicts import Verdict
from bench.study.deployed import KEYS, LATENCIES, DeployedRun, deployed_findings
from bench.study.protocol import Report, Results
from bench.study.result import Declared, StudyResult, result_of

BENCHMARK_KEYS = (
    "variant", "family", "params", "macs", "fvcore_macs", "thop_macs", "storage_bytes", "paper_mib", "activations",
    "launches", "deployed_params", "deployed_macs", "deployed_launches", "deployed_file_bytes",
    "latency_ms", "throughput", "ceiling_share", "f1", *KEYS, "iou", "boundary_f1", "effect", "verdict", "seeds",
    "rising",
)  # fmt: skip
ABLATION_KEYS = (
    "factor",
    "variant",
    "f1",
    *KEYS,
    "effect",
    "verdict",
    "scenes_effect",
    "scenes_verdict",
    "seeds",
    "rising",
    "seeds_needed",
    "delta_params",
    "delta_macs",
)
SCOPES = {
    THESE_IMAGES: ("effect_low", "effect_high", "verdict"),
    SCENES: ("scenes_low", "scenes_high", "scenes_verdict"),
}
MANY = 4  # undecided comparisons with one base, from which on more of the base alone is worth a sentence
STATIC_COSTS = ("macs", "activations")
PANEL_VARIANTS = 4


def report_variants(results: Results) -> Report:
    """Make the tables and figures of a `VariantStudy`.

    Raises:
        BenchError: the data are not those of the study.
    """
    result = result_of(results)
    folder = results.folder
    caption = describe(result)
    columns = _columns(result)
    files = write_tables(result.frame, columns, folder / "table", caption)
    m = result.manifest
    if chosen(TIMM):
        files.append(write_timm(result.frame, m.size, max(m.batches, default=None), folder / "table-timm.csv"))
    for figure in m.figures:
        files += FIGURES[figure](result, folder / "figures", results.data)
    return Report(folder, result.frame, columns, caption, files, findings(result))


def describe(result: StudyResult) -> str:
    """Under what conditions the figures hold, and to whom the data are owed."""
    m = result.manifest
    tiles = ", ".join(f"{count} {split}" for split, count in m.data["tiles"].items())
    side = "x".join(map(str, m.data["tile_size"]))
    return (
        f"Data: {m.data['name']} ({tiles} tiles of {side}; fingerprint {m.data['fingerprint'][:12]}). "
        f"{_training(result)}Counts{_timed(result)} at {m.size[0]}x{m.size[1]}.{_against(result)}"
        f"{_said(m, 'scope')}{_credit(m)}"
    )


def _training(result: StudyResult) -> str:
    """How the networks were trained, and where; empty where none was to be."""
    if not any(row.trained for row in result.manifest.rows):
        return ""
    recipe = result.manifest.recipe
    crop = f"crops of {recipe['crop']} px" if recipe["crop"] else "tiles"
    return (
        f"Training: {recipe['steps']} steps of {recipe['batch']} {crop}, {recipe['precision']}, {_seeds(result)}"
        f"{_machine(result)}; F1 and IoU on the test tiles, pooled. "
    )


def _against(result: StudyResult) -> str:
    """What effects are against, where the study has several bases."""
    frame = result.frame
    if "effect" not in frame or frame["effect"].map(is_missing).all():
        return ""
    main = result.manifest.base
    compared = frame[frame["base"] != ""]
    others = [f"{row['variant']} against {row['base']}" for _, row in compared.iterrows() if row["base"] != main]
    if not others:
        return ""
    return f" Effects are{f' against {main}, but that' if main else ''} of {', '.join(others)}."


def _credit(manifest: Declared) -> str:
    """The line that figures of the data owe to their makers."""
    return f"{line}." if (line := _said(manifest, "credit")) else ""


def _said(manifest: Declared, key: str) -> str:
    return f" {text}" if (text := manifest.data.get(key)) else ""


def _seeds(result: StudyResult) -> str:
    """How many trainings stand behind a score: those that were done, not those that are planned."""
    m = result.manifest
    done = set(result.frame["seeds"]) - {0} or {len(m.seeds)}
    fewest, most = min(done), max(done)
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    seeds = f"{count} seed{'s' if most > 1 else ''}"
    return f"{seeds} on each of {m.folds} folds of whole scenes" if m.folds else seeds


def _timed(result: StudyResult) -> str:
    """At which batch sizes speed was taken, and where, if it was."""
    batches, where = result.manifest.batches, f" on {result.speed_machine}" if result.speed_machine else ""
    return f", latency (batch {batches[0]}) and throughput (batch {batches[-1]}){where}," if batches else ""


def _machine(result: StudyResult) -> str:
    environments = [record.environment for runs in result.runs.values() for record in runs.values()]
    kinds = sorted({environment.get("device_kind", "") for environment in environments} - {""})
    return f", on {' and '.join(kinds)}" if kinds else ""


def _columns(result: StudyResult) -> list[Column]:
    keys = ABLATION_KEYS if "ablation" in result.manifest.figures else BENCHMARK_KEYS
    columns = measured(result.frame, keys)
    return columns if result.deployed is None else _with_deployed(result, result.deployed, columns, keys)


def _with_deployed(result: StudyResult, run: DeployedRun, columns: list[Column], keys: Sequence[str]) -> list[Column]:
    """Both latencies, even if none was timed: what is missing has its reason below the table."""
    shown = {one.key: one for one in columns} | {key: column(key) for key in LATENCIES}
    fp32, int8 = LATENCIES
    shown[fp32] = replace(shown[fp32], remarks=run.remarks(result.frame["variant"].tolist()))
    if not run.scored and "f1" in shown:
        shown[int8] = replace(shown[int8], remarks=("Macro F1 in int8 is not shown: weights not kept.",))
    return [shown[key] for key in keys if key in shown]


# --- figures ----------------------------------------------------------------------------------------------------


def _pareto(result: StudyResult, folder: Path, source: str | None) -> list[Path]:
    from bench.report.figures.pareto import draw_fronts, draw_pareto

    if result.frame["f1"].notna().any():
        return draw_fronts(result.frame, folder / "f1", note=" ".join([_short(result), *_too_short(result)]))
    counted = [cost for cost in STATIC_COSTS if not result.frame[cost].map(is_missing).all()]
    return [path for cost in counted for path in draw_pareto(result.frame, cost, folder / f"params-{cost}", y="params")]


def _short(result: StudyResult) -> str:
    m = result.manifest
    recipe = m.recipe
    return f"{m.data['name']}, {recipe['steps']} steps of {recipe['batch']}, {_seeds(result)}."


def _too_short(result: StudyResult) -> list[str]:
    """Networks of which no training was done: their scores tell how fast they learn."""
    named = [row.label for row in result.manifest.rows if (ones := result.rising(row.label)) and all(ones)]
    return [f"All trainings still rising at their end: {', '.join(named)}."] if named else []


def _ablation(result: StudyResult, folder: Path, source: str | None) -> list[Path]:
    from bench.report.figures.ablation import draw_ablation

    frame = result.frame[result.frame["base"] != ""]
    m = result.manifest
    return draw_ablation(frame, folder / "ablation", base=m.base or "", delta=m.delta, note=_short(result))


def _per_class(result: StudyResult, folder: Path, source: str | None) -> list[Path]:
    from bench.report.figures.per_class import draw_per_class

    rows = [row for row in result.manifest.rows if row.trained]
    if not rows:
        return []
    found = {row.label: result.class_f1(row.label) for row in rows}
    reasons = {label: _trouble(result, label) for label, values in found.items() if values is None}
    names = parse_classes(result.manifest.data["classes"]).names
    scored = result.frame[result.frame["f1"].notna()]
    macros = dict(zip(scored["variant"], scored["f1"], strict=True))
    return draw_per_class(found, names, folder / "per-class", macros=macros, reasons=reasons, note=_short(result))


def _confusion(result: StudyResult, folder: Path, source: str | None) -> list[Path]:
    from bench.report.figures.confusion import draw_confusion

    names = parse_classes(result.manifest.data["classes"]).names
    files: list[Path] = []
    for label in _best(result, 1, keep=result.manifest.base):
        title = f"{label}: confusion by true class (%)"
        stem = folder / f"confusion-{_file_name(label)}"
        matrix = result.pooled(label)
        assert matrix is not None, "it has a score, so it has matrices"
        files += draw_confusion(matrix, names, stem, title=title, note=_short(result))
    return files


def _panels(result: StudyResult, folder: Path, source: str | None) -> list[Path]:
    from bench.report.figures.panels import draw_panels

    labels = _best(result, PANEL_VARIANTS - 1, keep=result.manifest.base)
    panels = result.panels(labels)
    if source is None or panels is None:
        return []
    data = _matching_data(result, source)
    data = fold(data, panels.fold, result.manifest.folds) if panels.fold else data
    test, shown = data["test"], panels.indices
    return draw_panels(
        data.pictures(np.asarray(test.images[shown])), np.asarray(test.masks[shown]), panels.predictions, data.classes,
        folder / "panels", tiles=[test.tiles[index] for index in shown],
        note=f"Test tiles at even distances, first seed{' and fold' if panels.fold else ''}."
        f"{_credit(result.manifest)}",
    )  # fmt: skip


def _matching_data(result: StudyResult, source: str) -> DataSet:
    data = open_data(source)
    if data.fingerprint != result.manifest.data["fingerprint"]:
        raise BenchError(
            f"{source} is not the data of this study (fingerprint {data.fingerprint[:12]}, the study's is "
            f"{result.manifest.data['fingerprint'][:12]}); give the same data, or leave --data out"
        )
    return data


def _curves(result: StudyResult, folder: Path, source: str | None) -> list[Path]:
    from bench.report.figures.curves import draw_curves

    labels = [row.label for row in result.manifest.rows if row.trained]
    runs = {label: [record.result["history"] for record in result.succeeded(label)] for label in labels}
    reasons = {label: _trouble(result, label) for label, histories in runs.items() if not histories}
    return draw_curves(runs, folder / "curves", reasons=reasons, note=_short(result)) if any(runs.values()) else []


def _trouble(result: StudyResult, label: str) -> str:
    row = result.frame.set_index("variant").loc[label]
    return f"{row['status']}: {row['reason']}"


def _best(result: StudyResult, count: int, keep: str | None) -> list[str]:
    """The base, if it was trained, and the `count` best others by F1."""
    scored = result.frame[result.frame["f1"].notna()].sort_values("f1", ascending=False)["variant"].tolist()
    first = [label for label in scored if label == keep]
    return first + [label for label in scored if label != keep][:count]


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in label)


FIGURES: dict[str, Callable[[StudyResult, Path, str | None], list[Path]]] = {
    "pareto": _pareto,
    "ablation": _ablation,
    "per_class": _per_class,
    "confusion": _confusion,
    "panels": _panels,
    "curves": _curves,
}


# --- sentences --------------------------------------------------------------------------------------------------


def findings(result: StudyResult) -> list[str]:
    """What the study came to: the best, the front, the verdicts, and what a guess would have got."""
    deployed = deployed_findings(result.deployed, result.frame) if result.deployed else []
    frame = result.frame[result.frame["f1"].notna()]
    if frame.empty:
        return deployed
    return [
        *_best_sentence(result, frame),
        *_verdict_sentences(result),
        *_missing_sentence(result),
        *deployed,
        *_delta_sentence(result),
        *_looks_sentence(result),
        *_price_sentences(result),
        *_rising_sentence(result),
        *_uncounted_sentence(result),
        *_baseline_sentence(result),
    ]


def _uncounted_sentence(result: StudyResult) -> list[str]:
    """Networks with operators that the counter does not know."""
    named = [f"{row['variant']} ({row['uncounted']})" for _, row in result.frame.iterrows() if row["uncounted"]]
    return [f"Not counted, so that there are more MACs than shown: {'; '.join(named)}."] if named else []


def _best_sentence(result: StudyResult, frame: pd.DataFrame) -> list[str]:
    from bench.stats.pareto import pareto_front

    best = frame.loc[frame["f1"].idxmax()]
    named = {row["variant"]: f"{row['variant']}{_doubts(result, row)}" for _, row in frame.iterrows()}
    sentences = [f"Highest macro F1: {named[best['variant']]}, {_percent(best)}."]
    for cost in ("params", "macs", "latency_ms", "deployed_fp32_ms"):
        if cost in frame and not frame[cost].map(is_missing).any():
            front = frame[pareto_front(frame, cost, "f1")].sort_values(cost)["variant"].map(named)
            sentences.append(f"On the front of mean F1 against {COLUMNS[cost].header}: {', '.join(front)}.")
    return sentences


def _doubts(result: StudyResult, row: pd.Series) -> str:
    """Why more is to be known before a network's score is relied on: seeds that are missing, trainings too short."""
    planned = len(result.manifest.planned(row["variant"])) // max(1, result.manifest.folds)
    doubts = [f"{row['seeds']} of {planned} seeds"] if row["seeds"] < planned else []
    doubts += ["still rising"] if row["rising"] == 1 else []
    return f" ({', '.join(doubts)})" if doubts else ""


def _percent(row: pd.Series) -> str:
    if is_missing(row["f1_low"]):
        return f"{100 * row['f1']:.1f} %"
    return f"{100 * row['f1']:.1f} % [{100 * row['f1_low']:.1f}, {100 * row['f1_high']:.1f}]"


def _verdict_sentences(result: StudyResult) -> list[str]:
    """The comparisons with each base, by verdict; for other scenes, only what is settled."""
    frame = result.frame[result.frame["effect"].notna()]
    sentences = []
    for base, rows in frame.groupby("base", sort=False):
        for scope, (low, high, verdict) in SCOPES.items():
            for word in get_args(Verdict):
                same = rows[rows[verdict] == word]
                if len(same) and (word != "undecided" or scope == THESE_IMAGES):
                    named = "; ".join(_named_effect(row, low, high) for _, row in same.iterrows())
                    told = _told(word, str(base), result.manifest.delta)
                    sentences.append(f"{told} {_on(scope)}, in points of macro F1: {named}.")
            open_ones = rows[rows[verdict] == "undecided"]
            if scope == SCENES and len(open_ones):
                sentences.append(
                    f"For {SCENES}, {len(open_ones)} of {len(rows)} comparisons with {base} are undecided."
                )
    return sentences


def _on(scope: str) -> str:
    return f"on {scope}" if scope == THESE_IMAGES else f"for {scope}"


def _told(word: str, base: str, delta: float) -> str:
    """How a sentence on a verdict begins."""
    within = f"within {100 * delta:g} point{'s' if delta != 0.01 else ''}"
    if word == "undecided":
        return f"Undecided against {base}"
    if word == "equivalent":
        return f"Equivalent to {base} ({within})"
    direction, _, small = word.partition(",")
    return f"{direction.capitalize()} than {base}" + (f", but {within}," if small else "")


def _named_effect(row: pd.Series, low: str, high: str) -> str:
    points = f"{row['variant']} {100 * row['effect']:+.1f}"
    interval = "" if is_missing(row[low]) else f" [{100 * row[low]:+.1f}, {100 * row[high]:+.1f}]"
    return points + interval + (" (still rising)" if row["rising"] == 1 else "")


def _missing_sentence(result: StudyResult) -> list[str]:
    """Whether the study is read before its plan is carried out."""
    rows = [row for row in result.manifest.rows if row.trained and not row.skipped]
    planned = sum(len(result.manifest.planned(row.label)) for row in rows)
    missing = planned - sum(len(result.runs[row.label]) for row in rows)
    if not missing:
        return []
    return [f"{missing} of {planned} planned trainings are not measured yet, so that verdicts may still change."]


def _delta_sentence(result: StudyResult) -> list[str]:
    m = result.manifest
    before = [delta for delta in m.deltas if delta != m.delta]
    if not before:
        return []
    told = ", ".join(f"{100 * delta:g}" for delta in before)
    return [f"Delta was changed after trainings were recorded: {told} points before, {100 * m.delta:g} now."]


def _looks_sentence(result: StudyResult) -> list[str]:
    looks = result.manifest.looks
    if not looks:
        return []
    spent = sum(look["level"] for look in looks)
    return [
        f"Looks taken: {len(looks)} of at most {LOOKS}. Together they spend {100 * spent:.2g} % of error; the "
        f"intervals of the last one miss with {100 * looks[-1]['level']:.2g} %, and a verdict once reached stands."
    ]


def _price_sentences(result: StudyResult) -> list[str]:
    """What the trainings took, and what it would take to settle the differences that were seen but not proven."""
    frame = result.frame.set_index("variant")
    seconds = {label: [_seconds(record) for record in result.succeeded(label)] for label in frame.index}
    trained = [second for times in seconds.values() for second in times]
    undecided = frame[frame["verdict"] == "undecided"]
    if undecided.empty or result.evidence is None:
        return []
    took = f"The {len(trained)} trainings took {duration(sum(trained))} in all."
    needed = undecided["seeds_needed"].dropna().astype(int)
    judged = set(result.evidence.labels)
    single = [label for label, base in undecided["base"].items() if not {label, base} <= judged]
    never = [label for label in undecided.index if label not in (*needed.index, *single)]
    settling = _settling_sentence(needed.to_dict(), seconds, frame, result.manifest.folds)
    sentences = [took, *settling, *_base_sentence(result, seconds)]
    if single:
        named = [label if label not in judged else f"{label} (against {frame.loc[label, 'base']})" for label in single]
        sentences.append(f"Not judged, since one training tells nothing of chance: {', '.join(named)}.")
    if never:
        sentences.append(f"Not resolvable with {MOST_SEEDS} seeds, if effects are as seen: {', '.join(never)}.")
    return sentences


def _seconds(record: Record) -> float:
    """What a training took, over all its sittings."""
    return max(record.seconds, record.result.get("train_seconds", 0.0))


def _settling_sentence(
    needed: dict[str, int], seconds: dict[str, list[float]], frame: pd.DataFrame, folds: int
) -> list[str]:
    if not needed:
        return []
    most = dict(needed)
    for label, count in needed.items():
        base = frame.loc[label, "base"]
        most[base] = max(most.get(base, 0), count)
    trainings = max(1, folds)  # of a seed
    more = {label: trainings * max(0, count - int(frame.loc[label, "seeds"])) for label, count in most.items()}
    price = sum(count * float(np.mean(seconds[label])) for label, count in more.items())
    named = ", ".join(f"{label} {count}" for label, count in needed.items())
    return [
        f"Seeds that would settle the undecided, if effects are as seen: {named}. That is {sum(more.values())} more "
        f"trainings, {duration(price)}."
    ]


def _base_sentence(result: StudyResult, seconds: dict[str, list[float]]) -> list[str]:
    """By how much further trainings of the base alone would shrink the intervals against it."""
    known, base = result.evidence, result.manifest.base
    if known is None or base not in known.labels:
        return []
    rows = result.frame[(result.frame["base"] == base) & (result.frame["verdict"] == "undecided")]
    own = known.labels.index(base)
    pairs = [(known.labels.index(label), own) for label in rows["variant"] if label in known.labels]
    if len(pairs) < MANY:
        return []
    present = known.trainings.layout.present
    count = int(present[own].sum())
    wider = np.pad(present, ((0, 0), (0, count)))
    wider[own, -count:] = True
    before, after = (mean_variance(p, pairs, known.trainings.gamma) for p in (present, wider))
    trainings = count * max(1, result.manifest.folds)
    price = duration(trainings * float(np.mean(seconds[base])))
    return [
        f"{trainings} further trainings of {base} alone ({price}) would narrow the {len(pairs)} undecided intervals "
        f"against it by {100 * (1 - np.sqrt(after / before)):.0f} %."
    ]


def _rising_sentence(result: StudyResult) -> list[str]:
    """How many trainings were too short, and of which networks."""
    found = {label: result.rising(label) for label in result.runs}
    rising = {label: sum(ones) for label, ones in found.items() if any(ones)}
    if not rising:
        return []
    named = ", ".join(f"{label} ({count} of {len(found[label])})" for label, count in rising.items())
    return [
        f"{sum(rising.values())} of {sum(map(len, found.values()))} trainings were still rising at their end (the last "
        "fifth of the steps brought 0.3 points of validation F1 or more), so that what is compared is partly how fast "
        f"they learn: {named}."
    ]


def _baseline_sentence(result: StudyResult) -> list[str]:
    if not result.baselines:
        return []
    majority, colour = (100 * result.baselines[name] for name in ("majority", "colour"))
    return [f"Baselines: majority class {majority:.1f} % macro F1, per-pixel colour classifier {colour:.1f} %."]
