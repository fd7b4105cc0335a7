"""Data sets of the field, as their authors publish them, to tile folders; `layout.Importer` is all that one has to
fill in."""

from bench.data.importers.convert import import_data
from bench.data.importers.layout import Importer
from bench.data.importers.published import IMPORTERS

__all__ = ["IMPORTERS", "Importer", "import_data"]
