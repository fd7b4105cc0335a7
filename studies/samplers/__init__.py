"""Which sampler finds the best front for the fewest trainings?"""

from studies.samplers.study import STUDY

__all__ = ["STUDY"]
