"""OpenEarthMap (WACV 2023, arXiv 2210.10732, Zenodo record 7223446): 97 regions of 44 countries, 0.25 to 0.5 m.

Masks of the authors' test images are withheld: their val list is the test split here, and val is drawn from their
train list by whole regions. Their lists share regions, so scores hold for these test images, not for new regions.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.data.classes import Classes
from bench.data.importers.labels import from_one
from bench.data.importers.layout import Download, Found, Importer, paired

CLASSES = Classes(
    names=("Bareland", "Rangeland", "Developed space", "Road", "Tree", "Water", "Agriculture", "Building"),
    colours=(
        *((128, 0, 0), (0, 255, 36), (148, 148, 148), (255, 255, 255)),
        *((34, 97, 38), (0, 69, 255), (75, 181, 73), (222, 31, 7)),
    ),
)


def find(files: Sequence[Path]) -> list[Found]:
    """The images that have a label; a region is a scene. Without the authors' val.txt, regions are drawn for test."""
    place = r"(?P<region>[^/]+)/{}/(?P<name>[^/]+)\.tif"
    pairs = paired(files, place.format("images"), place.format("labels"), withheld=True)
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
    find=find,
    reader=from_one(CLASSES),
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
