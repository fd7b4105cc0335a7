"""Bands: GeoTIFF tiles of any number and type, no-data, what a data set says of its bands; exactness by comparison."""

import builtins
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import RGB, open_data
from bench.data.bands import BandSpec, measure_bands, pictures
from bench.data.check import check_folder
from bench.data.pixels import write_raster
from bench.data.tiling import tile_folder
from bench.errors import BenchError

rasterio = pytest.importorskip("rasterio")

SIDE = 8
SPLITS = {"train": 3, "val": 1, "test": 2}
NAMES = tuple(f"B{i:02d}" for i in range(1, 13))


def pixels(split, index, bands, dtype):
    rng = np.random.default_rng([len(split), index])
    if np.dtype(dtype).kind == "f":
        return rng.normal(280, 15, (SIDE, SIDE, bands)).astype(dtype)
    return rng.integers(0, 4000 if np.dtype(dtype).itemsize > 1 else 256, (SIDE, SIDE, bands)).astype(dtype)


def mask_of(split, index):
    return np.random.default_rng([7, len(split), index]).integers(0, 3, (SIDE, SIDE), np.uint8)


def build(folder, count=12, dtype=np.uint16, change=lambda image: image, **table):
    for split, tiles in SPLITS.items():
        for index in range(tiles):
            image, mask = folder / split / "images" / f"t{index}.tif", folder / split / "masks" / f"t{index}.png"
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_raster(image, change(pixels(split, index, count, dtype)), NAMES[:count])
            Image.fromarray(mask_of(split, index)).save(mask)
    rows = [{"index": i, "name": name, "rgb": [i, 0, 0]} for i, name in enumerate("abc")]
    (folder / "classes.json").write_text(json.dumps({"ignore_index": 255, "classes": rows, **table}))
    return folder


def refusal(folder):
    with pytest.raises(BenchError) as caught:
        open_data(folder)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 4, 12])
def test_tiles_come_out_as_they_were_written(tmp_path, bands, dtype):
    data = open_data(build(tmp_path, bands, dtype, bands=NAMES[:bands]))
    assert data.in_channels == bands and [band.name for band in data.bands] == list(NAMES[:bands])
    for split, count in SPLITS.items():
        assert data[split].images.dtype == dtype
        for index in range(count):
            assert np.array_equal(data[split].images[index], pixels(split, index, bands, dtype))
            assert np.array_equal(data[split].masks[index], mask_of(split, index))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_mean_deviation_and_range_are_those_of_the_training_tiles(tmp_path, dtype):
    data = open_data(build(tmp_path, 5, dtype, bands=NAMES[:5]))
    train = data["train"].images.reshape(-1, 5).astype(float)
    for i, band in enumerate(data.bands):
        low, high = (0, 255) if dtype == np.uint8 else np.quantile(train[:, i], [0.001, 0.999])
        assert (band.low, band.high) == pytest.approx((low, high))
        shares = (train[:, i] - low) / (high - low)
        assert (band.mean, band.deviation) == pytest.approx((shares.mean(), shares.std()))


def test_bands_are_those_of_the_training_tiles_whatever_is_opened_and_wherever_it_lies(tmp_path):
    folder = build(tmp_path / "tiles", 5, bands=NAMES[:5])
    whole, test, mapped = (
        open_data(folder),
        open_data(folder, splits=("test",)),
        open_data(folder, cache=tmp_path / "cache", memory_limit=0),
    )
    again = open_data(folder, cache=tmp_path / "cache", memory_limit=0)
    assert whole.bands == test.bands == mapped.bands == again.bands
    assert whole.fingerprint == mapped.fingerprint and mapped["train"].images.dtype == np.uint16
    assert list((tmp_path / "cache").rglob("bands/*.json"))


def test_rgb_is_normalised_as_imagenet_under_whatever_names(tmp_path):
    assert open_data(build(tmp_path / "a", 3, np.uint8)).bands == RGB
    named = open_data(build(tmp_path / "b", 3, np.uint8, bands=["nir", "red", "green"])).bands
    assert [band.name for band in named] == ["nir", "red", "green"]
    assert [(b.mean, b.deviation, b.low, b.high) for b in named] == [(b.mean, b.deviation, b.low, b.high) for b in RGB]


def test_the_type_of_the_pixels_is_part_of_the_fingerprint(tmp_path):
    zeros = [
        open_data(build(tmp_path / np.dtype(dtype).name, 2, dtype, np.zeros_like, bands=["a", "b"]))
        for dtype in (np.uint8, np.uint16)
    ]
    assert zeros[0].fingerprint != zeros[1].fingerprint


@pytest.mark.parametrize("bands", [4, 5, 6, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_more_bands_than_the_table_names_are_refused_not_cut(tmp_path, bands, dtype):
    text = refusal(build(tmp_path, bands, dtype))
    assert f"has {bands} bands of {np.dtype(dtype).name}, but 3 are expected" in text and '"bands": [' in text
    assert "corrupt" not in text


def test_another_number_of_bands_than_named_and_another_type_midway_are_refused(tmp_path):
    folder = build(tmp_path, 4, bands=NAMES[:5])
    assert "has 4 bands of uint16, but 5 are expected" in refusal(folder)
    build(tmp_path, 4, bands=NAMES[:4])
    write_raster(folder / "test" / "images" / "t1.tif", pixels("test", 1, 4, np.uint8), NAMES[:4])
    assert "t1.tif holds uint8 but the first tile uint16" in refusal(folder)


def test_no_data_and_nan_are_filled_and_have_no_label(tmp_path):
    def holes(image):
        image[2, 3, 1], image[5, 5, 0] = -9999, np.nan
        return image

    specs = [{"name": "t", "nodata": -9999}, {"name": "u", "nodata": -9999, "scale": 0.1}]
    data = open_data(build(tmp_path, 2, np.float32, holes, bands=specs))
    for split, count in SPLITS.items():
        for index in range(count):
            image, mask = pixels(split, index, 2, np.float32), mask_of(split, index)
            seen = np.ones((SIDE, SIDE), bool)
            seen[2, 3] = seen[5, 5] = False
            assert np.array_equal(data[split].masks[index], np.where(seen, mask, 255))
            kept = data[split].images[index]
            assert np.array_equal(kept[seen], image[seen]) and np.isfinite(kept).all()
            others = np.delete(image[..., 1].ravel(), 2 * SIDE + 3)
            assert kept[2, 3, 1] == pytest.approx(others.mean(), rel=1e-5)
    assert data.bands[1].scale == 0.1 and 200 < data.bands[1].low < data.bands[1].high < 400


@pytest.mark.parametrize("nodata", [-9999.9, -3.4e38, -1.7976931348623157e308])
def test_a_no_data_value_that_float32_rounds_is_known(tmp_path, nodata):
    def hole(image):
        with np.errstate(over="ignore"):
            image[2, 3] = np.float32(nodata)
        return image

    specs = [{"name": name, "nodata": nodata} for name in ("t", "u")]
    data = open_data(build(tmp_path, 2, np.float32, hole, bands=specs))
    assert (data["val"].masks[0] == 255).sum() == 1 and data["val"].images.min() > 0


def test_a_dark_pixel_is_no_pixel_without_data(tmp_path):
    def dark(image):
        image[1, 1, 0], image[2, 2] = 0, 0
        return image

    specs = [{"name": name, "nodata": 0} for name in NAMES[:4]]
    data = open_data(build(tmp_path, 4, np.uint16, dark, bands=specs))
    assert data["val"].images[0, 1, 1, 0] == 0 and data["val"].masks[0, 1, 1] == mask_of("val", 0)[1, 1]
    assert data["val"].images[0, 2, 2].min() > 0 and data["val"].masks[0, 2, 2] == 255


def test_a_compression_that_pillow_lacks_is_no_damage(tmp_path):
    folder = build(tmp_path, 3, np.uint8)
    before = open_data(folder).fingerprint
    for path in folder.rglob("images/*.tif"):
        with rasterio.open(path) as source:
            pixels = source.read()
        with rasterio.open(
            path, "w", driver="GTiff", height=SIDE, width=SIDE, count=3, dtype="uint8", compress="lerc"
        ) as target:
            target.write(pixels)
    assert open_data(folder).fingerprint == before


def test_no_data_needs_a_value_for_no_label(tmp_path):
    def hole(image):
        image[0, 0] = np.nan
        return image

    text = refusal(build(tmp_path, 2, np.float32, hole, bands=["t", "u"], ignore_index=None))
    assert "pixels without data" in text and '"ignore_index": 255' in text


def test_grey_and_16_bit_png_are_one_band(tmp_path):
    build(tmp_path, 1, np.uint16, bands=["pan"])
    before = open_data(tmp_path).fingerprint
    for path in tmp_path.rglob("*.tif"):
        with rasterio.open(path) as source:
            Image.fromarray(source.read(1)).save(path.with_suffix(".png"))
        path.unlink()
    assert open_data(tmp_path).fingerprint == before


def test_masks_as_tiff_of_16_bits_are_read(tmp_path):
    build(tmp_path, 3, np.uint8)
    before = open_data(tmp_path).fingerprint
    for path in list(tmp_path.rglob("masks/*.png")):
        with Image.open(path) as mask:
            write_raster(path.with_suffix(".tif"), np.asarray(mask).astype(np.int16)[..., None], ("class",))
        path.unlink()
    assert open_data(tmp_path).fingerprint == before


def test_without_rasterio_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    build(tmp_path, bands=NAMES)
    real = builtins.__import__

    def without(name, *args, **options):
        if name.startswith("rasterio"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'lale-bench[geo]'" in refusal(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged TIFF tags before it gives up
def test_a_damaged_tiff_of_many_bands_is_said_to_be_damaged(tmp_path):
    path = build(tmp_path, bands=NAMES) / "val" / "images" / "t0.tif"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:300] + bytes(200) + whole[500:]):
        path.write_bytes(damaged)
        assert f"{path} is corrupt" in refusal(tmp_path)


def test_large_images_of_many_bands_are_cut_into_tiles_of_them(tmp_path):
    for i in range(3):
        image, mask = tmp_path / "images" / f"s{i}.tif", tmp_path / "masks" / f"s{i}.png"
        for path in (image, mask):
            path.parent.mkdir(exist_ok=True)
        write_raster(image, np.tile(pixels("train", i, 4, np.uint16), (2, 2, 1)), NAMES[:4])
        Image.fromarray(np.tile(mask_of("train", i), (2, 2))).save(mask)
    rows = [{"name": name, "rgb": [i, 0, 0]} for i, name in enumerate("abc")]
    bands = [{"name": name, "scale": 1e-4, "nodata": 65535} for name in NAMES[:4]]
    (tmp_path / "classes.json").write_text(json.dumps({"bands": bands, "classes": rows, "credit": "ESA"}))
    done = tile_folder(tmp_path / "images", tmp_path / "masks", tmp_path / "out", SIDE, split=(0.4, 0.3, 0.3))
    data = open_data(tmp_path / "out")
    assert done.tiles == {"train": 4, "val": 4, "test": 4} and check_folder(tmp_path / "out").ok
    assert [(band.name, band.scale, band.nodata) for band in data.bands] == [(n, 1e-4, 65535) for n in NAMES[:4]]
    assert data.credit == "ESA" and data.scenes_known and len(set(data["train"].scenes)) == 1
    held = {image.tobytes() for part in data.splits.values() for image in part.images}
    assert held == {pixels("train", i, 4, np.uint16).tobytes() for i in range(3)}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), bands=st.integers(1, 6), offset=st.integers(-500, 500), gain=st.integers(1, 50))
def test_a_network_sees_the_same_whatever_the_unit_of_the_values(seed, bands, offset, gain):
    rng = np.random.default_rng(seed)
    plain = rng.normal(0, 1, (2, 6, 6, bands))
    masks = np.zeros((2, 6, 6), np.uint8)
    specs = [BandSpec(str(i)) for i in range(bands)]

    def seen(images):
        found = measure_bands(images, masks, 1, specs)
        low, high, mean, deviation = (
            np.array([getattr(b, k) for b in found]) for k in ("low", "high", "mean", "deviation")
        )
        return ((images - low) / (high - low) - mean) / deviation

    assert np.allclose(seen(plain), seen(plain * gain + offset), atol=1e-6)
    assert np.allclose(seen(plain).mean((0, 1, 2)), 0, atol=1e-9) and np.allclose(seen(plain).std((0, 1, 2)), 1)


def test_pictures_show_red_green_and_blue_wherever_they_stand(tmp_path):
    data = open_data(build(tmp_path, 4, np.uint16, bands=["Blue", "Green", "Red", "nir"]))
    shown = data.pictures(data["test"].images)
    assert shown.dtype == np.uint8 and shown.shape == (2, SIDE, SIDE, 3)
    red = data.bands[2]
    expected = (data["test"].images[..., 2] - red.low) / (red.high - red.low) * 255
    assert np.abs(shown[..., 0] - expected.clip(0, 255)).max() <= 0.5
    rgb = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    assert np.array_equal(pictures(rgb, RGB), rgb)
    assert pictures(rgb[..., :1], RGB[:1]).shape == (2, 4, 4, 3)
