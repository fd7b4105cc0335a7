"""Confusions and scores against scikit-learn, and against the definitions written out pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from bench.errors import BenchError
from bench.training.metrics import boundary_band, boundary_confusion, confusion, scores

CLASSES, IGNORED = 5, 255


def label_maps(values):
    return arrays.arrays(np.uint8, (2, 6, 7), elements=st.sampled_from(values))


predictions = label_maps([0, 1, 2, 3])  # class 4 is never predicted
truths = label_maps([0, 1, 2, 4, IGNORED])  # class 3 is never true


def pixels(pred, truth):
    valid = truth != IGNORED
    return pred[valid], truth[valid]


@settings(max_examples=40, deadline=None)
@given(predictions, truths)
def test_confusion_counts_every_labelled_pixel_once(pred, truth):
    found = confusion(pred, truth, CLASSES, IGNORED)
    expected = np.zeros((2, CLASSES, CLASSES), np.int64)
    for image, row, column in np.ndindex(truth.shape):
        if truth[image, row, column] != IGNORED:
            expected[image, truth[image, row, column], pred[image, row, column]] += 1
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=30, deadline=None)  # scikit-learn takes its time
@given(predictions, truths)
def test_scores_agree_with_scikit_learn(pred, truth):
    p, t = pixels(pred, truth)
    if not len(t):
        return
    found = scores(confusion(pred, truth, CLASSES, IGNORED).sum(axis=0))
    present = sorted(set(t) | set(p))
    options = {"labels": present, "average": None, "zero_division": 0}
    np.testing.assert_allclose(found.f1[present], sk.f1_score(t, p, **options))
    np.testing.assert_allclose(found.iou[present], sk.jaccard_score(t, p, **options))
    assert found.macro_f1 == pytest.approx(sk.f1_score(t, p, labels=present, average="macro", zero_division=0))
    assert found.accuracy == pytest.approx(sk.accuracy_score(t, p))
    assert np.isnan(found.f1).tolist() == [k not in present for k in range(CLASSES)]


@settings(max_examples=40, deadline=None)
@given(predictions, truths)
def test_scores_agree_with_sets_of_pixels(pred, truth):
    found = scores(confusion(pred, truth, CLASSES, IGNORED).sum(axis=0))
    p, t = pixels(pred, truth)
    for k in range(CLASSES):
        guessed, real = set(np.flatnonzero(p == k)), set(np.flatnonzero(t == k))
        if guessed | real:
            assert found.iou[k] == pytest.approx(len(guessed & real) / len(guessed | real))
            assert found.f1[k] == pytest.approx(2 * len(guessed & real) / (len(guessed) + len(real)))
        else:
            assert np.isnan([found.f1[k], found.iou[k]]).all()


def test_a_class_of_neither_truth_nor_prediction_is_left_out():
    found = scores(np.array([[4, 0, 0], [0, 0, 0], [0, 0, 6]]))
    assert found.macro_f1 == found.macro_iou == 1
    assert np.isnan(found.f1).tolist() == [False, True, False]


def test_a_class_of_one_side_only_scores_zero():
    found = scores(np.array([[4, 0, 2], [3, 0, 0], [0, 0, 0]]))  # 1 is never predicted, 2 is never true
    assert found.f1[1] == found.f1[2] == 0
    assert found.macro_f1 == pytest.approx((8 / 13) / 3)


def test_a_matrix_without_pixels_has_no_score():
    found = scores(np.zeros((3, 3), np.int64))
    assert np.isnan([found.macro_f1, found.macro_iou, found.accuracy]).all()
    assert np.isnan(found.f1).all()


def test_the_pooled_score_is_not_the_mean_over_images():
    # One image all right in two classes, one with a single wrong pixel of a third of its truth.
    matrices = np.array([[[90, 0], [0, 10]], [[3, 0], [1, 0]]])
    pooled = scores(matrices.sum(axis=0)).macro_f1
    mean = np.mean([scores(matrix).macro_f1 for matrix in matrices])
    assert pooled == pytest.approx((186 / 187 + 20 / 21) / 2)
    assert mean == pytest.approx((1 + (6 / 7 + 0) / 2) / 2)
    assert pooled - mean > 0.2


def test_counts_beyond_32_bits_do_not_wrap():
    matrix = np.array([[2**40, 2**33], [0, 2**40]])
    assert scores(matrix).accuracy == pytest.approx(2**41 / (2**41 + 2**33))


def test_tensors_and_arrays_count_alike():
    pred, truth = np.random.default_rng(0).integers(0, 4, (2, 3, 8, 8), dtype=np.uint8)
    as_tensors = confusion(torch.tensor(pred), torch.tensor(truth), 4)
    np.testing.assert_array_equal(as_tensors, confusion(pred, truth, 4))


@pytest.mark.parametrize("name", ["prediction", "truth"])
def test_a_value_beyond_the_classes_is_refused(name):
    good, bad = np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 9, np.uint8)
    pair = (bad, good) if name == "prediction" else (good, bad)
    with pytest.raises(BenchError, match=f"{name} holds value 9, but the classes are 0 to 6"):
        confusion(*pair, 7, IGNORED)


def test_a_prediction_of_any_value_may_lie_on_an_ignored_pixel():
    assert confusion(np.full((1, 1, 1), 9, np.uint8), np.full((1, 1, 1), IGNORED, np.uint8), 7, IGNORED).sum() == 0


def test_shapes_that_differ_are_refused():
    with pytest.raises(BenchError, match="must both be"):
        confusion(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8), 2)
    with pytest.raises(BenchError, match="must be square"):
        scores(np.zeros((2, 3), np.int64))


def band_by_definition(truth, reach):
    """Labelled pixels with a labelled pixel of another class at most `reach` rows and columns away."""
    band = np.zeros(truth.shape, bool)
    for image, row, column in np.ndindex(truth.shape):
        around = truth[image, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        own = truth[image, row, column]
        band[image, row, column] = own != IGNORED and bool(((around != own) & (around != IGNORED)).any())
    return band


@settings(max_examples=30, deadline=None)
@given(label_maps([0, 0, 0, 1, 3, IGNORED]), st.sampled_from([0.02, 0.15, 0.3]))
def test_the_boundary_band_is_what_its_words_say(truth, share):
    reach = max(1, round(share * np.hypot(6, 7)))
    found = boundary_band(torch.tensor(truth), IGNORED, share).numpy()
    np.testing.assert_array_equal(found, band_by_definition(truth, reach))


def test_the_band_of_a_straight_boundary_is_two_percent_of_the_diagonal_wide_on_both_sides():
    truth = torch.zeros(1, 256, 256, dtype=torch.uint8)
    truth[:, :, 100:] = 1
    columns = boundary_band(truth)[0].all(dim=0).nonzero().flatten()
    assert columns.tolist() == list(range(100 - 7, 100 + 7))  # 2 % of 362 px is 7.2


def test_neither_ignored_pixels_nor_the_edge_of_the_tile_make_a_boundary():
    truth = torch.full((1, 32, 32), 2, dtype=torch.uint8)
    truth[:, 10:20, 10:20] = IGNORED
    assert not boundary_band(truth, IGNORED).any()
    assert boundary_band(truth, None).any()


def test_boundary_confusion_counts_the_band_only():
    truth = np.zeros((1, 64, 64), np.uint8)
    truth[:, :, 32:] = 1
    pred = np.zeros_like(truth)
    pred[:, :, 31:] = 1
    found = boundary_confusion(pred, truth, 2)
    reach = round(0.02 * np.hypot(64, 64))
    np.testing.assert_array_equal(found[0], np.array([[reach - 1, 1], [0, reach]]) * 64)
