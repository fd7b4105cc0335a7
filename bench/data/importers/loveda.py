"""LoveDA (NeurIPS Datasets and Benchmarks 2021, arXiv 2110.08733, Zenodo record 5706578): 0.3 m, urban and rural.

Masks of the authors' test images are withheld: their Val is the test split here, and val is drawn from their Train.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.data.classes import Classes
from bench.data.importers.labels import from_one
from bench.data.importers.layout import Download, Found, Importer, paired

RECORD = "https://zenodo.org/records/5706578/files"
CLASSES = Classes(
    names=("Background", "Building", "Road", "Water", "Barren", "Forest", "Agriculture"),
    colours=(
        *((255, 255, 255), (255, 0, 0), (255, 255, 0), (0, 0, 255)),
        *((159, 129, 183), (0, 255, 0), (255, 195, 128)),
    ),
)


def find(files: Sequence[Path]) -> list[Found]:
    """Every image is a scene of its own: where they lie is not published."""
    place = r"(?P<part>train|val)/(?P<area>urban|rural)/{}/(?P<name>[^/]+)\.png"
    pairs = paired(files, place.format("images_png"), place.format("masks_png"))
    return [_found(f"{p['area'].lower()}_{p['name']}", p["part"].lower(), *both) for p, *both in pairs]


def _found(name: str, part: str, image: Path, mask: Path) -> Found:
    return Found(name, name, image, mask, ("train", "val") if part == "train" else ("test",))


LOVEDA = Importer(
    kind="loveda",
    title="LoveDA (arXiv 2110.08733)",
    layout="{Train,Val}/{Urban,Rural}/{images_png,masks_png}/N.png",
    find=find,
    reader=from_one(CLASSES),
    values="1 to 7 are the classes in this order, 0 (no data) is ignored",
    licence="LoveDA is licensed under CC BY-NC-SA 4.0: academic use with credit; commercial use is prohibited.",
    credit="LoveDA (arXiv 2110.08733, CC BY-NC-SA 4.0)",
    gsd_m=0.3,
    downloads=(
        Download(f"{RECORD}/Train.zip", "de2b196043ed9b4af1690b3f9a7d558f"),
        Download(f"{RECORD}/Val.zip", "84cae2577468ff0b5386758bb386d31d"),
    ),
)
