"""Do the verdicts of a study hold what they promise? Simulated scores, judged by today's and other methods."""

from studies.calibration.study import STUDY

__all__ = ["STUDY"]
