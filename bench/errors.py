"""The one exception of `bench` that a user can cause."""


class BenchError(Exception):
    """What was given, what is possible and what to do, in one sentence; the command line prints it and exits 1."""
