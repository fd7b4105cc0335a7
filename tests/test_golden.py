"""The golden fill against figures computed elsewhere, and the roles it tells apart."""

import numpy as np
import pytest
import torch
from golden import assert_golden, golden_fill, golden_input, noise
from torch import nn


@pytest.mark.parametrize(
    ("salt", "expected"),
    [
        (
            5,
            [
                -0.20885352743789554,
                0.7727567353285849,
                -0.08886512974277139,
                0.6285732621327043,
                0.7485519517213106,
            ],
        ),
        (1009, [-0.4070044537074864, 0.7879672651179135, -0.5129310972988605]),
    ],
)
def test_noise_is_the_published_hash(salt, expected):
    assert noise(len(expected), salt).tolist() == expected


def test_noise_survives_salts_beyond_32_bits():
    h = (1 * 2654435761 + 12_000_000 * 40503) % 2**32
    h ^= h >> 16
    h = h * 2246822519 % 2**32
    h ^= h >> 13
    h = h * 3266489917 % 2**32
    h ^= h >> 16
    assert noise(1, 12_000_000)[0] == h / 2**32 * 2 - 1


def test_fill_tells_roles_apart():
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Linear(8, 2))
    golden_fill(net, gain=0.8, depthwise_gain=0.1)
    dense, depthwise, norm, linear = net
    assert not net.training
    assert dense.weight[0, 0, 0, 0].item() == 0.8 * np.sqrt(3 / 36) * noise(1, 288)[0]
    assert depthwise.weight[0, 0, 0, 0].item() == 0.1 * np.sqrt(3 / 9) * noise(1, 72)[0]
    assert norm.weight[0].item() == 1 + 0.2 * noise(1, 8)[0]
    assert norm.bias[0].item() == dense.bias[0].item() == 0.1 * noise(1, 15)[0]
    assert norm.running_mean[0].item() == 0.1 * noise(1, 21)[0]
    assert norm.running_var[0].item() == 1 + 0.3 * noise(1, 25)[0]
    assert linear.weight[0, 0].item() == 0.8 * np.sqrt(3 / 8) * noise(1, 16)[0]


def test_a_changed_digit_is_noticed():
    x = golden_input((2, 3))
    flat = noise(6, 1009)
    figures = [flat.mean(), np.abs(flat).mean(), np.linalg.norm(flat), flat[0], flat[2], flat[3], flat[5]]
    assert_golden(x, (2, 3), figures)
    with pytest.raises(AssertionError):
        assert_golden(x * (1 + 2e-7), (2, 3), figures)
    with pytest.raises(AssertionError):
        assert_golden(torch.cat([x, x]), (2, 3), figures)
