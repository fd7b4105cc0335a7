"""The networks that have a score on a data set, and what studies say of one against another."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.choose.known import Known, KnownNetwork, KnownSet, KnownStudy, Score
from bench.errors import BenchError

INVERSE = {
    "better": "worse", "worse": "better",
    "better, within delta": "worse, within delta", "worse, within delta": "better, within delta",
}  # fmt: skip
NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Candidate:
    """A network under the training that gave it its score."""

    network: KnownNetwork
    study: KnownStudy

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def place(self) -> tuple[str, str]:
        """Equal for the same network under the same recipe."""
        return self.network.identity, self.study.recipe_key

    @property
    def score(self) -> Score:
        """The one that it was trained and tested with."""
        return next(iter(self.network.scores.values()))

    def score_in(self, precision: str, runtime: str = "") -> Score | None:
        """The score that holds in a precision; fp32 is the finest, so what any other reaches is taken for it too."""
        scores = self.network.scores
        return self.score if precision == "fp32" else scores.get(f"{precision} {runtime}", scores.get(precision))


def find_set(known: Known, text: str) -> KnownSet:
    """The data set of that name, or of a fingerprint that begins so.

    Raises:
        BenchError: there is none with scores, or several share the name.
    """
    found = [one for one in known.sets if one.name == text or (len(text) >= 6 and one.fingerprint.startswith(text))]
    if len(found) > 1:
        listed = ", ".join(one.fingerprint[:12] for one in found)
        raise BenchError(f"{len(found)} data sets with records are called {text}; give one's fingerprint: {listed}")
    if not found:
        raise no_records(known, text, text)
    return found[0]


def no_records(known: Known, named: str, source: str) -> BenchError:
    """The error that no study was made on the data that `source` opens."""
    sets = [f"{one.name} ({one.fingerprint[:12]})" for one in known.sets]
    return BenchError(
        f"no study has scores on {named}, and F1 is not carried over from other land; there are records of "
        f"{', '.join(sets) or 'no data set'}. Train there first: lale-bench study benchmark --data {source}; then give "
        "its folder as --records"
    )


def studies_on(known: Known, data: KnownSet) -> list[KnownStudy]:
    """Those made on the data set."""
    return [study for study in known.studies if study.data.fingerprint == data.fingerprint]


def candidates(known: Known, data: KnownSet) -> list[Candidate]:
    """The scored networks of the data set, the highest F1 first; of one network under one recipe that with the most
    trainings."""
    found: dict[tuple[str, str], Candidate] = {}
    for study in studies_on(known, data):
        for network in study.networks:
            one = Candidate(network, study)
            if network.scores and (one.place not in found or one.score.trainings > found[one.place].score.trainings):
                found[one.place] = one
    return sorted(found.values(), key=lambda one: -one.score.f1)


def relation(known: Known, one: Candidate, first: Candidate) -> tuple[str, str]:
    """The verdict on a network against another, on these test images and for other scenes (empty where there is none):
    that of the study with the most trainings which compared the two under their recipe; nothing is compared anew."""
    if one.study.recipe_key != first.study.recipe_key:
        return NOT_COMPARED, ""
    studies = [study for study in studies_on(known, one.study.data) if study.recipe_key == one.study.recipe_key]
    found = [verdict for study in studies for verdict in _verdicts(study, one, first)]
    return max(found, key=lambda verdict: verdict[0])[1] if found else (NOT_COMPARED, "")


def _verdicts(study: KnownStudy, one: Candidate, first: Candidate) -> Iterator[tuple[int, tuple[str, str]]]:
    """How many trainings stand behind each verdict of a study on the pair, and its words."""
    for row in study.comparisons:
        pair = study.networks[row.variant], study.networks[row.base]
        own = [next(iter(network.scores.values()), None) for network in pair]
        trainings = min(score.trainings if score else 0 for score in own)
        identities = tuple(network.identity for network in pair)
        if identities == (one.network.identity, first.network.identity):
            yield trainings, (row.verdict, row.scenes)
        elif identities == (first.network.identity, one.network.identity):
            yield trainings, (INVERSE.get(row.verdict, row.verdict), INVERSE.get(row.scenes, row.scenes))
