"""`lale-bench`: one command line over the functions that a notebook would import."""

from bench.cli.app import main

__all__ = ["main"]
