"""What `pip install` gives does what the checkout does, in a folder that is not the repository."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("archs", "bench", "studies")
MOST_BYTES = 30 * 2**20
NEEDED = (
    "bench/choose/known.json",
    "studies/claims/published.csv",
    "studies/claims/headlines.csv",
    "studies/claims/devices.csv",
    "studies/tabulated/benchmark.json",
    "studies/tabulated/table.csv",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no build folder is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(out), str(source))
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is installed into; a Python that has it first on its path runs the rest."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", str(folder), str(wheel))
    return folder


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def run(installed, folder, code, *arguments):
    """What a program prints that runs in another folder than the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lale_bench(installed, folder, *arguments):
    return run(installed, folder, "from bench.cli import main; main()", *arguments)


def test_the_wheel_is_small_and_holds_what_code_reads(wheel):
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert set(NEEDED) <= set(names)
    assert any(name.startswith("bench/data/world/") for name in names)
    assert {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")} <= set(
        names
    )


def test_the_packages_are_those_of_the_wheel(installed, tmp_path):
    printed = run(installed, tmp_path, "import archs, bench, studies; print(archs.__file__, studies.__file__)")
    assert all(path.startswith(str(installed)) for path in printed.split())


def test_published_figures_are_judged_from_package_data(installed, tmp_path):
    cells = json.loads(lale_bench(installed, tmp_path, "study", "claims", "--dry-run", "--json"))["cells"]
    assert len(cells) > 50 and {cell["status"] for cell in cells} == {"missing"}
    code = """if True:
        from pathlib import Path
        from bench.study import Setting, plan_study
        from studies.claims import STUDY
        plan = plan_study(STUDY, Setting(out=Path("runs")), "claims")
        plan.manifest.save(plan.folder)
    """
    run(installed, tmp_path, code)
    assert "figures" in lale_bench(installed, tmp_path, "plot", "runs/claims")
    assert (tmp_path / "runs" / "claims" / "summary.md").exists()


def test_the_committed_results_answer_a_wish(installed, tmp_path):
    wish = ("--data", "dubai", "--land-km2", "100", "--gsd", "0.5", "--f1", "0.6", "--records-only", "--json")
    found = json.loads(lale_bench(installed, tmp_path, "choose", *wish))
    assert "lale-s1" in [row["variant"] for row in found["networks"]]


def test_the_tabulated_benchmark_comes_with_it(installed, tmp_path):
    code = "import archs; from studies import tabulated; print(*tabulated.load().expected([archs.config('lale-s1')]))"
    assert 0.2 < float(run(installed, tmp_path, code)) < 0.9
    cells = json.loads(lale_bench(installed, tmp_path, "study", "samplers", "--dry-run", "--json"))["cells"]
    assert len(cells) > 50
