"""Checkpoints of the authors' own code: how they name what our networks have, and how they are read."""

import re
from collections.abc import Iterable


def spelled(ours: Iterable[str], spelling: Iterable[tuple[str, str]], droppable: re.Pattern[str]) -> dict[str, str]:
    """Official name -> our name, of every tensor but the droppable ones.

    Args:
        ours: our names.
        spelling: in order, a pattern in our names and what the official code has in its place.
        droppable: what official files hold and no network of ours needs.
    """
    found = {}
    for name in ours:
        theirs = name
        for pattern, official in spelling:
            theirs = re.sub(pattern, official, theirs)
        if not droppable.search(name):
            found[theirs] = name
    return found
