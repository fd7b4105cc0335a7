"""What holds for all tests: one thread each, as many run at once as there are cores; slow ones on demand."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once

import pytest
from hypothesis import settings

# Shared machines stall for seconds at a time; a deadline would fail tests for that.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

SLOW = "slow: `make test SLOW=1` runs it"


def pytest_collection_modifyitems(items):
    """Tests marked `slow` run only with SLOW=1 in the environment."""
    if os.environ.get("SLOW") != "1":
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason=SLOW))


def pytest_terminal_summary(terminalreporter):
    """Say how many proofs a quick run left out."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if SLOW in str(r.longrepr)]
    if skipped:
        line = f"{len(skipped)} slow tests were skipped: `make test SLOW=1` runs them."
        terminalreporter.write_line(line, yellow=True)
