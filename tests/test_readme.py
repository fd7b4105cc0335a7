"""The README shows what the records say, and its examples run."""

import re
from pathlib import Path

import pytest

import archs
from bench.cli.app import run
from bench.cli.readme import fill
from bench.study import VariantStudy

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(first_line: str) -> str:
    """The Python block that begins with a comment of this text."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {first_line}"))


@pytest.mark.slow
def test_tables_are_those_of_the_records():
    assert fill(README, ROOT) == README


def test_every_link_into_the_project_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_architecture_of_the_readme_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = example("my_arch.py")
    assert len(source.splitlines()) < 20
    (tmp_path / "my_arch.py").write_text(source, encoding="utf-8")
    assert run(["--plugin", "my_arch.py", "measure", "tiny", "--size", "32", "--no-speed", "--device", "cpu"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert "tiny" in archs.names()


def test_the_study_of_the_readme_is_one():
    source = example("my_study.py")
    assert len(source.splitlines()) < 20
    found: dict = {}
    exec(compile(source, "my_study.py", "exec"), found)
    assert isinstance(found["STUDY"], VariantStudy)
    assert [variant.label for variant in found["STUDY"].variants][1:] == [f"stage {i}" for i in (1, 2, 3, 4)]


def test_the_commands_of_the_readme_exist(capsys):
    commands = set(re.findall(r"^lale-bench (?:--plugin \S+ )?([a-z]+)", README, re.MULTILINE))
    assert {"list", "show", "verify", "measure", "study", "search", "train", "data"} <= commands
    for command in sorted(commands):
        assert run([command, "--help"]) == 0
