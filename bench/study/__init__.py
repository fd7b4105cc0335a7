"""Declare a study, run it, read what it found.

A study is a question, its variants, and what is to be measured of them; it says nothing of how.
"""

from bench.study.declare import Instrument, Setting, Study, Variant
from bench.study.manifest import Manifest, load_manifest
from bench.study.report import write_report
from bench.study.run import StudyPlan, plan_study, run_study

__all__ = [
    "Instrument",
    "Manifest",
    "Setting",
    "Study",
    "StudyPlan",
    "Variant",
    "load_manifest",
    "plan_study",
    "run_study",
    "write_report",
]
