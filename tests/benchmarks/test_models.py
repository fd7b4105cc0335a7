"""Whole networks for one image of 256 px, as built and deployed. (Compiled ones take a minute each: `measure`.)"""

import pytest
import torch
from timing import DEVICE, time_module

import archs
from bench.counting import count_macs
from bench.search.budget import Pricer

NAMES = ("lale-s1", "lale-s2", "lale-b-s1-k7", "lwganet-l0", "lemevit-tiny", "lemore", "smp/linknet-efficientnet_b0")


@pytest.mark.parametrize("form", ["eager", "deployed"])
@pytest.mark.parametrize("name", NAMES)
def test_inference(benchmark, name, form):
    model = archs.create(name).eval()
    model = (archs.deploy(model) if form == "deployed" else model).to(DEVICE)
    time_module(benchmark, model, torch.rand(1, 3, 256, 256, device=DEVICE), rounds=5)


@pytest.mark.parametrize("name", ["lale-s1", "lwganet-l0"])
def test_deploying(benchmark, name):
    benchmark.pedantic(archs.deploy, args=(archs.create(name).eval(),), rounds=3)


@pytest.mark.parametrize("name", ["lale-s1", "lwganet-l0", "smp/linknet-efficientnet_b0"])
def test_counting(benchmark, name):
    model = archs.create(name)
    benchmark.pedantic(lambda: count_macs(model, (256, 256)), rounds=3, warmup_rounds=1)


def test_pricing(benchmark):
    """The closed form, of a config that it has not priced before."""
    config = archs.config("lale-s1")
    benchmark.pedantic(lambda: Pricer((256, 256), 7)(config), rounds=20, warmup_rounds=1)
