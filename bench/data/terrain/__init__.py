"""`terrain`: our own landscapes seen from above, the embedded data set. Deterministic from a seed."""

from bench.data.terrain.generate import Terrain, make_tile, open_terrain, parse_terrain

__all__ = ["Terrain", "make_tile", "open_terrain", "parse_terrain"]
