"""Processes of their own for tests that train in several at once.

PyTorch refuses to compute gradients in the fork of a process that has computed some, as a test run has. A server
process forks these instead: it imports what they need once, and computes nothing itself.
"""

import multiprocessing
import os

import torch


def start(environment, target, *arguments):
    """Run `target(*arguments)` in a process of its own, with these variables of the environment on top."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fresh_imports"])
    process = context.Process(target=_run, args=(environment, target, arguments), daemon=True)
    process.start()
    return process


def _run(environment, target, arguments):
    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments)
