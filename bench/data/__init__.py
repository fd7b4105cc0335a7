"""Land-cover tiles: one type (`DataSet`), one door (`open_data`); folders, and our own generator `terrain`."""

from bench.data.classes import ARAS400K_CLASSES, Classes
from bench.data.dataset import DataSet, Split, open_data

__all__ = ["ARAS400K_CLASSES", "Classes", "DataSet", "Split", "open_data"]
