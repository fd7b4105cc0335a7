"""Dubai (Humans in the Loop with MBRSC): eight satellite scenes, each published in nine touching parts.

The published `classes.json` gives other colours than the masks have, and so is not read. Black occurs in masks
without being documented, and counts as unlabelled.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.data.classes import Classes
from bench.data.importers.labels import exact
from bench.data.importers.layout import Found, Importer, paired

CLASSES = Classes(
    names=("Water", "Land (unpaved area)", "Road", "Building", "Vegetation"),
    colours=((226, 169, 41), (132, 41, 246), (110, 193, 228), (60, 16, 152), (254, 221, 58)),
    ignore_colours=((155, 155, 155), (0, 0, 0)),
)


def find(files: Sequence[Path]) -> list[Found]:
    """The parts, nine a scene; a whole scene goes to one split."""
    place = r"tile (?P<scene>\d+)/{}/image_part_(?P<part>\d+)\.{}"
    pairs = paired(files, place.format("images", "(?:jpe?g|png)"), place.format("masks", "png"))
    return [Found(f"t{p['scene']}p{p['part']}", f"t{p['scene']}", image, mask) for p, image, mask in pairs]


DUBAI = Importer(
    kind="dubai",
    title="Semantic segmentation of aerial imagery, Dubai (Humans in the Loop, MBRSC)",
    layout="Tile N/images/image_part_00K.jpg and Tile N/masks/image_part_00K.png",
    find=find,
    reader=exact(CLASSES),
    values="the class colours, exactly; (155, 155, 155) and (0, 0, 0) are ignored",
    licence="Its publisher gives it away under CC0 1.0 (public domain).",
    credit="Humans in the Loop / MBRSC, Dubai (CC0 1.0)",
)
