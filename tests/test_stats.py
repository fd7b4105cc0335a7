"""Pooled scores as in `bench.training.metrics`, and what each scene adds to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.errors import BenchError
from bench.stats import macro_f1, macro_iou, pool_groups, scene_interval, scene_values
from bench.stats.pooled import class_counts, class_f1, class_iou
from bench.training.metrics import scores


def random_runs(seed, runs=3, images=8, classes=4, most=200):
    """Confusion matrices as uneven as real ones: some classes are missing from most images."""
    rng = np.random.default_rng(seed)
    matrices = rng.integers(0, most, (runs, images, classes, classes)) + most * np.eye(classes, dtype=int)
    return list(matrices * rng.integers(0, 2, (1, images, classes, 1)))


# Pooled scores


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.lists(st.integers(0, 6), max_size=3))
def test_vectorised_scores_equal_those_of_the_metrics(seed, classes, missing):
    matrix = np.random.default_rng(seed).integers(0, 50, (classes, classes))
    for k in missing:  # absent from the truth, from the prediction, or from both
        matrix[k % classes] = 0
        if k % 2:
            matrix[:, k % classes] = 0
    expected, counts = scores(matrix), class_counts(matrix)
    np.testing.assert_allclose(class_f1(counts), expected.f1, rtol=1e-12)
    np.testing.assert_allclose(class_iou(counts), expected.iou, rtol=1e-12)
    np.testing.assert_allclose(macro_f1(counts), expected.macro_f1, rtol=1e-12)
    np.testing.assert_allclose(macro_iou(counts), expected.macro_iou, rtol=1e-12)


def test_tiles_pool_by_the_image_they_were_cut_from():
    (run,) = random_runs(1, runs=1, images=5)
    pooled = pool_groups(run, ["b", "a", "b", "c", "a"])
    np.testing.assert_array_equal(pooled, np.stack([run[0] + run[2], run[1] + run[4], run[3]]))
    with pytest.raises(BenchError, match="4 groups of 5 images"):
        pool_groups(run, list("abca"))


# Scenes


def test_pseudo_values_of_a_score_that_is_a_mean_are_the_scenes_own():
    """Of equal scenes, accuracy is the mean of the scenes' accuracies."""
    rng = np.random.default_rng(2)
    hits = rng.integers(20, 80, (2, 6))
    runs = [np.stack([np.array([[h, 100 - h], [0, 0]]) for h in row]) for row in hits]
    accuracy = lambda counts: counts[..., 0, :].sum(-1) / counts[..., 1, :].sum(-1)  # noqa: E731
    values = scene_values(runs, list("aabbcc"), accuracy)
    np.testing.assert_allclose(values, hits.reshape(2, 3, 2).mean(axis=(0, 2)) / 100)


def test_the_order_of_tiles_and_the_names_of_scenes_do_not_matter():
    (run,) = random_runs(3, runs=1, images=6)
    scenes, order = list("aabbcc"), [4, 1, 5, 0, 3, 2]
    moved = scene_values([run[order]], [scenes[i].upper() for i in order])
    np.testing.assert_allclose(sorted(scene_values([run], scenes)), sorted(moved))


def test_scenes_without_a_label_are_no_scenes():
    (run,) = random_runs(3, runs=1, images=6)
    scenes = list("aabbcc")
    padded, named = np.concatenate([run, np.zeros_like(run)]), [*scenes, *"defghi"]
    np.testing.assert_allclose(scene_values([padded], named), scene_values([run], scenes))
    assert scene_interval(padded, named) == pytest.approx(scene_interval(run, scenes))


def test_an_interval_over_scenes_holds_the_score_and_is_wider_than_over_their_tiles():
    """Tiles of a scene are copies of each other, so that there are as many independent images as scenes."""
    (scene_runs,) = random_runs(4, runs=1, images=6)
    tiles = np.repeat(scene_runs, 5, axis=0)
    by_scene = scene_interval(tiles, np.repeat(np.arange(6), 5).astype(str).tolist())
    by_tile = scene_interval(tiles, [str(i) for i in range(30)])
    score = scores(tiles.sum(0)).macro_f1
    assert by_scene[0] < score < by_scene[1]
    assert by_scene[1] - by_scene[0] > 1.8 * (by_tile[1] - by_tile[0])
    assert scene_interval(tiles, ["one"] * 30) is None


def test_an_interval_over_scenes_holds_the_truth_as_often_as_it_says():
    rng, found = np.random.default_rng(5), []
    for _ in range(300):
        hits = np.clip(rng.normal(600, 80, 8), 0, 1000).astype(int)
        run = np.stack([np.array([[h, 1000 - h], [1000 - h, h]]) for h in hits])
        low, high = scene_interval(run, [str(i) for i in range(8)])
        found.append(low <= 0.6 <= high)
    assert stats.binomtest(sum(found), 300, 0.95).pvalue > 0.001
