"""The golden fill against figures computed elsewhere, and the roles it tells apart."""

import json

import numpy as np
import pytest
import torch
from golden import NETWORKS, PINNED, assert_golden, golden_fill, golden_input, noise, pinned_config, pinned_network
from torch import nn

from bench.records.fingerprint import network_fingerprint


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


FAMILIES = {"lale-s1", "lwganet-l0", "lemevit-tiny", "lemore"}
LABELS = [pytest.param(label, marks=() if label in FAMILIES else (pytest.mark.slow,)) for label in NETWORKS]


@pytest.mark.parametrize("label", LABELS)
def test_a_change_of_function_brings_a_new_revision(label):
    """Records of our networks are told apart by the `revision` of their configs: this is what holds that to be right.

    Where this fails and the change was meant: add one to `revision` of the config class (`revision: ClassVar[int]`),
    and enter the new figures and fingerprint in `tests/data/golden_outputs.json`.
    """
    _, revisions, figures = pinned_network(label)
    pinned = json.loads(PINNED.read_text())[label]
    assert revisions == pinned["revisions"]
    np.testing.assert_allclose(figures, pinned["figures"], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("label", NETWORKS)
def test_fingerprints_stay_what_they_were(label):
    """Another fingerprint makes every record of the network stale: it changes with a new revision, or not at all."""
    assert network_fingerprint(pinned_config(label), 7, 3) == json.loads(PINNED.read_text())[label]["network"]
