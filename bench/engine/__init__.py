"""Runs the cells of a study: skips what is recorded, resumes, reports, and survives a cell that fails."""

from bench.engine.cells import Cell, CellContext, CellFailed, Outcome, Planned, StudyInterrupted, plan
from bench.engine.running import run_cells

__all__ = ["Cell", "CellContext", "CellFailed", "Outcome", "Planned", "StudyInterrupted", "plan", "run_cells"]
