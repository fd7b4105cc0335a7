"""Costs are exact before training, and what is proposed always keeps the budget."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from search_formula import ALL, S1, points

import archs
from archs import ArchError
from bench.errors import BenchError
from bench.search.budget import Budget, Pricer, StaticCost
from bench.search.feasible import FeasibleSpace
from bench.search.space import Dimension, Space
from bench.search.spaces import space_of

WHOLE = space_of(S1, ALL)
DEFAULT = space_of(S1)
PRICE = Pricer((64, 64), num_classes=7)


@given(
    points(WHOLE),
    st.tuples(st.integers(16, 80), st.integers(16, 80)),
    st.integers(2, 9),
    st.integers(1, 4),
)
@settings(max_examples=8, deadline=None)
def test_the_closed_form_equals_the_counter(params, size, num_classes, in_channels):
    config, pricer = WHOLE.config(params), Pricer(size, num_classes, in_channels)
    found, counted = pricer(config), pricer.count(config)
    assert (found, found.deployed_macs) == (counted, counted.deployed_macs)


def test_published_costs():
    cost = Pricer((256, 256), 7)(archs.config("lale-s2"))
    assert (cost.params, cost.macs) == (2_612_333, 766_509_056)
    assert Pricer((256, 256), 7)(S1).deployed_macs == 307_888_128


def test_a_search_prices_thousands_without_building_one(monkeypatch):
    """What has a closed form is built only for the figures that it leaves out."""
    monkeypatch.setattr(type(S1), "build", None)
    cost = Pricer((64, 64), 7)(S1)
    assert Budget(max_gmacs=1, max_params=2e6, max_deployed_gmacs=1).broken(cost) == []
    with pytest.raises(TypeError):
        _ = cost.mib


def test_deployed_macs_and_activations_are_budgets_too():
    cost = PRICE(S1)
    assert Budget(max_deployed_gmacs=cost.deployed_macs / 1e9, max_activations=cost.activations).broken(cost) == []
    tight = Budget(max_deployed_gmacs=cost.deployed_macs / 1e9 * 0.99, max_activations=cost.activations - 1)
    assert tight.broken(cost) == ["max_deployed_gmacs", "max_activations"]


def test_a_family_without_closed_form_is_counted():
    cost = Pricer((64, 64), 7)(archs.config("smp/linknet-efficientnet_b0"))
    assert cost.params == 4_167_367 and cost.macs == cost.deployed_macs > 0  # its batch norms fold without a MAC less
    assert cost.activations > 0


@pytest.mark.parametrize("limits", [{"max_gmacs": 0}, {"max_params": -1}, {"max_mib": float("nan")}])
def test_limits_are_above_zero(limits):
    name = next(iter(limits)).replace("_", "-")
    with pytest.raises(BenchError, match=f"--{name} .* is no limit"):
        Budget(**limits)


def test_which_limits_break():
    budget = Budget(max_gmacs=1, max_params=100, max_latency_ms=5)
    assert budget.broken(StaticCost(100, 10**9, {"mib": lambda: 9})) == []  # a limit may be met exactly
    assert budget.broken(StaticCost(101, 10**9 + 1), latency_ms=6) == [
        "max_gmacs", "max_params", "max_latency_ms",
    ]  # fmt: skip


@st.composite
def budgets(draw):
    """Budgets that the middle of the space breaks, each limit met by some config."""
    tight = draw(st.sampled_from([0.3, 0.6, 1.0, 2.0]))
    cost = PRICE(S1)
    return Budget(
        max_gmacs=draw(st.sampled_from([None, cost.macs / 1e9 * tight])),
        max_params=draw(st.sampled_from([None, cost.params * tight])),
        max_mib=draw(st.sampled_from([None, cost.mib * tight])),
    )


@given(points(DEFAULT), budgets())
@settings(max_examples=60, deadline=None)
def test_every_projection_keeps_the_budget_and_is_its_own_projection(params, budget):
    feasible = FeasibleSpace(DEFAULT, budget, PRICE)
    found = feasible.project(params)
    assert budget.broken(PRICE(DEFAULT.config(found))) == []
    assert feasible.project(found) == found
    if feasible.fits(DEFAULT.config(params)):
        assert DEFAULT.config(found) == DEFAULT.config(params)


@given(points(DEFAULT), budgets())
@settings(max_examples=30, deadline=None)
def test_a_projection_gives_up_no_more_than_it_must(params, budget):
    """No single changed dimension can go all the way back, unless a rule between dimensions forbids or moves others."""
    feasible = FeasibleSpace(DEFAULT, budget, PRICE)
    wanted, found = DEFAULT.settled(params), feasible.project(params)
    for name in [name for name in wanted if wanted[name] != found[name]]:
        back = DEFAULT.settled({**found, name: wanted[name]})
        ruled = back == found or any(back[other] not in (found[other], wanted[other]) for other in wanted)
        assert ruled or not feasible.fits(DEFAULT.config(back)), name


def test_what_goes_back_late_makes_room_for_what_could_not():
    values = {
        "widths.1": 16, "widths.2": 32, "widths.3": 128, "widths.4": 64, "depths.1": 1, "depths.2": 1, "depths.3": 2,
        "depths.4": 3, "conv_stages": 3, "mixer_kernel": 3, "mixer_expansion": 1, "mlp_expansion": 5,
        "decoder_width": 48, "fusion": 0,
    }  # fmt: skip
    feasible = FeasibleSpace(DEFAULT, Budget(max_mib=3.592046356201172), PRICE)
    wanted, found = DEFAULT.settled(values), feasible.project(values)
    backs = [DEFAULT.settled({**found, name: wanted[name]}) for name in wanted if wanted[name] != found[name]]
    assert backs and not any(feasible.fits(DEFAULT.config(back)) for back in backs)


def test_projections_spend_the_budget():
    """Shrinking stops near the limit: the median projection of what is too large uses most of it."""
    budget = Budget(max_gmacs=0.02, max_params=1e6)
    feasible = FeasibleSpace(DEFAULT, budget, PRICE)
    draw, used = random.Random(0), []
    for _ in range(60):
        params = {d.name: d.encode(draw.choice(d.values)) for d in DEFAULT.dimensions}
        if not feasible.fits(DEFAULT.config(params)):
            used.append(max(budget.excess(PRICE(DEFAULT.config(feasible.project(params)))).values()))
    assert sorted(used)[len(used) // 2] > 0.9


def test_an_impossible_budget_is_one_sentence_with_the_smallest_cost():
    with pytest.raises(BenchError) as raised:
        _ = FeasibleSpace(DEFAULT, Budget(max_gmacs=1e-4, max_params=1e6), PRICE).anchor
    text = str(raised.value)
    assert "--max-gmacs 0.0001" in text and "--max-params" not in text
    assert "the smallest costs 0.002557 GMACs, 90,501 parameters, 0.3519 MiB" in text and "\n" not in text


def test_the_anchor_is_found_where_the_lowest_point_is_not_the_cheapest():
    """At the lowest split point attention runs on the finest map: convolution is far cheaper there."""
    space, price = space_of(S1, ("conv_stages",)), Pricer((256, 256), 7)
    feasible = FeasibleSpace(space, Budget(max_gmacs=0.6), price)
    assert not feasible.fits(space.config({"conv_stages": 0}))
    assert feasible.fits(space.config(feasible.anchor))


def test_latency_is_only_asked_of_what_keeps_the_other_limits():
    asked = []

    def latency(config):
        asked.append(config)
        return float(sum(config.depths))

    budget = Budget(max_gmacs=0.02, max_latency_ms=6)
    feasible = FeasibleSpace(DEFAULT, budget, PRICE, latency)
    large = {d.name: d.encode(d.values[-1]) for d in DEFAULT.dimensions}
    config = DEFAULT.config(feasible.project(large))
    assert sum(config.depths) <= 6
    assert asked and all(PRICE(config).macs <= 0.02e9 for config in asked)


def test_too_slow_everywhere_is_one_sentence():
    with pytest.raises(BenchError, match=r"fits --max-latency-ms 3: the smallest costs .*, 4 ms; raise"):
        _ = FeasibleSpace(DEFAULT, Budget(max_latency_ms=3), PRICE, lambda config: float(sum(config.depths))).anchor


def test_neighbours_are_feasible_and_near():
    import numpy as np

    feasible = FeasibleSpace(DEFAULT, Budget(max_gmacs=0.03), PRICE)
    rng, at = np.random.default_rng(0), feasible.anchor
    for _ in range(50):
        at = feasible.neighbour(at, rng)
        assert feasible.fits(DEFAULT.config(at))


def test_mib_is_the_file():
    assert PRICE(S1).mib * 2**20 == len(save(archs.create("lale-s1").state_dict()))


def test_a_one_dimensional_space_of_names_projects_to_what_fits():
    space = Space(S1, (Dimension("fusion", ("concat", "sum")),))
    limit = (PRICE(S1).macs - 1) / 1e9
    feasible = FeasibleSpace(space, Budget(max_gmacs=limit), PRICE)
    assert feasible.project({"fusion": 0}) == {"fusion": 1}


def test_what_cannot_be_built_keeps_no_budget_and_ends_no_search():
    def price(config):
        if config.depths[0] == 1:
            raise ArchError("no such network")
        return PRICE(config)

    feasible = FeasibleSpace(WHOLE, Budget(max_gmacs=0.6), price)
    params = feasible.project(WHOLE.params(WHOLE.config(feasible.anchor)))
    assert feasible.fits(WHOLE.config(params)) and WHOLE.config(params).depths[0] > 1
    with pytest.raises(ArchError, match="no such network"):  # where nothing can be built, the reason is told
        _ = FeasibleSpace(WHOLE, Budget(), lambda config: price(replace(config, depths=(1, 1, 1, 1)))).anchor


def test_networks_that_read_a_value_as_they_are_built_are_priced():
    config = archs.config("smp/unet-mit_b0")
    assert Pricer((64, 64), 5)(config).params == sum(p.numel() for p in archs.build(config, 5, 3).parameters())
