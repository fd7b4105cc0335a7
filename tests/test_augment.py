"""Augmentation: masks move with their images, chance comes from the generator alone, strengths mean what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.bands import Band
from bench.errors import BenchError
from bench.training.augment import augment, draw, move, normalise, relight
from bench.training.recipe import Recipe
from bench.training.tiles import batch_indices, derive_seed, generator, seed_everything

STILL = Recipe(flip_horizontal=0, flip_vertical=0, quarter_turn=0, brightness_contrast=0)


def numbered(count, height, width):
    """Masks of random values and images whose pixel holds (mask, row, column): each says where it came from."""
    masks = torch.randint(256, (count, height, width), dtype=torch.uint8, generator=generator(0, "test"))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows, columns], dim=-1).to(torch.uint8).expand(count, -1, -1, -1)
    return torch.cat([masks.unsqueeze(-1), place], dim=-1), masks


sizes = st.tuples(st.integers(1, 6), st.integers(2, 9), st.integers(2, 9))


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 1000), st.booleans())
def test_a_mask_moves_with_its_image(size, seed, cropped):
    images, masks = numbered(*size)
    recipe = Recipe(crop=min(size[1:]) if cropped else None)
    moved, truth = move(images, masks, draw(recipe, *size, generator(seed, "test")))
    assert torch.equal(moved[..., 0], truth)
    for tile, (old, new) in enumerate(zip(masks, moved.long(), strict=True)):
        assert torch.equal(old[new[..., 1], new[..., 2]], truth[tile])  # every pixel is the one it says it is
        places = new[..., 1] * size[2] + new[..., 2]
        assert len(places.unique()) == places.numel()  # none twice, so whole tiles lose nothing


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_a_square_tile_is_moved_by_one_of_the_eight_symmetries_and_all_occur(seed):
    images, masks = numbered(64, 5, 5)
    _, moved = move(images, masks, draw(Recipe(quarter_turn=1.0), 64, 5, 5, generator(seed, "test")))
    seen = set()
    for old, new in zip(masks.numpy(), moved.numpy(), strict=True):
        symmetries = [np.rot90(f, k) for f in (old, old[::-1]) for k in range(4)]
        found = [number for number, tile in enumerate(symmetries) if np.array_equal(tile, new)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) >= 6  # of 8, each missing from 64 draws with probability 0.0002


def test_quarter_turns_are_turns_and_not_reflections():
    recipe = replace(STILL, quarter_turn=1.0)
    images, masks = numbered(40, 6, 6)
    _, moved = move(images, masks, draw(recipe, 40, 6, 6, generator(1, "test")))
    turns = set()
    for old, new in zip(masks, moved, strict=True):
        matching = [k for k in range(4) if torch.equal(torch.rot90(old, k), new)]
        assert matching
        turns.update(matching)
    assert turns == {0, 1, 2, 3}


def test_a_tile_that_is_not_square_makes_half_turns_only():
    recipe = replace(STILL, quarter_turn=1.0)
    images, masks = numbered(40, 4, 7)
    _, moved = move(images, masks, draw(recipe, 40, 4, 7, generator(1, "test")))
    turned = [torch.equal(torch.rot90(old, 2), new) for old, new in zip(masks, moved, strict=True)]
    kept = [torch.equal(old, new) for old, new in zip(masks, moved, strict=True)]
    assert all(a or b for a, b in zip(turned, kept, strict=True))
    assert any(turned)
    assert any(kept)


@pytest.mark.parametrize(
    ("field", "change"),
    [("flip_horizontal", lambda mask: mask.flip(1)), ("flip_vertical", lambda mask: mask.flip(0))],
)
def test_a_flip_of_probability_one_always_happens(field, change):
    images, masks = numbered(5, 4, 4)
    _, moved = move(images, masks, draw(replace(STILL, **{field: 1.0}), 5, 4, 4, generator(2, "test")))
    assert all(torch.equal(change(old), new) for old, new in zip(masks, moved, strict=True))


def test_without_strengths_nothing_happens():
    images, masks = numbered(5, 4, 6)
    batch, moved = augment(images, masks, STILL, generator(3, "test"))
    assert torch.equal(moved, masks)
    torch.testing.assert_close(batch, normalise(images))


def test_every_crop_position_can_occur():
    images, masks = numbered(200, 5, 6)
    moved, _ = move(images, masks, draw(replace(STILL, crop=4), 200, 5, 6, generator(4, "test")))
    corners = {(int(tile[0, 0, 1]), int(tile[0, 0, 2])) for tile in moved}
    assert corners == {(row, column) for row in range(2) for column in range(3)}


def test_a_crop_larger_than_the_tile_is_refused():
    with pytest.raises(BenchError, match="crop is 9 px, which does not fit tiles of 8 x 12 px"):
        draw(Recipe(crop=9), 1, 8, 12, generator(0, "test"))


def test_brightness_and_contrast_stay_within_their_limits_and_the_byte():
    recipe = replace(STILL, brightness_contrast=1.0, brightness_limit=0.2, contrast_limit=0.3)
    draws = draw(recipe, 500, 2, 2, generator(5, "test"))
    assert 0.7 <= draws.contrast.min() < 0.73
    assert 1.27 < draws.contrast.max() <= 1.3
    assert -0.2 <= draws.brightness.min() < -0.18
    assert 0.18 < draws.brightness.max() <= 0.2
    images = torch.randint(256, (500, 2, 2, 3), dtype=torch.uint8, generator=generator(6, "test"))
    lit = relight(images, draws)
    assert lit.min() >= 0
    assert lit.max() <= 255
    tile = 17
    expected = (images[tile].double() * draws.contrast[tile] + 255 * draws.brightness[tile]).clamp(0, 255)
    torch.testing.assert_close(lit[tile], expected.float())


BANDS = (
    Band("near infrared", 0.4, 0.2, 100, 4100, scale=1e-4),
    Band("height", 0.1, 0.5, -20.0, 380.0),
)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_other_bands_are_lit_within_their_own_range_and_normalised_by_their_own_figures(kind):
    rng = np.random.default_rng(0)
    low, high = (100, 4100) if kind is np.uint16 else (-20, 380)
    images = torch.from_numpy(rng.uniform(max(low, 0), high, (50, 3, 3, 2)).astype(kind))
    draws = draw(replace(STILL, brightness_contrast=1.0), 50, 3, 3, generator(5, "test"))
    lit, _ = augment(images, torch.zeros(50, 3, 3, dtype=torch.uint8), STILL, generator(5, "test"), BANDS)
    for i, band in enumerate(BANDS):
        span, above = band.high - band.low, images[..., i].double() - band.low
        expected = above * draws.contrast.view(-1, 1, 1) + span * draws.brightness.view(-1, 1, 1)
        clipped = expected.clamp(min(0, above.min().item()), max(span, above.max().item()))
        torch.testing.assert_close(relight(images, draws, BANDS)[..., i].double(), clipped, rtol=1e-5, atol=1e-2)
        still = (above / span - band.mean) / band.deviation
        torch.testing.assert_close(lit[:, i].double(), still, rtol=1e-5, atol=1e-5)  # nothing drawn, nothing clipped


def test_brightness_and_contrast_touch_as_many_tiles_as_their_probability():
    draws = draw(replace(STILL, brightness_contrast=0.3), 2000, 2, 2, generator(7, "test"))
    assert ((draws.contrast != 1) | (draws.brightness != 0)).float().mean() == pytest.approx(0.3, abs=0.04)


def test_normalise_uses_the_imagenet_mean_and_deviation():
    pixel = torch.tensor([255, 0, 102], dtype=torch.uint8).view(1, 1, 1, 3)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.4 - 0.406) / 0.225]
    assert normalise(pixel).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_the_same_seed_and_step_give_the_same_batch_and_others_do_not():
    images, masks = numbered(6, 8, 8)

    def made(seed, step):
        return augment(images, masks, Recipe(), generator(seed, "augment", step))[0]

    assert torch.equal(made(1, 5), made(1, 5))
    assert not torch.equal(made(1, 5), made(1, 6))
    assert not torch.equal(made(1, 5), made(2, 5))


def test_changing_one_strength_changes_nothing_else():
    plain = draw(Recipe(), 50, 8, 8, generator(8, "test"))
    lit = draw(Recipe(brightness_contrast=1.0), 50, 8, 8, generator(8, "test"))
    assert torch.equal(plain.flip_rows, lit.flip_rows)
    assert torch.equal(plain.turned, lit.turned)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 24), st.integers(0, 99))
def test_every_epoch_holds_every_tile_once_in_an_order_of_its_own(count, batch, seed):
    steps = -(-3 * count // batch)
    row = torch.cat([batch_indices(seed, step, batch, count) for step in range(steps)])
    assert len(row) == steps * batch
    epochs = row[: 3 * count].view(3, count)
    assert all(torch.equal(epoch.sort().values, torch.arange(count)) for epoch in epochs)
    if count > 20:
        assert not torch.equal(epochs[0], epochs[1])


def test_near_seeds_and_other_purposes_share_nothing():
    seeds = {derive_seed(seed, purpose, step) for seed in range(20) for purpose in "ab" for step in range(20)}
    assert len(seeds) == 800


def test_seed_everything_sets_every_generator():
    import random

    def drawn(seed):
        seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert drawn(1) == drawn(1)
    assert all(a != b for a, b in zip(drawn(1), drawn(2), strict=True))
