"""DeepGlobe Land Cover (CVPR workshop 2018, arXiv 1805.06561): 803 images of 2448 x 2448 px at 0.5 m with masks.

Masks were compressed with loss; the authors say to round each channel at 128. Masks of their validation and test
images are withheld, so all splits are drawn from the 803.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.data.classes import Classes
from bench.data.importers.labels import rounded
from bench.data.importers.layout import Found, Importer, paired

CLASSES = Classes(
    names=("Urban", "Agriculture", "Rangeland", "Forest", "Water", "Barren"),
    colours=((0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
    ignore_colours=((0, 0, 0),),
)


def find(files: Sequence[Path]) -> list[Found]:
    """Every image is a scene of its own: where they lie is not published."""
    pairs = paired(files, r"(?P<name>\d+)_sat\.jpg", r"(?P<name>\d+)_mask\.png", withheld=True)
    return [Found(p["name"], p["name"], image, mask) for p, image, mask in pairs]


DEEPGLOBE = Importer(
    kind="deepglobe",
    title="DeepGlobe Land Cover Classification (arXiv 1805.06561)",
    layout="NNN_sat.jpg and NNN_mask.png, in any folders",
    find=find,
    reader=rounded(CLASSES),
    values="the class colours, each channel rounded to 0 or 255; black (unknown) is ignored",
    licence="DeepGlobe's rules and DigitalGlobe's internal use licence hold: research without commercial gain, and the "
    "images must not be passed on.",
    credit="DeepGlobe 2018 (arXiv 1805.06561), images: DigitalGlobe",
    gsd_m=0.5,
)
