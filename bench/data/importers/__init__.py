"""Data sets of the field, as their authors publish them, to tile folders. One file a kind; `layout.Importer` is all
that a kind has to fill in."""

from bench.data.importers.aras400k import ARAS400K
from bench.data.importers.convert import import_data
from bench.data.importers.deepglobe import DEEPGLOBE
from bench.data.importers.dubai import DUBAI
from bench.data.importers.layout import Importer
from bench.data.importers.loveda import LOVEDA
from bench.data.importers.openearthmap import OPENEARTHMAP
from bench.data.importers.potsdam import POTSDAM, POTSDAM_ERODED

IMPORTERS = {found.kind: found for found in (ARAS400K, DEEPGLOBE, DUBAI, LOVEDA, OPENEARTHMAP, POTSDAM, POTSDAM_ERODED)}
"""Every importer by its kind."""

__all__ = ["IMPORTERS", "Importer", "import_data"]
