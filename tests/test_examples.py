"""The notebooks under `examples/` run as they are, from an empty folder, and end with what they promise."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import archs
from archs.saved import load_config
from bench.search.spaces import read_values, space_of

ROOT = Path(__file__).parent.parent
ENDS = {
    "ablation": ["Undecided against lale-s1", "layer norm", "ablation.png"],
    "pareto": ["on the front:", "f1-macs.png", "params-macs.png"],
    "search": ["none over the budget", "front/lale-"],
}


def test_each_use_has_an_example():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(ENDS)


@pytest.mark.parametrize("name", ENDS)
def test_an_example_is_a_notebook_in_the_percent_format_with_a_question(name):
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    assert "?*\n" in text.split("# %%\n")[0]
    settings = next(node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign))
    assert settings < 30, "its settings stand at the top"


@pytest.mark.parametrize(("space", "found"), [("latency", "search-latency"), ("activations", "search-activations")])
def test_a_space_holds_what_was_found_in_it(space, found):
    searched = space_of(archs.config("lale-s1"), values=read_values(ROOT / "examples" / f"{space}.toml"))
    members = sorted((ROOT / "results/dubai" / found / "front").glob("*.json"))
    assert members
    assert [path for path in members if load_config(path) not in searched] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_an_example_runs(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    script = ROOT / "examples" / f"{name}.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "FAILED" not in done.stderr
    assert [text for text in ENDS[name] if text not in done.stdout] == []
