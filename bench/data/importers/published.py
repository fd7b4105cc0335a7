"""The data sets of the field that can be imported, each as its authors publish it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.data.classes import ARAS400K_CLASSES, Classes
from bench.data.importers.layout import Download, Found, Importer, exact, from_one, paired, rounded

# ARAS400k (arXiv 2603.09625, Zenodo record 18890661): 100,240 real tiles of Sentinel-2 and ESA WorldCover 2021.
#
# The generated pairs (`synth`) are left out. Masks are RGB in seven exact colours.

ARAS400K_FILES = "https://zenodo.org/records/18890661/files"


def _find_aras400k(files: Sequence[Path]) -> list[Found]:
    """The tiles of the authors' splits; which scene a tile was cut from is not published."""
    place = r"(?P<split>train|val|test)/{}/(?P<name>[^/]+)\.png"
    pairs = paired(files, place.format("images"), place.format("masks"))
    return [Found(p["name"], p["name"], image, mask, (p["split"].lower(),)) for p, image, mask in pairs]


ARAS400K = Importer(
    kind="aras400k",
    title="ARAS400k (arXiv 2603.09625)",
    layout="{train,val,test}/{images,masks}/NAME.png",
    find=_find_aras400k,
    reader=exact(ARAS400K_CLASSES),
    values="the seven class colours, exactly",
    licence="ARAS400k is licensed under CC BY 4.0: name the authors wherever it, or what was made of it, is shown.",
    credit="ARAS400k (arXiv 2603.09625, CC BY 4.0): Copernicus Sentinel-2 data 2021, ESA WorldCover 2021",
    gsd_m=10.0,
    size=None,
    downloads=(
        Download(f"{ARAS400K_FILES}/train.zip", "95cd5caea68c813fd86888f9cd95b627"),
        Download(f"{ARAS400K_FILES}/val.zip", "76e61fd7557d65ba0596e44c0f92b43f"),
        Download(f"{ARAS400K_FILES}/test.zip", "01679231ee8e38701f5d3ab7de0b5719"),
    ),
)


# DeepGlobe Land Cover (CVPR workshop 2018, arXiv 1805.06561): 803 images of 2448 x 2448 px at 0.5 m with masks.
#
# Masks were compressed with loss; the authors say to round each channel at 128. Masks of their validation and test
# images are withheld, so all splits are drawn from the 803.

DEEPGLOBE_CLASSES = Classes(
    names=("Urban", "Agriculture", "Rangeland", "Forest", "Water", "Barren"),
    colours=((0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
    ignore_colours=((0, 0, 0),),
)


def _find_deepglobe(files: Sequence[Path]) -> list[Found]:
    """Every image is a scene of its own: where they lie is not published."""
    pairs = paired(files, r"(?P<name>\d+)_sat\.jpg", r"(?P<name>\d+)_mask\.png", withheld=True)
    return [Found(p["name"], p["name"], image, mask) for p, image, mask in pairs]


DEEPGLOBE = Importer(
    kind="deepglobe",
    title="DeepGlobe Land Cover Classification (arXiv 1805.06561)",
    layout="NNN_sat.jpg and NNN_mask.png, in any folders",
    find=_find_deepglobe,
    reader=rounded(DEEPGLOBE_CLASSES),
    values="the class colours, each channel rounded to 0 or 255; black (unknown) is ignored",
    licence="DeepGlobe's rules and DigitalGlobe's internal use licence hold: research without commercial gain, and the "
    "images must not be passed on.",
    credit="DeepGlobe 2018 (arXiv 1805.06561), images: DigitalGlobe",
    gsd_m=0.5,
)


# Dubai (Humans in the Loop with MBRSC): eight satellite scenes, each published in nine touching parts.
#
# The published `classes.json` gives other colours than the masks have, and so is not read. Black occurs in masks
# without being documented, and counts as unlabelled.

DUBAI_CLASSES = Classes(
    names=("Water", "Land (unpaved area)", "Road", "Building", "Vegetation"),
    colours=((226, 169, 41), (132, 41, 246), (110, 193, 228), (60, 16, 152), (254, 221, 58)),
    ignore_colours=((155, 155, 155), (0, 0, 0)),
)


def _find_dubai(files: Sequence[Path]) -> list[Found]:
    """The parts, nine a scene; a whole scene goes to one split."""
    place = r"tile (?P<scene>\d+)/{}/image_part_(?P<part>\d+)\.{}"
    pairs = paired(files, place.format("images", "(?:jpe?g|png)"), place.format("masks", "png"))
    return [Found(f"t{p['scene']}p{p['part']}", f"t{p['scene']}", image, mask) for p, image, mask in pairs]


DUBAI = Importer(
    kind="dubai",
    title="Semantic segmentation of aerial imagery, Dubai (Humans in the Loop, MBRSC)",
    layout="Tile N/images/image_part_00K.jpg and Tile N/masks/image_part_00K.png",
    find=_find_dubai,
    reader=exact(DUBAI_CLASSES),
    values="the class colours, exactly; (155, 155, 155) and (0, 0, 0) are ignored",
    licence="Its publisher gives it away under CC0 1.0 (public domain).",
    credit="Humans in the Loop / MBRSC, Dubai (CC0 1.0)",
)


# LoveDA (NeurIPS Datasets and Benchmarks 2021, arXiv 2110.08733, Zenodo record 5706578): 0.3 m, urban and rural.
#
# Masks of the authors' test images are withheld: their Val is the test split here, and val is drawn from their Train.

LOVEDA_FILES = "https://zenodo.org/records/5706578/files"
LOVEDA_CLASSES = Classes(
    names=("Background", "Building", "Road", "Water", "Barren", "Forest", "Agriculture"),
    colours=(
        *((255, 255, 255), (255, 0, 0), (255, 255, 0), (0, 0, 255)),
        *((159, 129, 183), (0, 255, 0), (255, 195, 128)),
    ),
)


def _find_loveda(files: Sequence[Path]) -> list[Found]:
    """Every image is a scene of its own: where they lie is not published."""
    place = r"(?P<part>train|val)/(?P<area>urban|rural)/{}/(?P<name>[^/]+)\.png"
    pairs = paired(files, place.format("images_png"), place.format("masks_png"))
    return [_loveda_found(f"{p['area'].lower()}_{p['name']}", p["part"].lower(), *both) for p, *both in pairs]


def _loveda_found(name: str, part: str, image: Path, mask: Path) -> Found:
    return Found(name, name, image, mask, ("train", "val") if part == "train" else ("test",))


LOVEDA = Importer(
    kind="loveda",
    title="LoveDA (arXiv 2110.08733)",
    layout="{Train,Val}/{Urban,Rural}/{images_png,masks_png}/N.png",
    find=_find_loveda,
    reader=from_one(LOVEDA_CLASSES),
    values="1 to 7 are the classes in this order, 0 (no data) is ignored",
    licence="LoveDA is licensed under CC BY-NC-SA 4.0: academic use with credit; commercial use is prohibited.",
    credit="LoveDA (arXiv 2110.08733, CC BY-NC-SA 4.0)",
    gsd_m=0.3,
    downloads=(
        Download(f"{LOVEDA_FILES}/Train.zip", "de2b196043ed9b4af1690b3f9a7d558f"),
        Download(f"{LOVEDA_FILES}/Val.zip", "84cae2577468ff0b5386758bb386d31d"),
    ),
)


# OpenEarthMap (WACV 2023, arXiv 2210.10732, Zenodo record 7223446): 97 regions of 44 countries, 0.25 to 0.5 m.
#
# Masks of the authors' test images are withheld: their val list is the test split here, and val is drawn from their
# train list by whole regions. Images of the regions of xBD are not theirs to pass on: the archive has labels alone of
# these. Their lists share regions, so scores hold for these test images, not for new regions.

OPENEARTHMAP_CLASSES = Classes(
    names=("Bareland", "Rangeland", "Developed space", "Road", "Tree", "Water", "Agriculture", "Building"),
    colours=(
        *((128, 0, 0), (0, 255, 36), (148, 148, 148), (255, 255, 255)),
        *((34, 97, 38), (0, 69, 255), (75, 181, 73), (222, 31, 7)),
    ),
)


def _find_openearthmap(files: Sequence[Path]) -> list[Found]:
    """The images that have a label; a region is a scene. Without the authors' val.txt, regions are drawn for test."""
    place = r"(?P<region>[^/]+)/{}/(?P<name>[^/]+)\.tif"
    pairs = paired(files, place.format("images"), place.format("labels"), withheld=True, partial=True)
    lists = [path for path in files if path.name == "val.txt"]
    tested = {Path(line.strip()).stem for path in lists for line in path.read_text(encoding="utf-8").splitlines()}
    rest = ("train", "val") if tested else ("train", "val", "test")
    return [
        Found(p["name"], p["region"], image, mask, ("test",) if p["name"] in tested else rest)
        for p, image, mask in pairs
    ]


OPENEARTHMAP = Importer(
    kind="openearthmap",
    title="OpenEarthMap (arXiv 2210.10732)",
    layout="REGION/{images,labels}/NAME.tif, and val.txt",
    find=_find_openearthmap,
    reader=from_one(OPENEARTHMAP_CLASSES),
    values="1 to 8 are the classes in this order, 0 (unknown) is ignored",
    licence="Labels have the licence of their region's images, CC BY-NC-SA 4.0 where that one is not stated: see the "
    "attribution page of open-earth-map.org before passing on or selling anything.",
    credit="OpenEarthMap (arXiv 2210.10732)",
    downloads=(
        Download(
            "https://zenodo.org/records/7223446/files/OpenEarthMap.zip",
            "64155d1dc9d3b68536063f79878e1a67",
        ),
    ),
)


# ISPRS Potsdam: 38 orthophotos of 6000 x 6000 px at 5 cm, six classes in colours.
#
# Full labels (`potsdam`) and those whose boundaries are left unlabelled (`potsdam-eroded`) give different scores: they
# are two kinds. The label of 4_12 was compressed with loss and cars of 6_7 are (252, 255, 0): colours are rounded.

POTSDAM_CLASSES = Classes(
    names=("Impervious surfaces", "Building", "Low vegetation", "Tree", "Car", "Clutter"),
    colours=((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)),
    ignore_colours=((0, 0, 0),),
)
POTSDAM_TEST = {
    *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
    *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
}
"""The orthophotos that the benchmark tests on."""


def _find_potsdam(files: Sequence[Path], label: str) -> list[Found]:
    """The RGB orthophotos that have a label; each is a scene, and the benchmark's test ones are the test split."""
    place = r"top_potsdam_(?P<place>\d+_\d+)_{}\.tif"
    pairs = paired(files, place.format("RGB"), place.format(label), withheld=True)
    official = any(p["place"] in POTSDAM_TEST for p, *_ in pairs)
    return [_potsdam_found(p["place"], official, *both) for p, *both in pairs]


def _potsdam_found(place: str, official: bool, image: Path, mask: Path) -> Found:
    """Labels for participants lack the test images: then the test split is drawn like the others."""
    splits = ("test",) if place in POTSDAM_TEST else ("train", "val") if official else ("train", "val", "test")
    return Found(place, place, image, mask, splits)


POTSDAM = Importer(
    kind="potsdam",
    title="ISPRS 2D Semantic Labeling, Potsdam",
    layout="top_potsdam_R_C_RGB.tif and top_potsdam_R_C_label.tif, in any folders",
    find=partial(_find_potsdam, label="label"),
    reader=rounded(POTSDAM_CLASSES),
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
    find=partial(_find_potsdam, label="label_noBoundary"),
)

IMPORTERS = {found.kind: found for found in (ARAS400K, DEEPGLOBE, DUBAI, LOVEDA, OPENEARTHMAP, POTSDAM, POTSDAM_ERODED)}
"""Every importer by its kind."""
