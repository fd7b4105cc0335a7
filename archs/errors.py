"""The one exception of `archs` that a user can cause."""


class ArchError(ValueError):
    """What was given, what is possible and what to do, in one sentence."""
