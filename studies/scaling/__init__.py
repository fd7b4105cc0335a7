"""How do cost, memory and latency grow with the image and the batch, and where does attention dominate?"""

from studies.scaling.study import STUDY

__all__ = ["STUDY"]
