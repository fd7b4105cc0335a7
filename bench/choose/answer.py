"""The networks that meet a wish, in order, and what keeps the others from it. Nothing is timed here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.choose.candidates import NOT_COMPARED, Candidate, candidates, relation, studies_on
from bench.choose.known import Known, KnownNetwork, KnownSet, KnownSpeed, Score
from bench.choose.timing import Land, Machine
from bench.choose.wish import Wish
from bench.engine.display import duration

MIB = 2**20
HERE, ALIKE, THREADS, ELSEWHERE, RECORD = "here", "this kind of machine", "other threads", "another machine", "record"
FOREIGN = (THREADS, ELSEWHERE)
Memory = Callable[[KnownNetwork, KnownSpeed | None], int | None]
"""Peak bytes of a network as it would be run; None where that is not known."""


@dataclass(frozen=True)
class Offer:
    """A candidate and its quickest run in one precision, of those whose accuracy is known if there are some.

    Attributes:
        candidate: the network.
        precision: of the run.
        speed: None where no speed is known.
        where: whose figure the speed is: `HERE` of this machine, now; else that of a record.
        seconds, low, high: for the land, the network's own time; None where no speed is known.
        joules: for the land; None where they were not counted.
        memory: peak bytes of the tensors in PyTorch; None where it is not known, or was not asked for.
        breaks: by option of the command, how the limit is broken.
    """

    candidate: Candidate
    precision: str = "fp32"
    speed: KnownSpeed | None = None
    where: str = ""
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    joules: float | None = None
    memory: int | None = None
    breaks: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def score(self) -> Score | None:
        """None where nobody measured the accuracy in this precision."""
        return self.candidate.score_in(self.precision, self.speed.runtime if self.speed else "")

    @property
    def as_trained(self) -> bool:
        """Whether the score is that of the study's trainings, which its verdicts are about."""
        return self.score is self.candidate.score

    @property
    def label(self) -> str:
        """Its name, with the precision where the score is not that of the trainings."""
        return self.name if self.as_trained else f"{self.name} in {self.precision}"

    @property
    def form(self) -> str:
        """That of the speed; without one the deployed form, where there is one."""
        costs = self.candidate.network.costs
        own = "trained" if "params" in costs and "deployed_params" not in costs else "deployed"
        return self.speed.form if self.speed else own

    @property
    def params(self) -> float | None:
        """Of the form that runs."""
        return self.candidate.network.costs.get("deployed_params" if self.form == "deployed" else "params")

    @property
    def bytes(self) -> float | None:
        """Of the saved fp32 weights of the form that runs."""
        return self.candidate.network.costs.get("deployed_file_bytes" if self.form == "deployed" else "storage_bytes")

    @property
    def run(self) -> str:
        """Form, runtime, precision and batch in words."""
        if self.speed is None:
            return "not timed"
        return f"{self.speed.form}, {self.speed.runtime}, {self.precision}, batch {self.speed.batch}"

    def unsettled(self, wish: Wish) -> list[str]:
        """What may break its limit all the same: that lies inside its interval, or the time is another machine's, or
        was taken while others used the cores."""
        score, found = self.score, []
        if wish.f1 is not None and score is not None and (score.low is None or score.low < wish.f1):
            found.append("F1")
        doubtful = self.where in FOREIGN or (self.speed is not None and self.speed.disturbed)
        if wish.within is not None and self.high is not None and (self.high > wish.within or doubtful):
            found.append("time")
        return found


@dataclass(frozen=True)
class Answer:
    """What is said to a wish.

    Attributes:
        wish, data, land: what was asked.
        chosen: the networks that meet it, the highest F1 first.
        verdicts: of every network chosen but the first, against the first, see `relation`.
        excluded: those that do not, in the same order, with what they break.
        unscored: runs whose accuracy nobody measured; they are never chosen.
        without_f1: networks of the studies that have no score, and why.
    """

    wish: Wish
    data: KnownSet
    land: Land
    chosen: tuple[Offer, ...]
    verdicts: tuple[tuple[str, str], ...]
    excluded: tuple[Offer, ...]
    unscored: tuple[Offer, ...]
    without_f1: Mapping[str, str]


def answer(
    known: Known,
    data: KnownSet,
    wish: Wish,
    *,
    raced: Sequence[KnownSpeed] = (),
    here: Machine | None = None,
    memory: Memory = lambda network, speed: None,
) -> Answer:
    """Judge all candidates.

    Args:
        known: from records.
        data: the data set of the scores.
        wish: what is asked.
        raced: speeds measured on this machine; a network that was raced is judged by them alone.
        here: this machine, against which recorded speeds are held; None names theirs.
        memory: asked of networks that break nothing else.
    """
    land = Land.of(wish.pixels, data)
    offers = [offer for one in candidates(known, data) for offer in _offers(one, known, land, raced, here)]
    judged = [(offer.score.f1, _judged(offer, wish, memory)) for offer in offers if offer.score is not None]
    ordered = [offer for _, offer in sorted(judged, key=lambda pair: -pair[0])]
    chosen = tuple(offer for offer in ordered if not offer.breaks)
    scored = {offer.name for offer in offers}
    lacking = [network for study in studies_on(known, data) for network in study.networks if not network.scores]
    return Answer(
        wish=wish,
        data=data,
        land=land,
        chosen=chosen,
        verdicts=tuple(_verdict(known, offer, chosen[0]) for offer in chosen[1:]),
        excluded=tuple(offer for offer in ordered if offer.breaks),
        unscored=tuple(offer for offer in offers if offer.score is None and not _known_breaks(offer, wish)),
        without_f1={network.name: network.missing for network in lacking if network.name not in scored},
    )


def _verdict(known: Known, offer: Offer, first: Offer) -> tuple[str, str]:
    """Verdicts are of the trainings; they are not carried over to another precision."""
    if not (offer.as_trained and first.as_trained):
        return NOT_COMPARED, ""
    return relation(known, offer.candidate, first.candidate)


def contenders(found: Iterable[Candidate], wish: Wish, most: int) -> list[Candidate]:
    """Those worth timing, each network once: that break no limit which is known before; the highest F1 first."""
    fitting = {one.network.identity: one for one in reversed(list(found)) if not static_breaks(Offer(one), wish)}
    return sorted(fitting.values(), key=lambda one: -one.score.f1)[:most]


def static_breaks(offer: Offer, wish: Wish) -> dict[str, str]:
    """Limits that are broken whatever the speed, by option, in words."""
    breaks, score = {}, offer.score
    if wish.f1 is not None and score is not None and score.f1 < wish.f1:
        breaks["--f1"] = f"its macro F1 is {100 * score.f1:.1f} % and --f1 {100 * wish.f1:.1f} %"
    limits = (
        ("--max-params", wish.max_params, offer.params, 1, "parameters"),
        ("--max-mib", wish.max_mib, offer.bytes, MIB, "MiB of weights"),
    )
    for option, limit, value, unit, what in limits:
        if limit is not None and (value is None or value / unit > limit):
            taken = f"its {what} are not known" if value is None else f"it has {_short(value / unit)} {what}"
            breaks[option] = f"{taken} and {option} is {_short(limit)}"
    return breaks


def _known_breaks(offer: Offer, wish: Wish) -> dict[str, str]:
    """What is broken for certain: a time that is not known may be short enough."""
    late = wish.within is not None and offer.seconds is not None and offer.seconds > wish.within
    return static_breaks(offer, wish) | ({"--within": "it takes longer"} if late else {})


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _offers(one: Candidate, known: Known, land: Land, raced: Sequence[KnownSpeed], here: Machine | None) -> list[Offer]:
    """In each precision the quickest run whose accuracy is known, or else the quickest; one without a speed where no
    run's accuracy is known."""
    fresh = _own(one, raced)
    best: dict[str, Offer] = {}
    for speed in sorted(fresh or _own(one, known.speeds), key=lambda speed: _preference(speed, land, here)):
        offer = _timed(one, speed, land, HERE if fresh else _origin(speed, here))
        held = best.setdefault(speed.precision, offer)
        if held.score is None and offer.score is not None:
            best[speed.precision] = offer
    scored = any(offer.score is not None for offer in best.values())
    return [*([] if scored else [Offer(one)]), *best.values()]


def _own(one: Candidate, speeds: Iterable[KnownSpeed]) -> list[KnownSpeed]:
    """A network's speeds; with another number of classes or bands it is another network."""
    wanted = (one.network.identity, one.study.data.num_classes, one.study.data.in_channels)
    return [speed for speed in speeds if (speed.identity, speed.num_classes, speed.in_channels) == wanted]


def _preference(speed: KnownSpeed, land: Land, here: Machine | None) -> tuple[bool, bool, float]:
    """Lowest first: speeds of this kind of machine, at the size of the windows, then the quickest."""
    return (speed.machine != here, speed.size != land.side, land.seconds(speed, speed.throughput))


def _origin(speed: KnownSpeed, here: Machine | None) -> str:
    """Whose figure a recorded speed is."""
    if here is None:
        return RECORD
    return ALIKE if speed.machine == here else THREADS if speed.device == here.device else ELSEWHERE


def _timed(one: Candidate, speed: KnownSpeed, land: Land, where: str) -> Offer:
    seconds, low, high = (land.seconds(speed, rate) for rate in (speed.throughput, speed.high, speed.low))
    return Offer(one, speed.precision, speed, where, seconds, low, high, land.joules(speed))


def _judged(offer: Offer, wish: Wish, memory: Memory) -> Offer:
    breaks = static_breaks(offer, wish)
    if wish.within is not None and (offer.seconds is None or offer.seconds > wish.within):
        taken = "its time is not known" if offer.seconds is None else f"it takes {duration(offer.seconds)}"
        breaks["--within"] = f"{taken} and --within is {duration(wish.within)}"
    if breaks:
        return replace(offer, breaks=breaks)
    peak = memory(offer.candidate.network, offer.speed)
    if wish.max_memory is not None and (peak is None or peak > wish.max_memory * MIB):
        taken = "its memory is not known" if peak is None else f"it takes {peak / MIB:.0f} MiB of memory"
        breaks["--max-memory"] = f"{taken} and --max-memory is {wish.max_memory:g}"
    return replace(offer, memory=peak, breaks=breaks)
