"""Which of the figures that the five papers published can be confirmed?"""

from studies.claims.study import STUDY

__all__ = ["STUDY"]
