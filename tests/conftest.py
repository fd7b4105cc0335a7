"""What holds for all tests: one thread each, since as many tests run at once as there are cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once

from hypothesis import settings

# Shared machines stall for seconds at a time; a deadline would fail tests for that.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
