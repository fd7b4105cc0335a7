"""What the server process of `fresh_process` imports once for all that it forks. Nothing else imports this."""

import atexit
import gc
import os

import bench.cli.app
import bench.search.report
import bench.training.trainer  # noqa: F401

gc.collect()
gc.freeze()  # what all of them would look through for garbage after each cell
atexit.register(os._exit, 0)  # some libraries complain about leaks of an interpreter that ends in an orderly way
