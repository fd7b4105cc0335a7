"""Published figures compared with our counts: the rules, one for each kind of figure.

A count is confirmed if one of the counters in use in the field rounds to the printed figure; the verdict names the
counter. An image rate is compared with the data sheet of the device: the exact MACs of one image times the rate cannot
exceed the peak. Accuracy is not testable without the authors' data and trainings, but an IoU can contradict its F1. No
row is decided by hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studies.claims.published import Headline, Peak, Row, half_last_digit

Counts = Mapping[str, Any]
"""What a static record holds; see `bench.counting.cells.static_figures`."""

CONFIRMED, UNCONFIRMED, MIXED = "confirmed", "not confirmed", "mixed variants"
IMPOSSIBLE, UNTESTABLE = "impossible", "not testable here"
VERDICTS = (CONFIRMED, UNCONFIRMED, MIXED, IMPOSSIBLE, UNTESTABLE)

ATTENTION_PRODUCTS = ("bmm", "baddbmm", "scaled_dot_product_attention")
ACCURACY = ("F1", "IoU", "mIoU", "top-1", "OA", "mAP")
PRECISIONS = ("bf16", "fp16", "tf32", "fp32")  # what networks of the field are run in
_ROUNDING = 1e-9  # relative: a decimal text is no binary number

Counter = Callable[[Counts], float | None]


def without_attention(counts: Counts) -> float | None:
    """Exact MACs without the products of two activations, which many counters miss."""
    by_operator = counts.get("macs_by_operator")
    if counts.get("macs") is None or by_operator is None:
        return None
    return counts["macs"] - sum(by_operator.get(operator, 0) for operator in ATTENTION_PRODUCTS)


def _scaled(key: str, scale: float) -> Counter:
    return lambda counts: None if counts.get(key) is None else counts[key] * scale


COUNTERS: dict[str, dict[str, Counter]] = {
    "params": {"all parameters": _scaled("params", 1e-6)},
    "macs": {
        "exact": _scaled("macs", 1e-9),
        "exact without attention products": lambda counts: _times(without_attention(counts), 1e-9),
        "fvcore": _scaled("fvcore_macs", 1e-9),
        "thop": _scaled("thop_macs", 1e-9),
    },
    "storage": {
        "parameters and buffers, MiB": _scaled("paper_mib", 1.0),
        "safetensors file, MiB": _scaled("storage_bytes", 2.0**-20),
        "safetensors file, MB": _scaled("storage_bytes", 1e-6),
    },
}
"""By metric, the ways in which the field counts it, in the printed unit (M, GMAC, MiB); the most common one first."""


@dataclass(frozen=True)
class Network:
    """What stands for a published row here: its counts, or why there are none.

    `reconstruction`: made from figures and text and fitted to published costs, since no code is public. It can confirm
    a figure, but not refute one.
    """

    name: str = ""
    counts: Counts | None = None
    problem: str = "the suite has no network of this name"
    reconstruction: bool = False


@dataclass(frozen=True)
class Finding:
    """The verdict on a published figure.

    Attributes:
        verdict: one of `VERDICTS`.
        why: one sentence.
        ours: our figure in the printed unit, of the counter that is nearest; None where there is none.
        counter: which counter that is.
        share: of a rate, the operations that it implies over the peak of the device.
    """

    verdict: str
    why: str
    ours: float | None = None
    counter: str = ""
    share: float | None = None


def within(found: float, printed: float, tolerance: float) -> bool:
    """Whether a figure rounds to the printed one; a tie may have been rounded either way."""
    return abs(found - printed) <= tolerance + _ROUNDING * abs(printed)


def judge(row: Row, network: Network, peaks: Sequence[Peak], rows: Sequence[Row]) -> Finding:
    """The verdict on one figure of a table.

    Args:
        row: what was printed.
        network: what stands for it here, counted at the row's input size.
        peaks: what the devices can do.
        rows: the whole of the published tables, in which an IoU finds its F1.
    """
    if row.metric in COUNTERS:
        return judge_count(row, network)
    if row.metric in ("throughput", "latency"):
        return judge_rate(row, network, peaks)
    if row.metric == "IoU":
        return judge_iou(row, rows)
    if row.metric.split()[0] in ACCURACY:
        return Finding(UNTESTABLE, _needs_training(row))
    return Finding(UNTESTABLE, f"{row.metric} of the authors' run is not measured here")


def judge_count(row: Row, network: Network) -> Finding:
    """Confirmed by the first counter that rounds to the printed figure; otherwise our nearest figure is named."""
    if network.counts is None:
        return Finding(UNTESTABLE, network.problem)
    found = counted(row.metric, network.counts)
    if not found:
        return Finding(UNTESTABLE, f"no counter works on {network.name}")
    for counter, ours in found.items():
        if within(ours, row.number, row.tolerance):
            fitted = ", a reconstruction fitted to the paper's costs" if network.reconstruction else ""
            return Finding(CONFIRMED, f"our count ({counter}) of {network.name}{fitted}", ours, counter)
    counter = min(found, key=lambda name: abs(found[name] - row.number))
    all_ours = "; ".join(f"{name} {value:.4g}" for name, value in found.items())
    away = abs(100 * (row.number / found[counter] - 1))
    why = f"{network.name} has {all_ours}; the nearest differs by {away:.2g} %"
    if network.reconstruction:
        return Finding(UNTESTABLE, f"no code is public, and our reconstruction differs: {why}", found[counter], counter)
    return Finding(UNCONFIRMED, why, found[counter], counter)


def counted(metric: str, counts: Counts) -> dict[str, float]:
    """A network's figure by every counter of the metric that worked, in the printed unit."""
    found = {name: counter(counts) for name, counter in COUNTERS[metric].items()}
    return {name: value for name, value in found.items() if value is not None}


def judge_rate(row: Row, network: Network, peaks: Sequence[Peak]) -> Finding:
    """Impossible if the exact MACs of the claimed images need more than the device's highest peak."""
    if not row.device:
        return Finding(UNTESTABLE, "the device is not stated")
    own = [
        p for p in peaks if p.device == row.device and p.precision in ([row.precision] if row.precision else PRECISIONS)
    ]
    if not own:
        return Finding(UNTESTABLE, f"the peak rate of {row.device} is not known")
    if network.counts is None or not network.counts.get("macs"):
        return Finding(UNTESTABLE, f"{row.device} was not available, and {network.problem}")
    rate, least = _images_per_second(row)
    needed = 2 * network.counts["macs"]
    share = rate * needed / max(p.flops for p in own)
    if least * needed > max(p.flops for p in own):
        return Finding(IMPOSSIBLE, _physics(row, network, rate, max(own, key=lambda p: p.flops)), share=share)
    why = f"{row.device} was not available; the rate needs {_percent(share)} of its peak{_exceeded(rate * needed, own)}"
    return Finding(UNTESTABLE, why, share=share)


def judge_iou(row: Row, rows: Sequence[Row]) -> Finding:
    """IoU is f / (2 - f) of a class's F1 f, a convex function: a mean IoU lies between that of the mean F1 and it."""
    partner = next((r for r in rows if r.metric == "F1" and r.same_run(row)), None)
    if partner is None:
        return Finding(UNTESTABLE, _needs_training(row))
    low, high = partner.number - partner.tolerance, partner.number + partner.tolerance
    least, most = 100 * (low / 100) / (2 - low / 100), high
    if least <= row.number + row.tolerance and row.number - row.tolerance <= most:
        return Finding(UNTESTABLE, f"{_needs_training(row)}; consistent with its F1 of {partner.value}")
    return Finding(IMPOSSIBLE, f"a mean F1 of {partner.value} allows a mean IoU from {least:.2f} to {most:.2f} only")


def judge_headline(
    headline: Headline, rows: Sequence[Row], findings: Sequence[Finding], networks: Sequence[Network]
) -> Finding:
    """A claim about two systems: by our counts where both can be counted, else by the paper's own table.

    A ratio of counts is confirmed if ours or, where the paper printed parts that are confirmed, theirs round to it: a
    ratio of rounded figures is often what an abstract states. "Mixed variants": it is true of another variant than the
    one named. A ratio of an impossible figure is impossible.

    Args:
        headline: the claim.
        rows: the published tables.
        findings, networks: of each row, in the same order.
    """
    sides = [_Sides.of(headline, variant, rows, findings, networks) for variant in headline.candidates]
    broken = next((s for s in sides[0].findings if s.verdict == IMPOSSIBLE), None)
    if broken is not None:
        return Finding(IMPOSSIBLE, f"ratio of an impossible figure: {broken.why}", sides[0].printed)
    if sides[0].ours:
        return _by_our_counts(headline, sides)
    return _by_their_table(headline, sides)


@dataclass(frozen=True)
class _Sides:
    """A claim for one variant: the comparison by our counters, by the printed table, and the findings on its rows."""

    variant: str
    ours: dict[str, float]
    printed: float | None
    findings: tuple[Finding, ...]

    @classmethod
    def of(
        cls,
        headline: Headline,
        variant: str,
        rows: Sequence[Row],
        findings: Sequence[Finding],
        networks: Sequence[Network],
    ) -> "_Sides":
        system = _find(rows, headline, headline.system, variant)
        reference = _find(rows, headline, headline.reference, headline.reference_variant)
        if system is None or reference is None:
            return cls(variant, {}, None, ())
        printed = compare(headline.relation, rows[system].number, rows[reference].number)
        ours = dict(_compared_counts(headline, networks[system].counts, networks[reference].counts))
        return cls(variant, ours, printed, (findings[system], findings[reference]))

    def supports(self, headline: Headline) -> bool:
        """Whether our figures, or the paper's own confirmed ones, agree with the claim."""
        parts_hold = bool(self.findings) and all(finding.verdict == CONFIRMED for finding in self.findings)
        printed = [self.printed] if self.printed is not None and parts_hold else []
        return any(agrees(headline, value) for value in [*self.ours.values(), *printed])


def _by_our_counts(headline: Headline, sides: Sequence[_Sides]) -> Finding:
    holder = next((side for side in sides if side.supports(headline)), None)
    named = sides[0]
    counter, ours = min(named.ours.items(), key=lambda item: abs(item[1] - float(headline.value)))
    figure = f"{_label(headline, named.variant)}: {_unit(headline, ours)}"
    if holder is None:
        return Finding(UNCONFIRMED, f"ours, {figure}", ours, counter)
    if holder is named:
        return Finding(CONFIRMED, figure, ours, counter)
    other = min(holder.ours.values(), key=lambda value: abs(value - float(headline.value)))
    why = f"{figure}; true of {_label(headline, holder.variant)}: {_unit(headline, other)}"
    return Finding(MIXED, why, ours, counter)


def _by_their_table(headline: Headline, sides: Sequence[_Sides]) -> Finding:
    named = sides[0]
    if named.printed is None:
        return Finding(UNTESTABLE, "the reference is not named, or has no published figure")
    holder = next((s for s in sides if s.printed is not None and agrees(headline, s.printed)), None)
    own = f"the paper's own table gives {_unit(headline, named.printed)}"
    if holder is named:
        return Finding(UNTESTABLE, f"{own}, which agrees; {named.findings[0].why}")
    if holder is None:
        return Finding(UNCONFIRMED, own, named.printed, "published")
    return Finding(MIXED, f"{own}; true of {_label(headline, holder.variant)}", named.printed, "published")


def compare(relation: str, system: float, reference: float) -> float:
    """The number that a claim is about; of "above" and "below" it is the ratio, system over reference."""
    if relation == "reference over system":
        return reference / system
    if relation.endswith("minus system"):
        return reference - system
    if relation.endswith("minus reference"):
        return system - reference
    return system / reference


def agrees(headline: Headline, value: float) -> bool:
    """Whether a comparison of our or their figures agrees with the claim."""
    claimed = float(headline.value)
    if headline.relation == "system above reference":
        return value > claimed
    if headline.relation == "system below reference":
        return value < claimed
    return within(value, claimed, half_last_digit(headline.value))


def _compared_counts(
    headline: Headline, system: Counts | None, reference: Counts | None
) -> Iterator[tuple[str, float]]:
    """The claim's number by each counter that took both networks."""
    if headline.quantity not in COUNTERS or system is None or reference is None:
        return
    theirs = counted(headline.quantity, reference)
    for counter, own in counted(headline.quantity, system).items():
        if counter in theirs:
            yield counter, compare(headline.relation, own, theirs[counter])


def _find(rows: Sequence[Row], headline: Headline, system: str, variant: str) -> int | None:
    wanted = (system, variant, headline.dataset, headline.quantity)
    return next((i for i, r in enumerate(rows) if (r.system, r.variant, r.dataset, r.metric) == wanted), None)


def _label(headline: Headline, variant: str) -> str:
    return f"{headline.system} {variant}".strip()


def _unit(headline: Headline, value: float) -> str:
    return f"{value:.2f} {headline.unit}"


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _images_per_second(row: Row) -> tuple[float, float]:
    """The printed rate, and the least that it may stand for."""
    if row.metric == "throughput":
        return row.number, row.number - row.tolerance
    batch = float(row.batch or 1)
    return batch / row.number * 1e3, batch / (row.number + row.tolerance) * 1e3


def _physics(row: Row, network: Network, rate: float, peak: Peak) -> str:
    gmacs = network.counts["macs"] / 1e9 if network.counts else 0.0
    return (
        f"{row.value} {row.unit} x {gmacs:.2f} GMAC x 2 = {rate * gmacs * 2e9 / 1e12:,.0f} TFLOP/s; the peak of "
        f"{peak.device} is {float(peak.peak_tflops):,.4g} in {peak.precision} ({peak.part})"
    )


def _exceeded(work: float, peaks: Sequence[Peak]) -> str:
    """Parts of the device whose peak the work exceeds."""
    parts = {peak.part: max(p.flops for p in peaks if p.part == peak.part) for peak in peaks}
    beyond = [f"its {part} ({_percent(work / most)})" for part, most in parts.items() if work > most]
    return f", above {' and '.join(beyond)}" if beyond else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 10 else f"{share:,.0f} times"


def _needs_training(row: Row) -> str:
    return f"needs {row.dataset} and the authors' training"
