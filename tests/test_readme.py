"""README and documentation show what the records say; their links lead somewhere, their examples and commands exist."""

import re
from pathlib import Path

import click
import pytest
import typer
from fill_pages import fill, indexed, pages

import archs
from bench.cli.app import app, run
from bench.report.columns import COLUMNS
from bench.study import VariantStudy

ROOT = Path(__file__).parent.parent
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages(ROOT)}
LINES = [(name, line) for name, text in PAGES.items() for line in re.findall(r"^lale-bench .*", text, re.MULTILINE)]


def example(page: str, first_line: str) -> str:
    """The Python block that begins with a comment of this text."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {first_line}"))


def test_the_readme_is_for_two_minutes():
    assert len(PAGES["README.md"].splitlines()) <= 150


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_records(page):
    assert fill(PAGES[page], ROOT) == PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_into_the_project_leads_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", PAGES[page]) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_page_of_columns_is_made_of_the_columns():
    assert fill(PAGES["docs/columns.md"], ROOT) == PAGES["docs/columns.md"]
    assert [key for key, one in COLUMNS.items() if not one.how or f"`{key}`" not in PAGES["docs/columns.md"]] == []


def test_the_index_of_results_names_every_study_and_search():
    sections = re.findall(r"^## (.+)\n\n\*.+\?\*\n\n- .+", PAGES["results/README.md"], re.MULTILINE)
    assert sections == [folder.relative_to(ROOT / "results").as_posix() for folder in indexed(ROOT / "results")]
    for folder in indexed(ROOT / "results"):
        for path in (*folder.glob("*.md"), *folder.glob("**/*.png")):
            assert f"]({path.relative_to(ROOT / 'results').as_posix()})" in PAGES["results/README.md"]


def test_figures_of_results_are_in_one_format():
    files = [path for path in (ROOT / "results").glob("**/*.*") if path.is_file() and path.name != "report.html"]
    assert {path.suffix for path in files if ".locks" not in path.parts} <= {".json", ".csv", ".md", ".png"}


@pytest.mark.parametrize("page", sorted(name for name in PAGES if name.startswith("docs/") and name != "docs/index.md"))
def test_a_page_opens_with_its_question_and_is_in_the_index(page):
    title, question = [line for line in PAGES[page].splitlines() if line][:2]
    assert title.startswith("# ")
    assert re.fullmatch(r"\*.*\?\*", question)
    assert f"]({Path(page).name})" in PAGES["docs/index.md"]


def test_the_large_scene_is_made_as_its_page_says(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.chdir(tmp_path)
    exec(example("docs/scenes.md", "large_scene.py").replace("20_000, 500", "600, 200"), {})
    with rasterio.open("large.tif") as scene:
        assert (scene.shape, scene.count, scene.crs.to_epsg()) == ((600, 600), 3, 32633)
        assert len(set(scene.read(1).ravel())) > 10


@pytest.mark.parametrize("page", ["README.md", "docs/extending.md"])
def test_the_architecture_of_the_pages_counts(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = example(page, "my_arch.py").replace('"tiny"', f'"tiny-{Path(page).stem.lower()}"')
    assert len(source.splitlines()) < 20
    (tmp_path / "my_arch.py").write_text(source, encoding="utf-8")
    name = f"tiny-{Path(page).stem.lower()}"
    assert run(["--plugin", "my_arch.py", "measure", name, "--size", "32", "--no-speed", "--device", "cpu"]) == 0
    assert name in capsys.readouterr().out
    assert name in archs.names()


@pytest.mark.parametrize(
    "page, labels",
    [("README.md", ["layernorm", "batchnorm"]), ("docs/extending.md", [f"stage {i}" for i in (1, 2, 3, 4)])],
)
def test_the_study_of_the_pages_is_one(page, labels):
    source = example(page, "my_study.py")
    assert len(source.splitlines()) < 20
    found: dict = {}
    exec(compile(source, "my_study.py", "exec"), found)
    assert isinstance(found["STUDY"], VariantStudy)
    assert [variant.label for variant in found["STUDY"].variants][1:] == labels


@pytest.mark.parametrize("page, line", LINES)
def test_commands_and_their_options_exist(page, line):
    words = line.partition("  #")[0].split()[1:]
    command: click.Command = typer.main.get_command(app)
    options = {option for one in command.params for option in one.opts}
    if words[0] == "--plugin":
        words = words[2:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
        options |= {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), f"{page}: no command {words[:1]}"
    assert [word for word in words if word.startswith("--") and word.partition("=")[0] not in options] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    assert (tmp_path / "site" / "verdicts" / "index.html").is_file()
