"""An answer as a table, as sentences and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pandas as pd

from bench.choose.answer import HERE, RECORD, Answer, Offer
from bench.choose.candidates import NOT_COMPARED
from bench.choose.known import NOT_TRAINED
from bench.engine.display import duration
from bench.report.columns import Column, Format, column, is_missing
from bench.stats import SCENES, THESE_IMAGES

SEPARATE = ("better", "worse")
"""Verdicts that tell two networks apart by more than the study's delta."""
FIRST = "first"
UNSCORED = "accuracy not measured"
JOULES_A_KWH = 3.6e6
LISTED = 8  # names in a sentence


def frame(found: Answer) -> pd.DataFrame:
    """One row a network that meets the wish, in order; then the runs whose accuracy nobody measured."""
    verdicts = [(FIRST, ""), *found.verdicts]
    rows = [_row(found, offer, *words) for offer, words in zip(found.chosen, verdicts, strict=False)]
    return pd.DataFrame(rows + [_row(found, offer, UNSCORED, "") for offer in found.unscored])


def columns(found: Answer, rows: pd.DataFrame) -> list[Column]:
    """What the table shows: of what is not known in any row, and of the training where all have one, nothing."""
    unit, scale = _unit(found)
    all_columns = [
        column("variant"),
        Column("training", "Training"),
        Column("run", "Run"),
        Column(
            "seconds", "Time for the land", Format("z.2f", 1 / scale, unit, "[]"), "low", "seconds_low", "seconds_high"
        ),
        Column("f1", f"Macro F1, {THESE_IMAGES}", Format("z.1f", 100.0, "%", "[]"), "high", "f1_low", "f1_high"),
        Column("unsettled", "Not settled"),
        Column("verdict", "Against the first"),
        Column("scenes_verdict", f"Against the first, {SCENES}"),
        column("peak_inference_bytes"),
        column("storage_bytes"),
        column("params"),
        Column("kwh", "Energy", Format(".3g", 1.0, "kWh"), "low"),
        Column("where", "Timed"),
    ]
    left_out = ["training"] if len(set(rows["training"])) == 1 else []
    return [one for one in all_columns if one.key not in left_out and not rows[one.key].map(is_missing).all()]


def sentences(found: Answer) -> list[str]:
    """What the table does not say: the choice, who is tied with it, who is excluded and why, and what is not known."""
    said = _choice(found) if found.chosen else ["No network is known to meet the wish."]
    return [*said, *_best_of_the_rest(found), *_conditions(found), *_unknown(found)]


def to_dict(found: Answer) -> dict[str, Any]:
    """Plain JSON."""
    verdicts = [(FIRST, ""), *found.verdicts]
    return {
        "wish": asdict(found.wish),
        "data": asdict(found.data),
        "land": asdict(found.land),
        "networks": [
            {**_row(found, offer, *words), "config": offer.candidate.network.config}
            for offer, words in zip(found.chosen, verdicts, strict=False)
        ],
        "excluded": [{**_row(found, offer, "", ""), "breaks": offer.breaks} for offer in found.excluded],
        "accuracy_not_measured": [_row(found, offer, UNSCORED, "") for offer in found.unscored],
        "without_f1": found.without_f1,
        "sentences": sentences(found),
    }


def _row(found: Answer, offer: Offer, verdict: str, scenes: str) -> dict[str, Any]:
    score = offer.score
    return {
        "variant": offer.name,
        "study": offer.candidate.study.name,
        "training": offer.candidate.study.training,
        "run": offer.run + _other_size(found, offer),
        "seconds": offer.seconds,
        "seconds_low": offer.low,
        "seconds_high": offer.high,
        "f1": score.f1 if score else None,
        "f1_low": score.low if score else None,
        "f1_high": score.high if score else None,
        "trainings": score.trainings if score else None,
        "unsettled": ", ".join(offer.unsettled(found.wish)),
        "verdict": verdict,
        "scenes_verdict": scenes,
        "peak_inference_bytes": offer.memory,
        "storage_bytes": offer.bytes,
        "params": offer.params,
        "kwh": None if offer.joules is None else offer.joules / JOULES_A_KWH,
        "where": _machine(offer) if offer.where == RECORD else offer.where,
        "machine": _machine(offer),
    }


def _machine(offer: Offer) -> str:
    """Of the speed; empty where there is none."""
    if offer.speed is None:
        return ""
    return f"{offer.speed.device}, {offer.speed.threads} thread{'s' if offer.speed.threads > 1 else ''}"


def _other_size(found: Answer, offer: Offer) -> str:
    """That a speed is of images of another size than the windows'."""
    if offer.speed is None or offer.speed.size == found.land.side:
        return ""
    return f" of {offer.speed.size[0]}x{offer.speed.size[1]}"


def _unit(found: Answer) -> tuple[str, float]:
    """The unit of times: that of the longest one."""
    longest = max((offer.seconds or 0.0 for offer in (*found.chosen, *found.unscored)), default=0.0)
    return ("h", 3600.0) if longest >= 3600 else ("min", 60.0) if longest >= 60 else ("s", 1.0)


def _choice(found: Answer) -> list[str]:
    first, others = found.chosen[0], list(zip(found.chosen[1:], found.verdicts, strict=True))
    assert first.score is not None, "only scored runs are chosen"
    said = [f"Highest macro F1 of those that meet the wish: {_described(first)}."]
    tied = [(offer, words[0]) for offer, words in others if words[0] not in (*SEPARATE, NOT_COMPARED)]
    if tied:
        said.append(
            f"Tied in verdict on {THESE_IMAGES}: {_listed([f'{offer.label} ({word})' for offer, word in tied])}."
        )
    timed = [o for o in (first, *(offer for offer, _ in tied)) if o.seconds is not None and o.where == first.where]
    quickest = min(timed, key=lambda offer: offer.seconds or 0.0, default=first)
    if quickest is not first:
        said.append(f"The quickest of these: {_described(quickest)}.")
    apart = [offer.label for offer, words in others if words[0] == NOT_COMPARED]
    return said + ([f"Not compared with it by any study: {_listed(apart)}."] if apart else [])


def _described(offer: Offer) -> str:
    assert offer.score is not None, "only scored runs are chosen"
    time = "time not known" if offer.seconds is None else duration(offer.seconds)
    return f"{offer.label}, {time}, {100 * offer.score.f1:.1f} %, {offer.run}"


def _best_of_the_rest(found: Answer) -> list[str]:
    """The highest F1 that a limit excludes, and by which."""
    if not found.excluded:
        return []
    best = found.excluded[0]
    f1 = "" if best.score is None or "--f1" in best.breaks else f" ({100 * best.score.f1:.1f} %)"
    why = "; ".join(best.breaks.values())
    return [f"Best of the {len(found.excluded)} excluded: {best.label}{f1}: {why}."]


def _conditions(found: Answer) -> list[str]:
    wish, land, side = found.wish, found.land, found.land.side
    trainings = sorted({offer.candidate.study.training for offer in (*found.chosen, *found.excluded)})
    said = [
        f"Land: {_number(wish.land_km2)} km2 at {wish.gsd_m:g} m, {_number(land.pixels / 1e6)} million pixels; windows "
        f"of {side[0]}x{side[1]}, of whose pixels {100 * land.useful:.0f} % are of use. Times are the network's own, "
        "without reading, blending and writing.",
        f"F1: test tiles of {found.data.name} ({found.data.fingerprint[:12]}) after {' or '.join(trainings)}; 95 % "
        f"intervals over trainings. {found.data.scope}".rstrip(),
    ]
    if not all(offer.as_trained for offer in (*found.chosen, *found.excluded)):
        said.append("F1 in a lower precision is of the weights of one training, scored in that precision and runtime.")
    disturbed = dict.fromkeys(offer.label for offer in found.chosen if offer.where != HERE and _was_disturbed(offer))
    if disturbed:
        said.append(f"Timed while other processes used the cores, so that it may be quicker: {_listed(disturbed)}.")
    recorded = sorted({_machine(offer) for offer in found.chosen if offer.where not in (HERE, RECORD)} - {""})
    return said + ([f"Recorded times: {'; '.join(recorded)}."] if recorded else [])


def _was_disturbed(offer: Offer) -> bool:
    return offer.speed is not None and offer.speed.disturbed


def _unknown(found: Answer) -> list[str]:
    said = []
    offers = (*found.chosen, *found.excluded)
    timed = {o.name for o in (*offers, *found.unscored) if o.speed is not None}
    untimed = [o.name for o in offers if o.name not in timed and set(o.breaks) <= {"--within"}]
    if untimed:
        said.append(f"Time not known: {_listed(dict.fromkeys(untimed))}.")
    untrained = [name for name, why in found.without_f1.items() if why == NOT_TRAINED]
    if untrained:
        said.append(f"Counted and not trained on {found.data.name}: {len(untrained)} networks.")
    failed: dict[str, list[str]] = {}
    for name, why in found.without_f1.items():
        if why != NOT_TRAINED:
            failed.setdefault(why, []).append(name)
    return said + [f"Without F1: {_listed(names)} ({why})." for why, names in failed.items()]


def _listed(words: Iterable[str]) -> str:
    """A few of them; JSON has all."""
    found = list(words)
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
