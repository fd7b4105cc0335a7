"""What do short trainings of a few hundred LALE configs score, and how well is the F1 of any other predicted?

from studies import tabulated

benchmark = tabulated.load()
benchmark.expected([archs.config("lale-s1")])     # the mean macro F1 of its trainings
benchmark.observe(archs.config("lale-s1"), seed=3)  # that of one training, noise included
"""

from studies.tabulated.benchmark import Tabulated, load
from studies.tabulated.study import STUDY

__all__ = ["STUDY", "Tabulated", "load"]
