"""Whole scenes to class maps: windows are read, predicted, blended and written as they come."""
