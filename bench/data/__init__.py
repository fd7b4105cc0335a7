"""Land-cover tiles: one type (`DataSet`), one door (`open_data`); folders, and our own generator `terrain`."""

from bench.data.bands import RGB, Band
from bench.data.classes import ARAS400K_CLASSES, Classes
from bench.data.dataset import DataSet, Split, open_data
from bench.data.problems import Problem

__all__ = ["ARAS400K_CLASSES", "RGB", "Band", "Classes", "DataSet", "Problem", "Split", "open_data"]
