"""Published data sets in the layouts of their authors, made small, to tile folders that open as they should."""

import csv
import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from bench.cli.app import run
from bench.data import open_data
from bench.data.check import check_folder
from bench.data.classes import read_table
from bench.data.importers import IMPORTERS, import_data
from bench.data.importers.archives import fetch, source_files, unpack
from bench.data.importers.layout import Download
from bench.errors import BenchError, DataWarning

RNG = np.random.default_rng(0)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def labels(classes, shape):
    """Class indices in blocks, every class among them."""
    coarse = RNG.permutation(np.arange((shape[0] // 4) * (shape[1] // 4)) % classes)
    return np.kron(coarse.reshape(shape[0] // 4, shape[1] // 4), np.ones((4, 4), int)).astype(np.uint8)


def image(shape):
    return RNG.integers(0, 256, (*shape, 3), np.uint8)


def coloured(kind, truth, ignored=(0, 0, 0)):
    """The colour mask of class indices; 255 gets the colour of ignored pixels."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: kind.reader.table.classes.num_classes] = kind.reader.table.classes.colours
    palette[255] = ignored
    return palette[truth]


def aras400k(root):
    for split, count in (("train", 4), ("val", 2), ("test", 2), ("synth", 3)):
        for i in range(count):
            truth = labels(7, (16, 16))
            save(root / "ARAS400k" / split / "images" / f"{i}.png", image(truth.shape))
            save(root / "ARAS400k" / split / "masks" / f"{i}.png", coloured(IMPORTERS["aras400k"], truth))
            yield (split, truth) if split != "synth" else None


def dubai(root):
    for tile, shape in enumerate([(40, 32), (32, 48), (36, 36)], start=1):
        for part in (1, 2):
            truth = labels(5, (shape[0] // 4 * 4, shape[1] // 4 * 4))
            truth[:3, :3] = 255
            save(root / f"Tile {tile}" / "images" / f"image_part_00{part}.jpg", image(truth.shape))
            mask = coloured(IMPORTERS["dubai"], truth, (155, 155, 155))
            mask[0, 0] = 0
            save(root / f"Tile {tile}" / "masks" / f"image_part_00{part}.png", mask)
            yield None, truth
    (root / "classes.json").write_text(json.dumps({"classes": [{"title": "Water", "color": "#50E3C2"}]}))


def loveda(root):
    for part, areas in (("Train", 3), ("Val", 1), ("Test", 1)):
        for area in ("Urban", "Rural"):
            for i in range(areas):
                truth = labels(7, (32, 32))
                truth[:2] = 255
                save(root / part / area / "images_png" / f"{i}.png", image(truth.shape))
                if part != "Test":
                    save(root / part / area / "masks_png" / f"{i}.png", truth + np.uint8(1))
                    yield ("test" if part == "Val" else None), truth


def potsdam(root):
    for place in ("2_10", "2_11", "3_10", "6_7", "2_13"):
        truth = labels(6, (32, 48))
        save(root / "2_Ortho_RGB" / f"top_potsdam_{place}_RGB.tif", image(truth.shape))
        save(root / "3_Ortho_IRRG" / f"top_potsdam_{place}_IRRG.tif", image(truth.shape))
        mask = coloured(IMPORTERS["potsdam"], truth)
        if place == "6_7":
            mask[(mask == (255, 255, 0)).all(-1)] = (252, 255, 0)
        save(root / "5_Labels_all" / f"top_potsdam_{place}_label.tif", mask)
        yield ("test" if place == "2_13" else None), truth


def openearthmap(root):
    root = root / "OpenEarthMap_wo_xBD"
    for region in ("aachen", "lima", "kyoto"):
        for i in (1, 2, 3):
            truth = labels(8, (32, 32))
            truth[5, :4] = 255
            save(root / region / "images" / f"{region}_{i}.tif", image(truth.shape))
            if i < 3:
                save(root / region / "labels" / f"{region}_{i}.tif", truth + np.uint8(1))
                yield ("test" if (region, i) in (("lima", 2), ("kyoto", 2)) else None), truth
    (root / "val.txt").write_text("lima_2.tif\nkyoto_2.tif\n")


def deepglobe(root):
    for i in range(5):
        truth = labels(6, (32, 32))
        truth[:4, :4] = 255
        noise = RNG.integers(-40, 41, (*truth.shape, 3))
        mask = (coloured(IMPORTERS["deepglobe"], truth).astype(int) + noise).clip(0, 255).astype(np.uint8)
        mask[31, 31] = (255, 10, 10)  # the edge between two colours: no class
        truth[31, 31] = 255
        save(root / "train" / f"10{i}_sat.jpg", image(truth.shape))
        save(root / "train" / f"10{i}_mask.png", mask)
        yield None, truth
    save(root / "valid" / "900_sat.jpg", image((32, 32)))


LAYOUTS = {
    "aras400k": (aras400k, 16), "dubai": (dubai, 16), "loveda": (loveda, 16), "potsdam": (potsdam, 16),
    "openearthmap": (openearthmap, 16), "deepglobe": (deepglobe, 16),
}  # fmt: skip


def made(kind, tmp_path):
    """A source in the authors' layout, and the split (None: any) and truth of each image that should arrive."""
    layout, size = LAYOUTS[kind]
    truths = [truth for truth in layout(tmp_path / "source") if truth is not None]
    return tmp_path / "source", truths, size


def refusal(kind, source, tmp_path, **options):
    with pytest.raises(BenchError) as caught:
        import_data(IMPORTERS[kind], source, tmp_path / "out", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    return str(caught.value)


def zipped(folder, archive):
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(folder))
    return archive


@pytest.mark.parametrize("kind", LAYOUTS)
class TestEveryKind:
    def test_arrives_with_its_pixels_and_labels(self, kind, tmp_path):
        source, truths, size = made(kind, tmp_path)
        import_data(IMPORTERS[kind], source, tmp_path / "out", size=size)
        data = open_data(tmp_path / "out")
        windows = {
            truth[y : y + 16, x : x + 16].tobytes(): split
            for split, truth in truths
            for y in range(0, truth.shape[0] - 15, 16)
            for x in range(0, truth.shape[1] - 15, 16)
        }
        arrived = {mask.tobytes(): split.name for split in data.splits.values() for mask in split.masks}
        assert arrived.keys() == windows.keys()
        assert all(split in (None, arrived[mask]) for mask, split in windows.items())
        assert data.classes == IMPORTERS[kind].reader.table.classes and data.tile_size == (16, 16)

    def test_the_report_finds_nothing_wrong(self, kind, tmp_path):
        source, _, size = made(kind, tmp_path)
        import_data(IMPORTERS[kind], source, tmp_path / "out", size=size)
        assert [
            problem.text for problem in check_folder(tmp_path / "out").problems if problem.severity == "error"
        ] == []

    def test_tells_scene_credit_and_licence(self, kind, tmp_path):
        source, _, size = made(kind, tmp_path)
        import_data(IMPORTERS[kind], source, tmp_path / "out", size=size)
        table = json.loads((tmp_path / "out" / "classes.json").read_text())
        assert table["licence"] == IMPORTERS[kind].licence
        with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
            rows = {row["name"]: row for row in csv.DictReader(file)}
        data = open_data(tmp_path / "out")
        assert data.credit == IMPORTERS[kind].credit and data.scenes_known
        assert data.gsd_m == IMPORTERS[kind].gsd_m
        for split in data.splits.values():
            assert [rows[tile]["scene"] for tile in split.tiles] == list(split.scenes)

    def test_is_the_same_from_an_archive(self, kind, tmp_path):
        source, _, size = made(kind, tmp_path)
        import_data(IMPORTERS[kind], source, tmp_path / "out", size=size)
        import_data(IMPORTERS[kind], zipped(source, tmp_path / "all.zip"), tmp_path / "again", size=size)
        again, first = open_data(tmp_path / "again"), open_data(tmp_path / "out")
        assert again.fingerprint == first.fingerprint
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_another_source_is_refused_with_the_layout(self, kind, tmp_path):
        (tmp_path / "source").mkdir()
        assert IMPORTERS[kind].layout in refusal(kind, tmp_path / "source", tmp_path)

    def test_a_mask_without_image_is_named(self, kind, tmp_path):
        source, _, size = made(kind, tmp_path)
        image = next(
            path
            for path in sorted(source.rglob("*"))
            if re.search(r"(images|images_png)/[^/]+$|_sat.jpg$|2_10_RGB.tif$", path.as_posix())
            and not re.search("Test|synth", path.as_posix())
        )
        image.unlink()
        if kind == "openearthmap":  # its archive lacks the images of the regions of xBD
            with pytest.warns(DataWarning, match="1 of 6 masks have no image in the source"):
                assert sum(import_data(IMPORTERS[kind], source, tmp_path / "out", size=size).sources.values()) == 5
        else:
            assert "lack the image or mask" in refusal(kind, source, tmp_path, size=size)

    def test_what_it_wrote_is_a_class_table(self, kind, tmp_path):
        source, _, size = made(kind, tmp_path)
        import_data(IMPORTERS[kind], source, tmp_path / "out", size=size)
        assert read_table(tmp_path / "out" / "classes.json").classes.names == IMPORTERS[kind].reader.table.classes.names


class TestQuirks:
    def test_potsdam_with_the_labels_for_participants_beside_all(self, tmp_path):
        source, _, size = made("potsdam", tmp_path)
        label = source / "5_Labels_all" / "top_potsdam_2_10_label.tif"
        (source / "5_Labels_for_participants").mkdir()
        again = source / "5_Labels_for_participants" / label.name
        again.write_bytes(label.read_bytes())
        assert sum(import_data(IMPORTERS["potsdam"], source, tmp_path / "one", size=size).sources.values()) == 5
        again.write_bytes(label.read_bytes() + b"more")
        assert "are two files of one tile" in refusal("potsdam", source, tmp_path, size=size)

    @pytest.mark.parametrize("kind", ["gz", "xz"])
    def test_a_damaged_end_of_a_tar_file_is_noticed(self, tmp_path, kind):
        content = RNG.integers(0, 256, 1 << 16, np.uint8).tobytes()
        with tarfile.open(tmp_path / f"a.tar.{kind}", f"w:{kind}") as archive:
            info = tarfile.TarInfo("a.tif")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        whole = bytearray((tmp_path / f"a.tar.{kind}").read_bytes())
        whole[1 << 15] ^= 1
        (tmp_path / f"a.tar.{kind}").write_bytes(whole)
        with pytest.raises(BenchError, match="is damaged"):
            unpack(tmp_path / f"a.tar.{kind}", tmp_path / "into")

    def test_scenes_of_dubai_stay_whole(self, tmp_path):
        source, _, size = made("dubai", tmp_path)
        import_data(IMPORTERS["dubai"], source, tmp_path / "out", size=size)
        data = open_data(tmp_path / "out")
        scenes = [set(split.scenes) for split in data.splits.values()]
        assert sorted(scenes, key=str) == [{"t1"}, {"t2"}, {"t3"}]

    def test_regions_of_openearthmap_are_scenes_and_shared_ones_are_told(self, tmp_path):
        source, _, size = made("openearthmap", tmp_path)
        import_data(IMPORTERS["openearthmap"], source, tmp_path / "out", size=size)
        data = open_data(tmp_path / "out")
        assert set(data["test"].scenes) == {"kyoto", "lima"}
        assert not set(data["train"].scenes) & set(data["val"].scenes)
        assert "test scenes are in train too" in data.scope  # two of the three regions are in train

    def test_eroded_labels_of_potsdam_are_another_kind(self, tmp_path):
        source, _, size = made("potsdam", tmp_path)
        for path in sorted(source.glob("5_Labels_all/*")):
            path.rename(path.with_name(path.name.replace("_label", "_label_noBoundary")))
        assert "top_potsdam_R_C_label.tif" in refusal("potsdam", source, tmp_path, size=size)
        import_data(IMPORTERS["potsdam-eroded"], source, tmp_path / "out", size=size)
        assert open_data(tmp_path / "out").name == "potsdam-eroded"

    def test_a_folder_of_archives_inside_an_archive_is_read(self, tmp_path):
        source, _, size = made("potsdam", tmp_path)
        (tmp_path / "parts" / "Potsdam").mkdir(parents=True)
        for folder in sorted(source.iterdir()):
            zipped(folder, tmp_path / "parts" / "Potsdam" / f"{folder.name}.zip")
        archive = zipped(tmp_path / "parts", tmp_path / "Potsdam.zip")
        assert sum(import_data(IMPORTERS["potsdam"], archive, tmp_path / "out", size=size).sources.values()) == 5

    def test_names_that_splits_share_are_told_apart(self, tmp_path):
        source, _, _ = made("aras400k", tmp_path)
        import_data(IMPORTERS["aras400k"], source, tmp_path / "out")
        tiles = [tile for split in open_data(tmp_path / "out").splits.values() for tile in split.tiles]
        assert len(set(tiles)) == len(tiles) == 8 and "val_1" in tiles and "2" in tiles

    @pytest.mark.parametrize(
        ("kind", "stored", "complaint"),
        [
            ("loveda", np.full((32, 32), 8, np.uint8), "holds the value 8"),
            ("loveda", np.full((32, 32, 3), (255, 0, 1), np.uint8), "(255, 0, 1)"),
            ("deepglobe", np.full((32, 32, 3), (255, 0, 0), np.uint8), "100.0 % of its pixels"),
            ("deepglobe", np.zeros((32, 32), np.uint8), "no colour mask"),
            ("dubai", np.full((32, 48, 3), 7, np.uint8), "(7, 7, 7)"),
            ("aras400k", np.full((16, 16, 3), 7, np.uint8), "(7, 7, 7)"),
        ],
    )
    def test_a_mask_of_another_kind_is_named(self, kind, stored, complaint, tmp_path):
        source, _, size = made(kind, tmp_path)
        mask = max(p for p in source.rglob("*.png") if "mask" in p.as_posix() and "synth" not in p.as_posix())
        save(mask, stored)
        said = refusal(kind, source, tmp_path, size=size)
        assert complaint in said and mask.name in said

    def test_too_few_scenes_for_the_splits_are_refused(self, tmp_path):
        source, _, size = made("dubai", tmp_path)
        for path in sorted(source.glob("Tile 1/*/*")) + sorted(source.glob("Tile 2/*/*")):
            path.unlink()
        assert "1 scenes for the splits train, val, test" in refusal("dubai", source, tmp_path, size=size)

    def test_a_source_that_lacks_a_split_is_refused(self, tmp_path):
        source, _, size = made("loveda", tmp_path)
        assert "nothing for the split test" in refusal("loveda", source / "Train", tmp_path, size=size)


def tar_with(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w") as opened:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
        opened.addfile(info, io.BytesIO(b"x"))
    return path


def zip_with(path, name, mode=0o100644):
    with zipfile.ZipFile(path, "w") as opened:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        opened.writestr(info, b"x")
    return path


class TestArchives:
    @pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/tmp/out.png", "..\\out.png", "C:/out.png"])
    @pytest.mark.parametrize("make", [tar_with, zip_with])
    def test_nothing_is_written_outside_the_folder(self, make, name, tmp_path):
        archive = make(tmp_path / ("a.tar" if make is tar_with else "a.zip"), name)
        with pytest.raises(BenchError, match="outside the folder"):
            unpack(archive, tmp_path / "deep" / "into")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_links_and_devices_of_a_tar_are_refused(self, kind, tmp_path):
        with pytest.raises(BenchError, match="no plain file"):
            unpack(tar_with(tmp_path / "a.tar", "link.png", kind), tmp_path / "into")

    def test_links_of_a_zip_are_refused(self, tmp_path):
        with pytest.raises(BenchError, match="is a link"):
            unpack(zip_with(tmp_path / "a.zip", "link.png", 0o120777), tmp_path / "into")

    def test_only_images_tables_and_texts_are_unpacked(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
            for name in ("a/1.png", "a/run.py", "__MACOSX/a/1.png", "a/._1.png", "a/model.pkl", "a/Thumbs.db"):
                opened.writestr(name, b"x")
        files = source_files(tmp_path / "a.zip", tmp_path / "scratch")
        assert [path.name for path in files] == ["1.png"]
        assert [path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == ["1.png"]

    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
    def test_a_damaged_archive_is_named(self, name, tmp_path):
        (tmp_path / name).write_bytes(b"PK\x03\x04 no archive" * 100)
        with pytest.raises(BenchError, match=f"{name} is damaged"):
            source_files(tmp_path / name, tmp_path / "scratch")

    def test_a_cut_off_archive_is_named(self, tmp_path):
        source, _, _ = made("aras400k", tmp_path)
        with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as opened:
            opened.add(source, "ARAS400k")
        whole = (tmp_path / "whole.tar.gz").read_bytes()
        (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
        assert "cut.tar.gz is damaged" in refusal("aras400k", tmp_path / "cut.tar.gz", tmp_path)

    def test_what_is_neither_folder_nor_archive_is_refused(self, tmp_path):
        (tmp_path / "a.rar").write_bytes(b"x")
        with pytest.raises(BenchError, match="neither a folder nor an archive"):
            source_files(tmp_path / "a.rar", tmp_path / "scratch")
        with pytest.raises(BenchError, match="does not exist"):
            source_files(tmp_path / "none.zip", tmp_path / "scratch")


class Server(ThreadingHTTPServer):
    """Serves `content` under any path; gives up after `limit` bytes of an answer, if there is a limit."""

    def __init__(self, content, ranges=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.limit, self.asked = content, ranges, None, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served = self.server
        asked = self.headers.get("Range")
        served.asked.append((self.path, asked))
        first = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) if asked and served.ranges else 0
        if first and first >= len(served.content):
            return self.send_error(416)
        self.send_response(206 if asked and served.ranges else 200)
        body = served.content[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: served.limit])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function that serves bytes on this machine."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    running = []

    def start(content, **options):
        server = Server(content, **options)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


CONTENT = RNG.bytes(3_000_000)


def offered(server, content=CONTENT):
    return Download(f"{server.url}/files/set.zip?download=1", hashlib.md5(content).hexdigest())


class TestDownload:
    def test_a_file_arrives_whole_and_is_not_fetched_again(self, serve, tmp_path):
        server, told = serve(CONTENT), []
        for _ in range(2):
            path = fetch(offered(server), tmp_path / "new", lambda *now: told.append(now))
        assert path == tmp_path / "new" / "set.zip" and path.read_bytes() == CONTENT
        assert len(server.asked) == 1 and told[-1] == (len(CONTENT), len(CONTENT))
        assert [file.name for file in path.parent.iterdir()] == ["set.zip"]

    def test_a_lost_connection_keeps_what_came_and_goes_on_there(self, serve, tmp_path):
        server = serve(CONTENT)
        server.limit = 1_000_000
        with pytest.raises(BenchError, match=r"1000000 bytes are kept in .*set.zip.part: the same command goes on"):
            fetch(offered(server), tmp_path)
        server.limit = None
        assert fetch(offered(server), tmp_path).read_bytes() == CONTENT
        assert [asked for _, asked in server.asked] == [None, "bytes=1000000-"]

    def test_a_server_that_cannot_go_on_sends_all_again(self, serve, tmp_path):
        (tmp_path / "set.zip.part").write_bytes(b"x" * 1000)
        assert fetch(offered(serve(CONTENT, ranges=False)), tmp_path).read_bytes() == CONTENT

    def test_a_part_that_was_whole_is_only_checked(self, serve, tmp_path):
        (tmp_path / "set.zip.part").write_bytes(CONTENT)
        assert fetch(offered(serve(CONTENT)), tmp_path).read_bytes() == CONTENT

    def test_another_checksum_is_refused_and_the_part_removed(self, serve, tmp_path):
        with pytest.raises(BenchError, match="has the MD5 sum"):
            fetch(offered(serve(CONTENT[:-1] + b"?")), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_file_that_is_there_is_not_overwritten(self, serve, tmp_path):
        (tmp_path / "set.zip").write_bytes(b"mine")
        with pytest.raises(BenchError, match="remove it and fetch it again"):
            fetch(offered(serve(CONTENT)), tmp_path)
        assert (tmp_path / "set.zip").read_bytes() == b"mine"

    def test_an_address_that_nothing_serves_is_a_sentence(self, tmp_path, monkeypatch):
        monkeypatch.setenv("no_proxy", "*")
        with pytest.raises(BenchError, match=r"could not be fetched .*; nothing was fetched"):
            fetch(Download("http://127.0.0.1:9/set.zip", "0" * 32), tmp_path)


class TestCommands:
    def test_import_tells_tiles_masks_and_licence(self, tmp_path, capsys):
        source, _, _ = made("loveda", tmp_path)
        assert run(["data", "import", "loveda", str(source), str(tmp_path / "out"), "--size", "16"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "8 test" in said and "CC BY-NC-SA 4.0" in said and "0 (no data)" in said

    def test_get_fetches_every_archive_from_a_mirror_and_import_takes_the_folder(
        self, serve, tmp_path, monkeypatch, capsys
    ):
        source, _, _ = made("aras400k", tmp_path)
        archive = zipped(source, tmp_path / "all.zip").read_bytes()
        server = serve(archive)
        offered = Download("https://example.org/files/train.zip", hashlib.md5(archive).hexdigest())
        monkeypatch.setitem(IMPORTERS, "aras400k", replace(IMPORTERS["aras400k"], downloads=(offered,)))
        assert run(["data", "get", "aras400k", str(tmp_path / "got"), "--mirror", f"{server.url}/copy/"]) == 0
        assert server.asked == [("/copy/train.zip", None)]
        assert run(["data", "import", "aras400k", str(tmp_path / "got"), str(tmp_path / "out")]) == 0
        assert len(open_data(tmp_path / "out")["train"]) == 4

    @pytest.mark.parametrize("arguments", [["import", "mars", "a", "b"], ["get", "mars", "a"]])
    def test_another_kind_is_refused_with_those_there_are(self, arguments, capsys):
        assert run(["data", *arguments]) == 1
        assert "there are aras400k, deepglobe" in capsys.readouterr().err

    def test_a_set_without_plain_download_says_so(self, tmp_path, capsys):
        assert run(["data", "get", "potsdam", str(tmp_path)]) == 1
        assert "no plain download" in capsys.readouterr().err
