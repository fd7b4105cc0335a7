"""`world`: real land cover of the whole Earth, the embedded real data set (see `docs/data-sets.md`)."""

from bench.data.world.blocks import World, open_world, parse_world, world_picture, world_scenes

__all__ = ["World", "open_world", "parse_world", "world_picture", "world_scenes"]
