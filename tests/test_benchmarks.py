"""The timed benchmarks are skipped by `pytest`: this keeps them running, untimed."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
SOME = "not compiled and (rmsnorm or conv3x3-eager or fifty or scoring or pricing or random)"


class Count:
    """A plug-in that sees what became of the tests."""

    def __init__(self):
        self.outcomes = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.outcomes.append(report.outcome)


def test_some_of_each_file_run():
    count = Count()
    options = ["-o", "addopts=", "--benchmark-disable", "-q", "-k", SOME, "-p", "no:xdist", "-p", "no:cacheprovider"]
    assert pytest.main([str(FOLDER), *options], plugins=[count]) == 0
    assert len(count.outcomes) >= 8 and set(count.outcomes) == {"passed"}
