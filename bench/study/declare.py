"""The study of variants: networks that are counted, timed and trained side by side, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import archs
from archs import ArchConfig
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data import DataSet
    from bench.engine import Cell
    from bench.speed.protocol import SpeedProtocol
    from bench.study.protocol import Layout, Report, Results, Setting
    from bench.training.trained import TrainedNetwork

AccuracyCell = Callable[["TrainedNetwork", "DataSet", "SpeedProtocol", str, str], "Cell"]
"""Of a trained network on the test tiles of a data set, in a protocol's precision, under a label, on a device."""
Instrument = Literal["static", "speed", "deployed", "train"]
FIGURES = ("pareto", "ablation", "per_class", "confusion", "panels", "curves")


@dataclass(frozen=True)
class Variant:
    """A network under the name that it has in this study.

    Attributes:
        label: unique in the study.
        config: what is built.
        factor: in an ablation, what was changed against the base ("norm"); else empty.
        base: label of the variant that this one is compared with, where that is not the study's base.
        inputs: which image sizes it takes.
    """

    label: str
    config: ArchConfig
    factor: str = ""
    base: str | None = None
    inputs: archs.InputRule = field(default_factory=archs.InputRule)

    @classmethod
    def named(cls, name: str) -> Variant:
        """The registered (or systematic, or saved) architecture `name`, under its own name."""
        if name.endswith(".json"):
            path = Path(name)  # `train` calls every config `config.json`, in a folder of the network's own
            return cls(path.absolute().parent.name if path.stem == "config" else path.stem, archs.config(name))
        entry = archs.entry(name)
        return cls(name, entry.config, inputs=entry.inputs)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**vars(self), "config": archs.to_dict(self.config), "inputs": asdict(self.inputs)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variant:
        """The variant of `to_dict`.

        Raises:
            ArchError: the config is of a family that is not known here.
        """
        fixed = values["inputs"]["fixed"]
        inputs = archs.InputRule(**{**values["inputs"], "fixed": tuple(fixed) if fixed else None})
        kept = {key: values[key] for key in ("label", "factor", "base")}
        return cls(**kept, config=archs.from_dict(values["config"]), inputs=inputs)


@dataclass(frozen=True)
class VariantStudy:
    """A question, the variants that answer it, and the instruments and figures to use.

    Attributes:
        name: of the output folder; lower-case letters, digits, hyphens.
        question: one sentence.
        variants: in the order of the table.
        base: label of the variant that every other is compared with, paired over seeds and test tiles.
        instruments: what is measured. "speed" is eager, of the network as it is; "deployed" is the latency of the
            folded form in the runtimes of a CPU, in fp32 and int8 (see `bench.study.deployed`).
        trained: labels of the variants to train; None trains all. The others show their other figures.
        timed: labels of the variants whose speed and deployed latency are measured; None times all.
        accuracy: makes the cell that scores a variant's kept weights in int8, beside its deployed latency, as
            `bench.scenes.accuracy.accuracy_cell`; None scores none.
        figures: which figures are drawn, of "pareto", "ablation", "per_class", "confusion", "panels", "curves".
    """

    uses: ClassVar[tuple[str, ...]] = (
        "data",
        "recipe",
        "seeds",
        "folds",
        "size",
        "batches",
        "keep_weights",
        "log",
        "delta",
        "variants",
    )

    name: str
    question: str
    variants: Sequence[Variant]
    base: str | None = None
    instruments: Sequence[Instrument] = ("static", "speed", "train")
    trained: Sequence[str] | None = None
    timed: Sequence[str] | None = None
    accuracy: AccuracyCell | None = field(default=None, compare=False, kw_only=True)
    figures: Sequence[str] = ("pareto", "per_class", "confusion", "panels", "curves")

    def __post_init__(self) -> None:
        labels = [variant.label for variant in self.variants]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise BenchError(f"The study {self.name} has two variants called {twice[0]!r}; give each its own label.")
        for base in {self.base, *(variant.base for variant in self.variants)} - {None}:
            if base not in labels:
                raise BenchError(f"The study {self.name} compares with {base!r}, which is none of its variants.")
        for variant in self.variants:
            if variant.base == variant.label:
                raise BenchError(
                    f"The study {self.name} compares {variant.label!r} with itself; give it another base, or none."
                )
        for label in {*(self.trained or ()), *(self.timed or ())} - set(labels):
            raise BenchError(f"The study {self.name} trains or times {label!r}, which is none of its variants.")
        strange = [name for name in self.instruments if name not in get_args(Instrument)]
        if strange:
            raise BenchError(f"There is no instrument {strange[0]!r}; choose of {', '.join(get_args(Instrument))}.")
        unknown = [figure for figure in self.figures if figure not in FIGURES]
        if unknown:
            raise BenchError(f"There is no figure {unknown[0]!r}; choose of {', '.join(FIGURES)}.")

    def select(self, patterns: Sequence[str], trained: Sequence[str] = (), timed: Sequence[str] = ()) -> VariantStudy:
        """The study of the variants whose label or factor matches a shell pattern (none: all), and their bases.

        Args:
            patterns: of the variants to keep.
            trained: of the variants to train, of those kept (none: as the study says).
            timed: of the variants to time, likewise.

        Raises:
            BenchError: a pattern matches nothing.
        """
        labels = self._matching(patterns) if patterns else [variant.label for variant in self.variants]
        variants = tuple(variant for variant in self.variants if variant.label in labels)
        study = replace(self, variants=variants, trained=_of(self.trained, labels), timed=_of(self.timed, labels))
        study = replace(study, trained=tuple(study._matching(trained))) if trained else study
        return replace(study, timed=tuple(study._matching(timed))) if timed else study

    def with_variants(self, variants: Iterable[Variant]) -> VariantStudy:
        """The study with more variants at its end."""
        return replace(self, variants=(*self.variants, *variants))

    def layout(self, setting: Setting) -> Layout:
        """Counts, speed and deployed latency, then trainings, all variants under a seed before the next seed.

        Raises:
            BenchError: the data cannot be opened.
        """
        from bench.study.layout import lay_out

        return lay_out(self, setting)

    def report(self, results: Results) -> Report:
        """Tables, figures and findings of the comparison."""
        from bench.study.report import report_variants

        return report_variants(results)

    @classmethod
    def from_details(cls, name: str, question: str, details: Mapping[str, Any]) -> VariantStudy:
        """The study that a manifest declares, see `bench.study.layout.lay_out`.

        Raises:
            ArchError: a config is of a family that is not known here.
        """
        rows = details["variants"]
        return cls(
            name,
            question,
            variants=tuple(Variant.from_dict(row) for row in rows),
            base=details["base"],
            instruments=tuple(details["instruments"]),
            trained=tuple(row["label"] for row in rows if row["trained"]),
            timed=tuple(row["label"] for row in rows if row["timed"]),
            figures=tuple(details["figures"]),
        )

    def is_trained(self, variant: Variant) -> bool:
        """Whether the study trains this variant."""
        return "train" in self.instruments and (self.trained is None or variant.label in self.trained)

    def is_timed(self, variant: Variant) -> bool:
        """Whether the study measures this variant's speed."""
        return bool({"speed", "deployed"} & set(self.instruments)) and (
            self.timed is None or variant.label in self.timed
        )

    def _matching(self, patterns: Sequence[str]) -> list[str]:
        for pattern in patterns:
            if not any(_matches(variant, pattern) for variant in self.variants):
                known = ", ".join(variant.label for variant in self.variants)
                raise BenchError(f"No variant of the study {self.name} matches {pattern!r}; it has {known}.")
        bases = {variant.label: variant.base for variant in self.variants}
        kept = {v.label for v in self.variants if any(_matches(v, pattern) for pattern in patterns)} | {self.base}
        while missing := {bases[label] for label in kept if label is not None} - kept - {None}:
            kept |= missing
        return [variant.label for variant in self.variants if variant.label in kept]


def _matches(variant: Variant, pattern: str) -> bool:
    return (
        variant.label == pattern
        or fnmatchcase(variant.label, pattern)
        or (bool(variant.factor) and fnmatchcase(variant.factor, pattern))
    )


def _of(chosen: Sequence[str] | None, labels: Sequence[str]) -> Sequence[str] | None:
    return None if chosen is None else tuple(label for label in chosen if label in labels)
