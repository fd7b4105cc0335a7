"""The one exception of `archs` that a user can cause, and what the exceptions of others say."""


class ArchError(ValueError):
    """What was given, what is possible and what to do, in one sentence."""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, else the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
