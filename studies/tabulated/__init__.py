"""What do short trainings of a few hundred LALE configs score, and how well is the F1 of any other predicted?"""

from studies.tabulated.study import STUDY

__all__ = ["STUDY"]
