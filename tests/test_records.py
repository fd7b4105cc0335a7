"""Records: keys, plain JSON, whole files, claims, merging, and what must not stand in them."""

import doctest
import errno
import json
import math
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.records import (
    Record,
    RecordStore,
    anonymised,
    pack_array,
    plain_json,
    private_parts,
    record_key,
    unpack_array,
)
from bench.records import store as store_module
from bench.records.canonical import canonical_json

NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


def demo(seed=0, **changes) -> Record:
    fields = {"environment": {"cpu": "any"}, "seconds": 1.5} | changes
    result = fields.pop("result", {"f1": 0.5})
    return Record.of("demo", {"config": {"norm": "rmsnorm", "depths": (1, 2)}, "seed": seed}, result, **fields)


# Keys


def test_key_is_stable_across_versions_of_python_and_machines():
    assert record_key("demo", {"seed": 0, "widths": [32, 64]}) == "a3af550aac2201fb5d71b6b29053f1a7"


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_key_ignores_order_and_survives_the_file(determinants):
    again = dict(reversed(json.loads(json.dumps(determinants)).items()))
    assert record_key("demo", again) == record_key("demo", determinants)


@settings(max_examples=50, deadline=None)
@given(JSON, JSON)
def test_different_values_have_different_keys(a, b):
    same = canonical_json(plain_json(a, "a")) == canonical_json(plain_json(b, "b"))
    assert (record_key("demo", {"x": a}) == record_key("demo", {"x": b})) == same


def test_key_tells_types_and_kinds_apart():
    values = [1, 1.0, True, "1", [1], None]
    assert len({record_key("demo", {"x": value}) for value in values}) == len(values)
    assert record_key("train", {}) != record_key("speed", {})


def test_tuples_enums_and_numpy_scalars_are_their_plain_selves():
    class Norm(StrEnum):
        RMS = "rmsnorm"

    given_ = {"widths": (32, np.int64(64)), "norm": Norm.RMS, "lr": np.float64(0.5), "on": np.bool_(True)}
    plain = {"widths": [32, 64], "norm": "rmsnorm", "lr": 0.5, "on": True}
    assert plain_json(given_, "d") == plain
    assert record_key("demo", given_) == record_key("demo", plain)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"a": {"lr": math.nan}}, "determinants.a.lr is nan"),
        ({"lr": math.inf}, "determinants.lr is inf"),
        ({"x": [0, {1, 2}]}, r"determinants.x\[1\] is of type set"),
        ({"x": Path("a")}, "determinants.x is of type"),
        ({"x": np.zeros(2)}, "determinants.x is of type ndarray"),
        ({"x": {1: 2}}, "determinants.x has the key 1 of type int"),
    ],
)
def test_what_is_not_json_cannot_name_a_cell(value, names):
    with pytest.raises(BenchError, match=names):
        record_key("demo", value)


@pytest.mark.parametrize("kind", ["", "../up", "Train", ".hidden", "a/b", "a b"])
def test_kind_must_be_a_plain_name(kind):
    with pytest.raises(BenchError, match="kind"):
        record_key(kind, {})


# Arrays


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["bool", "uint8", "int64", "float32", ">i4"]),
    st.lists(st.integers(0, 4), max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_packed_arrays_come_back(dtype, shape, seed):
    array = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    packed = pack_array(array)
    assert json.loads(json.dumps(packed)) == packed
    back = unpack_array(packed)
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)
    back[...] = 1  # writable


def test_arrays_of_text_are_refused_and_damage_is_seen():
    with pytest.raises(BenchError, match="numbers"):
        pack_array(np.array(["a"]))
    packed = pack_array(np.arange(6))
    for damaged in ({**packed, "shape": [7]}, {**packed, "zlib64": packed["zlib64"][:-8]}, {"shape": [6]}):
        with pytest.raises(BenchError, match="packed array"):
            unpack_array(damaged)


# Files


def test_a_record_comes_back_whole(tmp_path):
    store, record = RecordStore(tmp_path / "new" / "folder"), demo()
    assert record.key not in store
    assert store.get(record.key) is None
    path = store.put(record)
    assert path == tmp_path / "new" / "folder" / "demo" / f"{record.key}.json"
    assert RecordStore(store.folder).get(record.key) == record
    assert record.key in store
    assert store.all() == store.all("demo") == [record]
    assert store.all("other") == []


def test_opening_and_reading_a_store_writes_nothing(tmp_path):
    store = RecordStore(tmp_path / "absent")
    assert store.all() == []
    assert "0" not in store
    assert not store.folder.exists()


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_any_result_survives_the_file(tmp_path_factory, result):
    record = demo(result=result)
    assert Record.from_text(record.to_text()) == record


def test_results_may_hold_nan_which_becomes_null(tmp_path):
    store = RecordStore(tmp_path)
    store.put(demo(result={"f1": math.nan, "history": [{"loss": math.inf}], "n": np.int64(3)}))
    assert store.all()[0].result == {"f1": None, "history": [{"loss": None}], "n": 3}


def test_an_ok_record_stays_and_a_failed_one_gives_way(tmp_path):
    store = RecordStore(tmp_path)
    store.put(demo(status="failed", reason="diverged"))
    store.put(demo(result={"f1": 0.7}))
    with pytest.raises(BenchError, match="recorded already"):
        store.put(demo(result={"f1": 0.9}))
    assert store.all()[0].result == {"f1": 0.7}


def _damage(text: str, how: str) -> str:
    raw = json.loads(text)
    return {
        "truncated": text[: len(text) // 2],
        "empty": "",
        "another list": "[]",
        "a field missing": json.dumps({k: v for k, v in raw.items() if k != "seconds"}),
        "edited determinants": json.dumps({**raw, "determinants": {"seed": 9}}),
        "unknown status": json.dumps({**raw, "status": "fine"}),
    }[how]


DAMAGES = ["truncated", "empty", "another list", "a field missing", "edited determinants", "unknown status"]


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_named_and_does_not_stop_a_table(tmp_path, how):
    store = RecordStore(tmp_path)
    path, whole = store.put(demo(0)), demo(1)
    store.put(whole)
    path.write_text(_damage(path.read_text(), how))
    with pytest.raises(BenchError, match=rf"{path.name}.*delete it, and its cell is measured again"):
        store.get(demo(0).key)
    assert store.all() == [whole]
    assert list(store.corrupt) == [path]
    assert path.name in store.warnings()[0]
    path.unlink()
    store.put(demo(0))
    assert len(store.all()) == 2
    assert store.warnings() == []


def test_a_renamed_record_and_bytes_that_are_no_text_are_damage(tmp_path):
    store = RecordStore(tmp_path)
    path = store.put(demo())
    path.with_name(f"{'0' * 32}.json").write_bytes(path.read_bytes())
    path.with_name(f"{'1' * 32}.json").write_bytes(b"\xff\xfe{}")
    assert store.all() == [demo()]
    assert sorted(p.stem[0] for p in store.corrupt) == ["0", "1"]


def test_another_schema_is_stale_not_damaged(tmp_path):
    store = RecordStore(tmp_path)
    path = store.put(demo())
    old = json.loads(path.read_text()) | {"schema": 0}
    path.write_text(json.dumps(old))
    for looked_up in (lambda: store.get(path.stem), RecordStore(tmp_path).refuse_outdated):
        with pytest.raises(BenchError, match="records upgrade"):
            looked_up()
    assert store.all() == []
    assert (store.stale, store.corrupt) == ([path], {})
    assert "records upgrade" in store.warnings()[0]


def test_what_a_kill_leaves_is_no_record_and_is_cleared(tmp_path):
    store = RecordStore(tmp_path)
    store.put(demo(0))
    fresh, old = (tmp_path / ".tmp" / f"{c * 32}.json" for c in "ab")
    for left in (fresh, old, tmp_path / "demo" / ".hidden.json"):
        left.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    assert len(store.all()) == 1
    assert store.corrupt == {}
    store.put(demo(1))
    assert fresh.exists()  # may be another process's, being written
    assert not old.exists()


def test_a_write_cut_short_loses_nothing(tmp_path):
    store = RecordStore(tmp_path)
    store.put(demo(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))  # the operating system refuses bytes, as on a full disk
    try:
        with pytest.raises(BenchError, match=r"could not be written .*make room") as caught:
            store.put(demo(1, result={"x": list(range(999))}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert store.all() == [demo(0)]
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_stores_merge_by_copying_files(tmp_path):
    a, b = RecordStore(tmp_path / "a"), RecordStore(tmp_path / "b")
    for seed, stores in ((0, [a]), (1, [a, b]), (2, [b])):
        for store in stores:
            store.put(demo(seed))
    shutil.copytree(b.folder, a.folder, dirs_exist_ok=True)
    assert sorted(r.determinants["seed"] for r in a.all()) == [0, 1, 2]
    assert a.warnings() == []


# Claims


def test_a_claim_is_exclusive_and_given_back(tmp_path):
    store = RecordStore(tmp_path)
    with store.claim("k") as first, store.claim("k") as second, store.claim("other") as other:
        assert (first, second, other) == (True, False, True)
    with pytest.raises(RuntimeError, match="inside"), store.claim("k"):
        raise RuntimeError("inside")
    with store.claim("k") as again:
        assert again


def test_a_folder_that_cannot_be_written_to_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = RecordStore(tmp_path / "file")
    with pytest.raises(BenchError, match=r"file/demo/.*could not be written"):
        store.put(demo())
    with pytest.raises(BenchError, match=r"cannot be made and locked .*can be written to"), store.claim("k"):
        pass
    assert (tmp_path / "file").read_text() == "no folder"


HOLDER = """
import sys, time
from bench.records import RecordStore
with RecordStore(sys.argv[1]).claim("k") as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_frees_its_claim(tmp_path):
    store = RecordStore(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"True\n"
        with store.claim("k") as held:
            assert not held
        holder.kill()
        holder.wait()
    with store.claim("k") as held:
        assert held


CONTENDER = """
import os, sys
from bench.records import RecordStore
store, inside, won = RecordStore(sys.argv[1]), os.path.join(sys.argv[1], "inside"), 0
while won < 100:
    with store.claim("k") as held:
        if held:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # raises if another process is in here
            os.unlink(inside)
            won += 1
"""


def test_claims_of_many_processes_never_overlap(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", CONTENDER, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


# What must not stand in a record


@pytest.fixture
def named_machine(monkeypatch):
    """This machine under a name and a user that could be told."""
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.lab.example")
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe")


@pytest.mark.parametrize(
    "private",
    [
        {"result": {"note": "read /home/jdoe/tiles/a.png"}},
        {"result": {"note": "/data"}},
        {"result": {"files": ["a.png", "~/tiles/b.png"]}},
        {"result": {"note": r"C:\Users\jdoe\tiles"}},
        {"result": {"note": "file:///mnt/tiles"}},
        {"result": {"note": "sqlite:////mnt/x.db"}},
        {"result": {"/mnt/tiles/a.png": 1}},
        {"result": {"note": "measured on node-17"}},
        {"environment": {"machine": "node-17.lab.example"}},
        {"environment": {"Hostname": "x"}},
        {"environment": {"user": "someone"}},
        {"result": {"note": "shared/jdoe/tiles"}},
        {"status": "failed", "reason": "no such file '/mnt/tiles/a.png'"},
    ],
)
def test_records_name_no_place_host_or_user(tmp_path, named_machine, private):
    store = RecordStore(tmp_path)
    with pytest.raises(BenchError, match="may not name the machine"):
        store.put(demo(**private))
    assert store.all() == []


@pytest.mark.parametrize(
    "text",
    [
        "smp/unet-efficientnet_b0",
        "images/s",
        "1/2 or 3 / 4",
        "https://github.com/owner/name",
        "train/images/tile_1.png",
        "timm/jdoe",
        "a ratio of x/y/z",
        "NVIDIA H100 80GB HBM3",
        "Linux-6.1.0-x86_64",
        "loss: 0.5",
    ],
)
def test_ordinary_texts_pass(named_machine, text):
    assert private_parts({"note": text, text: 1}) == []
    assert anonymised(text) == text


def test_packed_bytes_are_no_paths(named_machine):
    packed = {"shape": [1], "dtype": "|u1", "zlib64": "/home/jdoe/"}
    assert private_parts({"matrix": packed}) == []


@pytest.mark.parametrize("host", ["ubuntu", "train", "localhost"])
def test_a_host_called_like_a_word_stops_nothing(monkeypatch, host):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert private_parts({"note": f"{host} 22.04"}) == []


def test_paths_are_cut_to_their_last_name(named_machine):
    assert anonymised("no mask for '/mnt/a b/c d.png' on node-17") == "no mask for 'c d.png' on HOST"
    assert anonymised("the file /mnt/tiles/masks/tile_1.png is damaged") == "the file tile_1.png is damaged"
    assert anonymised(r"C:\Users\jdoe\a.png is damaged") == "a.png is damaged"
    assert anonymised("on node-17.lab.example") == "on HOST"


@settings(max_examples=200, deadline=None)
@given(st.text("/~.ab: '(\\C1-", max_size=24))
def test_what_is_anonymised_may_always_be_recorded(text):
    assert private_parts({"reason": anonymised(text)}) == []


def test_examples_in_the_documentation_run():
    found = doctest.testmod(store_module)
    assert found.attempted > 0
    assert found.failed == 0
