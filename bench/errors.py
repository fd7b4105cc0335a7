"""The one exception of `bench` that a user can cause, and the one warning."""


class BenchError(Exception):
    """What was given, what is possible and what to do, in one sentence; the command line prints it and exits 1."""


class DataWarning(UserWarning):
    """Something about a data set that a person should judge; the command line prints it as a sentence."""
