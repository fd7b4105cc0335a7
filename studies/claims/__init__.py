"""Which of the figures that the four papers published are true?"""

from studies.claims.study import STUDY

__all__ = ["STUDY"]
