"""Which of the published figures can be confirmed?

Every row of the published tables and every headline claim is compared with our counts, or with the peak of the device
that it names (`studies.claims.judgement` has the rules). This file says which network corresponds to which row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

import archs
from archs.pairs import ClassifierConfig
from bench.counting.cells import cost_cell, static_cell
from bench.engine import Cell
from bench.records import Record
from bench.study import Layout, Report, Results, Setting
from studies.claims.judgement import Network
from studies.claims.published import Headline, Peak, Row, read_headlines, read_peaks, read_published
from studies.claims.report import report_claims

PUBLISHED = Path(__file__).resolve().parent

CNN_NAMES = {
    "UPerNet": "upernet",
    "Unet": "unet",
    "UnetPlusPlus": "unetplusplus",
    "FPN": "fpn",
    "Segformer": "segformer",
    "DeepLabV3+": "deeplabv3plus",
    "DeepLabV3": "deeplabv3",
    "PAN": "pan",
    "Linknet": "linknet",
}
DPT_NAMES = {
    "DeiT3-Base": "deit3_base_patch16_224",
    "MaxViT-Tiny": "maxvit_tiny_tf_224",
    "EffFormer-L7": "efficientformer_l7",
    "EffFormer-L3": "efficientformer_l3",
    "EffFormer-L1": "efficientformer_l1",
    "FastViT-MCI0": "fastvit_mci0",
    "FastViT-SA12": "fastvit_sa12",
}
CLASSES = {
    "ARAS400k": 7,
    "BELDE": 7,
    "UAVid": 8,
    "LoveDA": 7,
    "NWPU-45": 45,
    "ImageNet-1k": 1000,
    "MillionAID": 51,
    "Potsdam": 5,
    "ADE20K": 150,
    "Cityscapes": 19,
    "PASCAL Context 59": 59,
    "PASCAL Context 60": 60,
    "COCO-Stuff": 171,
}
LEMORE_VIEWS = {"T": ("transverse",), "TF": ("transverse", "frontal"), "TFL": ("transverse", "frontal", "lateral")}


@dataclass(frozen=True)
class Subject:
    """A published system and what it is here.

    Attributes:
        system, variant: as in the tables; the variant is a shell pattern.
        datasets: those on which the system is this network.
        config: of the network.
        side: of the input where a row does not print one.
        reconstruction: whether the network was made from figures and text.
    """

    system: str
    variant: str
    datasets: tuple[str, ...]
    config: archs.ArchConfig
    side: int
    reconstruction: bool = False

    def stands_for(self, row: Row) -> bool:
        """Whether a row is of this network."""
        same = row.system == self.system and row.dataset in self.datasets
        return same and fnmatchcase(row.variant, self.variant)


def subjects() -> list[Subject]:
    """Every network of the published tables that the suite can build."""
    return [*_lale_tables(), *_lale(), *_lwganet(), *_lemevit(), *_lemore()]


def _lale_tables() -> list[Subject]:
    aras, belde = ("ARAS400k",), ("BELDE",)
    cnns = [Subject(s, "", aras, archs.config(f"smp/{n}-efficientnet_b0"), 256) for s, n in CNN_NAMES.items()]
    larger = [
        Subject(s, "", belde, archs.config(f"smp/{n}-efficientnet_b5"), 256)
        for s, n in CNN_NAMES.items()
        if n not in ("upernet", "pan")  # BELDE has no row of these
    ]
    both = aras + belde
    return cnns + larger + [Subject(s, "", both, archs.config(f"smp/dpt-{n}"), 224) for s, n in DPT_NAMES.items()]


def _lale() -> list[Subject]:
    aras, belde = ("ARAS400k",), ("BELDE",)
    rows = [("S1-K3*", "lale-s1", aras), ("S2-K3*", "lale-s2", aras), ("B-S1-K7", "lale-b-s1-k7", aras)]
    rows += [("B-S2-K7", "lale-b-s2-k7", aras), ("S2", "lale-s2", belde), ("S3", "lale-s3", belde)]
    return [Subject("LALE", variant, datasets, archs.config(name), 256, True) for variant, name, datasets in rows]


def _lwganet() -> list[Subject]:
    scenes, aerial = ("NWPU-45",), ("UAVid", "LoveDA")
    classifiers = [
        Subject("LWGANet", variant, scenes, ClassifierConfig(f"lwganet-{variant.lower()}"), 224)
        for variant in ("L0", "L1", "L2")
    ]
    others = {
        "UNetFormer-ResNet18": "timm/resnet18+unetformer",
        "UNetFormer-FasterNet-T2": "timm/fasternet_t2+unetformer",
        "SegFormer-B1": "smp/segformer-mit_b1",
    }
    segmenters = [Subject(system, "", aerial, archs.config(name), 1024) for system, name in others.items()]
    return [*classifiers, Subject("LWGANet", "L2", aerial, archs.config("lwganet-l2"), 1024), *segmenters]


def _lemevit() -> list[Subject]:
    found = []
    for variant in ("tiny", "small", "base"):
        name = f"lemevit-{variant}"
        found.append(Subject("LeMeViT", variant, ("ImageNet-1k", "MillionAID"), ClassifierConfig(name), 224))
        found.append(Subject("LeMeViT", variant, ("Potsdam",), archs.config(name), 512))
    return found


def _lemore() -> list[Subject]:
    plain = ("ADE20K", "Cityscapes", "PASCAL Context 59", "PASCAL Context 60", "COCO-Stuff")
    whole = archs.config("lemore")
    found = [Subject("LeMoRe", "", plain, whole, 512, True), Subject("LeMoRe", "448", ("ADE20K",), whole, 448, True)]
    for views, names in LEMORE_VIEWS.items():
        for channels in (False, True) if views == "TFL" else (False,):
            for attention in (False, True):
                variant = views + (" CA" if channels else "") + ("" if attention else ", no attention")
                config = archs.config("lemore", views=names, channel_attention=channels, nested_attention=attention)
                found.append(Subject("LeMoRe", variant, ("ADE20K",), config, 512, True))
    return [*found, Subject("SegFormer-B0", "", ("ADE20K",), archs.config("smp/segformer-mit_b0"), 512)]


@dataclass(frozen=True)
class Claims:
    """The study: the published files, and the networks that stand for their rows."""

    rows: tuple[Row, ...]
    headlines: tuple[Headline, ...]
    peaks: tuple[Peak, ...]
    known: tuple[Subject, ...]
    uses: ClassVar[tuple[str, ...]] = ()
    name: str = "claims"
    question: str = "Which of the figures that the five papers published can be confirmed?"

    def layout(self, setting: Setting) -> Layout:
        """One count a network, number of classes and input size; parameters and exact MACs alone where that is all.

        The device does not matter: nothing is timed.
        """
        asked: dict[str, set[str]] = {}
        found: dict[str, tuple[Subject, Row]] = {}
        for row in self.rows:
            subject = self._subject(row)
            if subject is not None:
                label = _label(subject, row)
                found[label] = (subject, row)
                asked.setdefault(label, set()).add(row.metric)
        countable = {label for label, metrics in asked.items() if metrics & {"params", "macs", "storage", "throughput"}}
        return Layout({label: _cell(*found[label], label, asked[label]) for label in found if label in countable})

    def network(self, row: Row, records: Mapping[str, Record]) -> Network:
        """What stands for a row, counted, or why nothing does."""
        subject = self._subject(row)
        if subject is None:
            return Network()
        label = _label(subject, row)
        record = records.get(label)
        if record is None:
            return Network(label, None, "it is not counted yet")
        if record.status == "failed":
            return Network(label, None, f"counting failed: {record.reason}")
        return Network(label, record.result, reconstruction=subject.reconstruction)

    def report(self, results: Results) -> Report:
        """Verdicts, tables, figure and short form."""
        networks = [self.network(row, results.records) for row in self.rows]
        return report_claims(self.rows, self.headlines, self.peaks, networks, results.folder)

    def _subject(self, row: Row) -> Subject | None:
        return next((subject for subject in self.known if subject.stands_for(row)), None)


def _size(subject: Subject, row: Row) -> tuple[int, int]:
    return row.size or (subject.side, subject.side)


def _label(subject: Subject, row: Row) -> str:
    """The network, the data set (on another one the same name may stand for another network) and the input."""
    height, width = _size(subject, row)
    return f"{row.name} for {row.dataset}, {height}x{width}"


def _cell(subject: Subject, row: Row, label: str, metrics: set[str]) -> Cell:
    size = _size(subject, row)
    config = archs.fit_image_size(subject.config, size) if "LeMoRe" in subject.system else subject.config
    make = static_cell if metrics & {"macs", "storage"} else cost_cell
    return make(config, label, size, CLASSES[row.dataset])


STUDY = Claims(
    rows=tuple(read_published(PUBLISHED / "published.csv")),
    headlines=tuple(read_headlines(PUBLISHED / "headlines.csv")),
    peaks=tuple(read_peaks(PUBLISHED / "devices.csv")),
    known=tuple(subjects()),
)
