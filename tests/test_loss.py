"""The soft Dice of the recipe: by hand, against another implementation, and where it could divide by zero."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bench.training.loop import cross_entropy, dice_loss, make_loss
from bench.training.recipe import Recipe

IGNORED = 255


def batch(seed, classes=4, used=(0, 1, 2), ignored=0.2):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 5, 6, generator=rng)
    truth = torch.tensor(used)[torch.randint(len(used), (2, 5, 6), generator=rng)].to(torch.uint8)
    truth[torch.rand(2, 5, 6, generator=rng) < ignored] = IGNORED
    return logits, truth


def test_dice_by_hand():
    # Two pixels of two classes with probabilities (0.75, 0.25) and (0.4, 0.6); truth 0 and 1.
    probability = torch.tensor([[0.75, 0.4], [0.25, 0.6]]).view(1, 2, 1, 2)
    truth = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    expected = ((1 - 2 * 0.75 / (1.15 + 1)) + (1 - 2 * 0.6 / (0.85 + 1))) / 2
    assert dice_loss(probability.log(), truth).item() == pytest.approx(expected, abs=1e-6)


def test_dice_pools_the_pixels_of_the_batch_and_not_image_by_image():
    probability = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]]).view(2, 2, 1, 1)  # one pixel an image
    truth = torch.tensor([0, 0], dtype=torch.uint8).view(2, 1, 1)
    expected = (1 - 2 * 1.1 / (1.1 + 2)) / 2  # class 1 is absent: it adds nothing, and the mean is over both
    assert dice_loss(probability.log(), truth).item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(0,), (1, 3), (0, 1, 2, 3)]))
def test_dice_equals_the_library_of_the_authors_script(seed, used):
    from segmentation_models_pytorch.losses import DiceLoss

    logits, truth = batch(seed, used=used)
    expected = DiceLoss("multiclass", ignore_index=IGNORED)(logits, truth.long())
    torch.testing.assert_close(dice_loss(logits, truth, IGNORED), expected)


@pytest.mark.parametrize("term", [dice_loss, cross_entropy])
def test_ignored_pixels_change_neither_loss_nor_gradient(term):
    logits, truth = batch(3)
    logits.requires_grad_()
    term(logits, truth, IGNORED).backward()
    assert logits.grad.abs().sum() > 0
    assert not logits.grad.permute(0, 2, 3, 1)[truth == IGNORED].any()
    shaken = torch.where((truth == IGNORED).unsqueeze(1), 50.0, logits.detach())
    torch.testing.assert_close(term(shaken, truth, IGNORED), term(logits.detach(), truth, IGNORED))


@pytest.mark.parametrize("term", [dice_loss, cross_entropy])
def test_a_batch_of_ignored_pixels_has_loss_zero_and_a_finite_gradient(term):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = term(logits, torch.full((1, 4, 4), IGNORED, dtype=torch.uint8), IGNORED)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_gradients_are_finite_where_probabilities_underflow():
    logits = torch.full((1, 3, 2, 2), -300.0)
    logits[:, 0] = 300.0
    logits.requires_grad_()
    loss = dice_loss(logits, torch.ones(1, 2, 2, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == pytest.approx(1 / 3)
    assert torch.isfinite(logits.grad).all()


def test_dice_gradient_agrees_with_finite_differences():
    logits, truth = batch(7)
    small, truth = logits.double()[:1, :, :2, :3].requires_grad_(), truth[:1, :2, :3]
    # The loss works in float32, so the differences are taken of the same formula in float64.
    p, hit = small.softmax(1), functional.one_hot(truth.long().clamp(max=3), 4).permute(0, 3, 1, 2)
    valid = (truth != IGNORED).unsqueeze(1)
    overlap = (p * hit * valid).sum((0, 2, 3))
    size = (p * valid).sum((0, 2, 3)) + (hit * valid).sum((0, 2, 3))
    present = (hit * valid).sum((0, 2, 3)) > 0
    expected = ((1 - 2 * overlap / size) * present).sum() / 4
    (wanted,) = torch.autograd.grad(expected, small)
    (found,) = torch.autograd.grad(dice_loss(small, truth, IGNORED), small)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_low_precision_logits_are_summed_in_float32():
    logits, truth = batch(5)
    assert dice_loss(logits.bfloat16(), truth, IGNORED).dtype == torch.float32


def test_a_sum_of_losses_is_their_sum():
    logits, truth = batch(9)
    both = make_loss(Recipe(loss="dice+ce"), IGNORED)(logits, truth)
    parts = [make_loss(Recipe(loss=name), IGNORED)(logits, truth) for name in ("dice", "ce")]
    torch.testing.assert_close(both, sum(parts))
    torch.testing.assert_close(parts[1], functional.cross_entropy(logits, truth.long(), ignore_index=IGNORED))
