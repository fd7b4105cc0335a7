"""ISPRS Potsdam: 38 orthophotos of 6000 x 6000 px at 5 cm, six classes in colours.

Full labels (`potsdam`) and those whose boundaries are left unlabelled (`potsdam-eroded`) give different scores, and so
are two kinds. The label of 4_12 was compressed with loss and cars of 6_7 are (252, 255, 0): colours are rounded.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.data.classes import Classes
from bench.data.importers.labels import rounded
from bench.data.importers.layout import Found, Importer, paired

CLASSES = Classes(
    names=("Impervious surfaces", "Building", "Low vegetation", "Tree", "Car", "Clutter"),
    colours=((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)),
    ignore_colours=((0, 0, 0),),
)
TEST = {
    *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
    *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
}
"""The orthophotos that the benchmark tests on."""


def find(files: Sequence[Path], label: str) -> list[Found]:
    """The RGB orthophotos that have a label; each is a scene, and the benchmark's test ones are the test split."""
    place = r"top_potsdam_(?P<place>\d+_\d+)_{}\.tif"
    pairs = paired(files, place.format("RGB"), place.format(label), withheld=True)
    official = any(p["place"] in TEST for p, *_ in pairs)
    return [_found(p["place"], official, *both) for p, *both in pairs]


def _found(place: str, official: bool, image: Path, mask: Path) -> Found:
    """Labels for participants lack the test images: then the test split is drawn like the others."""
    splits = ("test",) if place in TEST else ("train", "val") if official else ("train", "val", "test")
    return Found(place, place, image, mask, splits)


POTSDAM = Importer(
    kind="potsdam",
    title="ISPRS 2D Semantic Labeling, Potsdam",
    layout="top_potsdam_R_C_RGB.tif and top_potsdam_R_C_label.tif, in any folders",
    find=partial(find, label="label"),
    reader=rounded(CLASSES),
    values="the class colours, each channel rounded to 0 or 255; black is ignored",
    licence="The ISPRS benchmark is for research: name ISPRS and the DGPF, and ask them before any other use.",
    credit="ISPRS benchmark on urban object classification, Potsdam; images provided by BSF Swissphoto",
    gsd_m=0.05,
)
POTSDAM_ERODED = replace(
    POTSDAM,
    kind="potsdam-eroded",
    title="ISPRS 2D Semantic Labeling, Potsdam, boundaries unlabelled",
    layout="top_potsdam_R_C_RGB.tif and top_potsdam_R_C_label_noBoundary.tif, in any folders",
    find=partial(find, label="label_noBoundary"),
)
