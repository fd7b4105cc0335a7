"""The search space of LALE: between which values each field may move, and the rules between fields."""

from collections.abc import Iterable

from archs.layers import ACTIVATIONS, NORMS
from archs.searchable import Fields, Rows, SearchSpace


def settle(fields: Fields, rows: Rows, base: Fields) -> Fields:
    """Widths never fall from stage to stage; attention stages are multiples of the head width.

    Fields without effect (the ConvMixer's where no stage is one, and so on) return to the base's values, so that
    one network is one point.
    """
    fields = dict(fields)
    if "widths" in rows:
        fields["widths"] = _growing_widths(fields, rows["widths"])
    if not _heads_fit(fields, fields["head_width"]) and "head_width" in rows:
        fields["head_width"] = _fitting_head(fields, rows["head_width"][0])
    if not _heads_fit(fields, fields["head_width"]) and "conv_stages" in rows:
        later = [split for split in rows["conv_stages"][0] if split > fields["conv_stages"]]
        fields["conv_stages"] = next(
            (s for s in later if _heads_fit({**fields, "conv_stages": s}, fields["head_width"])), later[-1]
        )
    idle = _without_effect(fields)
    return {name: base[name] if name in idle else value for name, value in fields.items()}


def _growing_widths(fields: Fields, grids: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    widths: list[int] = []
    for stage, (wanted, grid) in enumerate(zip(fields["widths"], grids, strict=True)):
        unit = fields["head_width"] if stage >= fields["conv_stages"] else 1
        floor = max([wanted, *widths[-1:]])
        allowed = [width for width in grid if width % unit == 0] or list(grid)
        widths.append(next((width for width in allowed if width >= floor), allowed[-1]))
    return tuple(widths)


def _heads_fit(fields: Fields, head: int) -> bool:
    return all(width % head == 0 for width in fields["widths"][fields["conv_stages"] :])


def _fitting_head(fields: Fields, heads: Iterable[int]) -> int:
    """The nearest head width that divides all attention stages; the given one if there is none."""
    fitting = [head for head in heads if _heads_fit(fields, head)]
    return min(fitting, key=lambda head: abs(head - fields["head_width"]), default=fields["head_width"])


def _without_effect(fields: Fields) -> set[str]:
    idle = set() if fields["stem"] == "conv3x3" else {"stem_width"}
    if fields["conv_stages"] == 0:
        idle |= {"mixer_kernel", "mixer_expansion", "mixer_mlp"}
    if fields["conv_stages"] == len(fields["widths"]):
        idle |= {"mlp_kernel", "mlp_expansion", "head_width"}
    return idle


SPACE = SearchSpace(
    values={
        # every row ends in a multiple of 64, so that each head width fits every stage
        "widths": (range(16, 65, 8), range(32, 129, 16), range(64, 257, 32), range(64, 385, 64)),
        "depths": (range(1, 5),) * 4,
        "conv_stages": range(5),
        "stem": ("conv3x3", "conv7x7", "patchify"),
        "stem_width": range(8, 33, 8),
        "norm": tuple(NORMS),
        "act": tuple(ACTIVATIONS),
        "mixer_kernel": (3, 5, 7),
        "mixer_expansion": range(1, 7),
        "mixer_mlp": (False, True),
        "mlp_kernel": (3, 5, 7),
        "mlp_expansion": range(1, 7),
        "head_width": (16, 32, 64),
        "decoder_width": range(32, 193, 16),
        "fusion": ("concat", "sum"),
        "decoder_norm": tuple(NORMS),
        "decoder_act": tuple(ACTIVATIONS),
        "dropout": (0.0, 0.1, 0.2),
        "drop_path": (0.0, 0.05, 0.1),
    },
    free=(
        "widths", "depths", "conv_stages", "mixer_kernel", "mixer_expansion", "mlp_expansion", "decoder_width",
        "fusion",
    ),
    settle=settle,
)  # fmt: skip
