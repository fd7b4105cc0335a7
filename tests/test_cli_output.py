"""Output that cannot be written is refused before any work, by one sentence."""

import sys

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
