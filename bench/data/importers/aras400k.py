"""ARAS400k (arXiv 2603.09625, Zenodo record 18890661): 100,240 real tiles of Sentinel-2 and ESA WorldCover 2021.

The generated pairs (`synth`) are left out. Masks are RGB in seven exact colours.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.data.classes import ARAS400K_CLASSES
from bench.data.importers.labels import exact
from bench.data.importers.layout import Download, Found, Importer, paired

RECORD = "https://zenodo.org/records/18890661/files"


def find(files: Sequence[Path]) -> list[Found]:
    """The tiles of the authors' splits; which scene a tile was cut from is not published."""
    place = r"(?P<split>train|val|test)/{}/(?P<name>[^/]+)\.png"
    pairs = paired(files, place.format("images"), place.format("masks"))
    return [Found(p["name"], p["name"], image, mask, (p["split"].lower(),)) for p, image, mask in pairs]


ARAS400K = Importer(
    kind="aras400k",
    title="ARAS400k (arXiv 2603.09625)",
    layout="{train,val,test}/{images,masks}/NAME.png",
    find=find,
    reader=exact(ARAS400K_CLASSES),
    values="the seven class colours, exactly",
    licence="ARAS400k is licensed under CC BY 4.0: name the authors wherever it, or what was made of it, is shown.",
    credit="ARAS400k (arXiv 2603.09625, CC BY 4.0): Copernicus Sentinel-2 data 2021, ESA WorldCover 2021",
    gsd_m=10.0,
    size=None,
    downloads=(
        Download(f"{RECORD}/train.zip", "95cd5caea68c813fd86888f9cd95b627"),
        Download(f"{RECORD}/val.zip", "76e61fd7557d65ba0596e44c0f92b43f"),
        Download(f"{RECORD}/test.zip", "01679231ee8e38701f5d3ab7de0b5719"),
    ),
)
