"""Declare a study, run it, read what it found.

A study is a question, what is to be measured for it, and a report of the records; it says nothing of how. Most are
`VariantStudy`: networks side by side. Others implement the protocol `Study`.
"""

from bench.study.declare import Instrument, Variant, VariantStudy
from bench.study.protocol import Layout, Manifest, Report, Results, Setting, Study, load_manifest
from bench.study.run import StudyPlan, load_results, plan_from_manifest, plan_study, run_study, write_report

__all__ = [
    "Instrument",
    "Layout",
    "Manifest",
    "Report",
    "Results",
    "Setting",
    "Study",
    "StudyPlan",
    "Variant",
    "VariantStudy",
    "load_manifest",
    "load_results",
    "plan_from_manifest",
    "plan_study",
    "run_study",
    "write_report",
]
