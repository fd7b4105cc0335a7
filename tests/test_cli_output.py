"""Output that cannot be written is refused before any work, by one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.app import run

NETWORK = "no-such-network"  # opened after the check: its own refusal would come first otherwise


@pytest.fixture
def afile(tmp_path):
    path = tmp_path / "afile"
    path.write_text("not a folder")
    return path


@pytest.mark.parametrize("name", ["map.tif", "maps"])
def test_predict_refuses_before_it_opens_the_network(afile, capsys, name):
    assert run(["predict", NETWORK, "sample", str(afile / name)]) == 1
    assert f"since {afile} is a file; give another path" in capsys.readouterr().err


def test_predict_writes_over_no_folder(tmp_path, capsys):
    (tmp_path / "map.tif").mkdir()
    assert run(["predict", NETWORK, "sample", str(tmp_path / "map.tif")]) == 1
    assert "map.tif is a folder; give the path of a file" in capsys.readouterr().err


def test_plot_publish_and_report_refuse_a_file_for_a_folder(afile, capsys):
    commands = (["plot", str(afile)], ["publish", NETWORK, str(afile)], ["report", "runs", "-o", str(afile / "a.html")])
    for command in commands:
        assert run(command) == 1
        assert f"since {afile} is a file; give another path" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody may write")
def test_plot_refuses_a_folder_that_may_not_be_written(capsys):
    assert run(["plot", "/proc/self"]) == 1
    assert "/proc/self cannot be written" in capsys.readouterr().err


def told_by_a_process(out, *arguments, **environment):
    """Exit status and standard error of the command line in a process whose standard output is `out`."""
    program = "import sys; from bench.cli.app import main; sys.argv[0] = 'lale-bench'; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=out, stderr=subprocess.PIPE, env=os.environ | environment
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["study --help", "--version"])  # the second fits the buffer until the end
def test_a_full_disk_behind_the_output_is_a_sentence(command):
    with Path("/dev/full").open("wb") as full:
        status, told = told_by_a_process(full, *command.split())
    assert status == 1
    assert told.startswith("error: the disk is full") and "Traceback" not in told


def test_a_command_ends_as_python_would(tmp_path):
    """What is registered for the exit is called, the output is whole, and nothing is said to a reader that has gone."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text("import atexit; atexit.register(print, 'called at exit')")
    with (tmp_path / "out").open("wb") as out:
        assert told_by_a_process(out, "--plugin", str(plugin), "list") == (0, "")
    assert (tmp_path / "out").read_text().endswith("called at exit\n")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        assert told_by_a_process(gone, "--version")[1] == ""


def test_an_output_that_is_not_utf8_gets_escapes_and_no_traceback(tmp_path):
    with (tmp_path / "out").open("wb") as out:
        status, told = told_by_a_process(out, "records", "upgrade", str(tmp_path / "Çağlar"), PYTHONIOENCODING="ascii")
    assert status == 1
    assert "\\xc7a\\u011flar" in told and "Traceback" not in told


def test_refusals_of_the_system_are_sentences(tmp_path, capsys):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path / ("a" * 300), tmp_path / "nothing" / "here"):
        for command in (["data", "check", str(path)], ["plot", str(path)], ["records", "upgrade", str(path)]):
            assert run(command) == 1
            assert "error: " in capsys.readouterr().err
