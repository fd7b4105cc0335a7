"""What a record says of its machine: enough to judge a figure, nothing that names anybody."""

import getpass
import json
import os
import platform
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.errors import BenchError
from bench.records.environment import device_kind, environment, resolve_device


def test_it_names_hardware_and_software():
    found = environment("cpu")
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["device"] == "cpu"
    assert found["device_kind"] == found["processor"] == device_kind("cpu")
    assert found["cores"] >= found["usable_cores"] >= 1
    assert found["python"] == platform.python_version()
    assert found["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(found)) == found


def test_it_names_no_host_user_or_folder():
    text = json.dumps(environment("cpu"))
    for private in (socket.gethostname(), platform.node(), str(Path.home()), str(Path.cwd())):
        assert len(private) < 3 or private not in text
    values = json.dumps(list(environment("cpu").values())).lower()
    user = getpass.getuser().lower()
    assert len(user) < 3 or f'"{user}"' not in values
    assert os.sep + "home" not in text


def test_devices_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    best = resolve_device("auto")
    assert best.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu:fast", "tpu"])
def test_unknown_devices_are_answered_with_the_known(name):
    with pytest.raises(BenchError, match="auto, cpu, cuda"):
        resolve_device(name)


def test_a_device_that_is_not_here():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(BenchError, match=rf"{missing}.* is not here"):
        resolve_device(missing)


def test_a_gpu_is_told_from_the_machines_others(monkeypatch):
    properties = SimpleNamespace(total_memory=80 << 30, multi_processor_count=132, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = [environment(device) for device in ("cuda", "cuda:1")]
    assert [one["gpu_index"] for one in found] == [0, 1]
    assert {(one["device"], one["device_kind"]) for one in found} == {("cuda", "a GPU")}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_described():
    found = environment("cuda")
    assert found["device_kind"] == torch.cuda.get_device_name()
    assert found["gpu_memory_gib"] > 0
